"""`tallyboard serve`: run the service in this process until it is told to stop."""

import errno
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from pydantic import ValidationError

from tallyboard_server.cli.output import fail, version
from tallyboard_server.cli.tls import tls_context
from tallyboard_server.objecturl import without_credentials
from tallyboard_server.settings import Settings

if TYPE_CHECKING:
    from tallyboard_server.access import Access

_BACKLOG: Final = 2048


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.", show_default="6007")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the store lives.", show_default="tallyboard-data")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option(help="postgresql://…: a store for many services.", show_default="in the data directory"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that serve the port together; takes --database-url.", show_default="1"),
    ] = None,
    logdir: Annotated[
        str | None,
        typer.Option(
            help="Where event files go, or s3://bucket/prefix.",
            show_default="logdir in the data directory",
        ),
    ] = None,
    insecure: Annotated[
        bool | None,
        typer.Option("--insecure", help="Be open to anybody until a token is made.", show_default=False),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate (chain) in PEM: serve HTTPS.", show_default="plain HTTP")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key in PEM.", show_default=False)] = None,
    root_path: Annotated[
        str | None, typer.Option(help="Path below which a proxy shows the service: /tallyboard.", show_default="/")
    ] = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option("--tensorboard/--no-tensorboard", help="Show TensorBoard itself.", show_default="yes"),
    ] = None,
) -> None:
    """Run the service. Each option may also be given as TALLYBOARD_HOST and so on; TALLYBOARD_TOKEN is an admin token.

    Off loopback, a first start makes an admin token and shows it once, with a link to log in.
    """
    options = {"host": host, "port": port, "data_dir": data_dir, "database_url": database_url,
               "workers": workers, "logdir": logdir, "insecure": insecure,
               "tls_cert": tls_cert, "tls_key": tls_key, "root_path": root_path,
               "tensorboard": tensorboard}  # fmt: skip
    settings = read_settings({name: value for name, value in options.items() if value is not None})
    _check_logdir(settings)
    tls = tls_context(settings)
    listener = listen(settings)
    with listener:
        port = listener.getsockname()[1]

        def told(access: "Access") -> str:
            return announcement(settings, port, access)

        # Imported here: the other commands need no web framework.
        if settings.workers == 1:
            from tallyboard_server.cli.server import run

            run(settings, listener, told, tls)
        else:
            from tallyboard_server.cli.workers import supervise

            supervise(settings, listener, told, tls)


def _check_logdir(settings: Settings) -> None:
    """End the command if event files can't go where they are to go because of something that is not installed."""
    if isinstance(settings.event_file_dir, Path):
        return
    from tallyboard_server.eventfiles import Destination  # here: the other commands need none of it

    try:
        Destination(settings.event_file_dir)
    except ValueError as error:
        fail(str(error))


def environment_help() -> str:
    """Every setting as its environment variable, for --help."""
    lines = [f"TALLYBOARD_{name.upper()}: {field.description}" for name, field in Settings.model_fields.items()]
    return "\n\n".join(("Environment (options win over it):", *lines))


def read_settings(options: Mapping[str, Any]) -> Settings:
    """Settings of the options that were given, and of the environment; ends the command if they can't be."""
    try:
        settings = Settings(**options)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        if not where or where in Settings.secrets():
            fail(f"{where}: {fault['msg']}".removeprefix(": "))
        fail(f"{where}: {fault['msg']} (got {without_credentials(fault['input'])!r})")
    return settings


def listen(settings: Settings) -> socket.socket:
    """A bound socket on the host and port; ends the command if it can't be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        where = f"can't listen on {settings.host}:{settings.port}"
        if error.errno == errno.EADDRINUSE:
            fail(f"{where}: it is in use (by another tallyboard?); choose a --port, or --port 0 for any that is free")
        fail(f"{where}: {error.strerror}; choose another --host or --port")
    return listener


def announcement(settings: Settings, port: int, access: "Access") -> str:
    """Where to look, the one line that reports something, and how to get in."""
    host = {"0.0.0.0": "localhost", "::": "localhost"}.get(settings.host, settings.host)  # noqa: S104
    scheme = "http" if settings.tls_cert is None else "https"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{settings.root_path}"
    token = """ -H "Authorization: Bearer $TALLYBOARD_TOKEN\"""" if not access.is_open else ""
    logdir = settings.event_file_dir
    report = '{"step": 1, "scalars": {"loss": 0.5}}'
    mounted = (f"  TensorBoard  {url}/tensorboard/",) if settings.tensorboard else ()
    return "\n".join(
        (
            f"Tallyboard {version()} at {url}",
            *mounted,
            f"  API          {url}/docs",
            f"  data         {settings.store_name}",
            f"  event files  tensorboard --logdir {logdir}",
            f"  report       curl {url}/api/v1/scalars/mnist/try1{token} --json '{report}'",
            *_ways_in(access, url),
        )
    )


def _ways_in(access: "Access", url: str) -> tuple[str, ...]:
    """How to get in, if not everybody does."""
    if access.first is not None:
        return (
            f"  token        {access.first.text}",
            "               of an admin, shown this once: keep it, give it to the command line as TALLYBOARD_TOKEN,",
            "               and make others with it: tallyboard token create --scope write",
            f"  log in       {url}/login?code={access.first.code}",
            "               lets one browser in, once, within an hour",
        )
    if access.is_made_elsewhere:
        return (
            "  tokens       are needed; the first one, an admin's, was made by another replica, which has printed it",
        )
    if access.is_open:
        return ()
    return (
        "  tokens       are needed; an admin's TALLYBOARD_TOKEN lists and makes them: tallyboard token list, create",
    )

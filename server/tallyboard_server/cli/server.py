"""Uvicorn as `tallyboard serve` runs it: one process, bounded shutdown, an announcement once it takes requests."""

import asyncio
import logging
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Protocol

import uvicorn
import uvloop
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallyboard_server.access import Access
from tallyboard_server.app import create_app
from tallyboard_server.cli.garbage import Garbage
from tallyboard_server.cli.intake import take_in
from tallyboard_server.cli.output import Exit, fail, stdout
from tallyboard_server.cli.systemd import Systemd
from tallyboard_server.logs import configure
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import StoreError

SHUTDOWN_TIMEOUT_S: Final = 15
"""Time that requests under way get to end; what was acknowledged is on disk anyway."""
FILES_MAX: Final = 65_536
FILES_KEPT: Final = 512
"""Of the open files that the system allows, so many are the store's and the event files', and no connection's."""
THREAD_SWITCH_S: Final = 0.001
"""How long a busy thread may keep another waiting. The writer comes back from every fsync and has to get in: at
Python's 5 ms it would sit out half of its time."""
HANDSHAKE_TIMEOUT_S: Final = 10.0
"""Until TLS is agreed on nobody counts a connection: whoever says nothing may hold its open file no longer."""

log = logging.getLogger(__name__)


class Loop(uvloop.Loop):
    """uvloop's, whose servers wait for a TLS handshake as long as for headers. Its own, a minute, uvicorn leaves."""

    async def create_server(  # type: ignore[override]
        self, *args: Any, ssl: ssl.SSLContext | None = None, **more: Any
    ) -> Any:
        """As uvloop's."""
        if ssl is not None:
            more.setdefault("ssl_handshake_timeout", HANDSHAKE_TIMEOUT_S)
        return await super().create_server(*args, ssl=ssl, **more)


class Overseer(Protocol):
    """Who is told how a server does."""

    def up(self, announcement: str) -> None:
        """It takes requests; announcement: where to look, for people."""
        ...

    def stopping(self) -> None:
        """It takes no more."""
        ...

    async def watch(self, stop: Callable[[], None]) -> None:
        """Runs while it serves: proof that its event loop turns. stop: have it end in order."""
        ...

    def heeds(self, sig: int) -> bool:
        """Whether a signal is meant for the server itself."""
        ...


class Alone:
    """The Overseer of a server in a process of its own: people at the terminal, and the service manager."""

    def __init__(self) -> None:
        self._systemd = Systemd()

    def up(self, announcement: str) -> None:
        """See Overseer.up."""
        stdout.print(announcement, markup=False)
        self._systemd.tell("READY=1")

    def stopping(self) -> None:
        """See Overseer.stopping."""
        self._systemd.tell("STOPPING=1")

    async def watch(self, stop: Callable[[], None]) -> None:
        """See Overseer.watch."""
        del stop
        await self._systemd.watch()

    def heeds(self, sig: int) -> bool:
        """See Overseer.heeds."""
        del sig
        return True


class AnnouncedServer(uvicorn.Server):
    """A server that says where to look once it takes requests."""

    def __init__(
        self,
        config: uvicorn.Config,
        announcement: Callable[[], str],
        then: Callable[[], None],
        at_end: Callable[[], None],
        draining: Callable[[], None],
        overseer: Overseer | None = None,
    ) -> None:
        """then: what to do once it takes requests; at_end: before it waits for those under way to end.

        draining: what to do at once when it is told to stop; called by a signal's handler.
        """
        super().__init__(config)
        self._announcement = announcement
        self._then = then
        self._at_end = at_end
        self._draining = draining
        self._overseer = overseer or Alone()
        self._watching: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the announcement."""
        await super().startup(sockets)
        if self.started:
            self._then()
            self._overseer.up(self._announcement())
            self._watching = asyncio.create_task(self._overseer.watch(self._end))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """As uvicorn's; from here on it is not ready. SIGTERM is how it is meant to end, so that ends with 0."""
        if not self._overseer.heeds(sig):
            return
        self._draining()
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with nothing under way that would never end."""
        self._overseer.stopping()
        self._draining()
        self._at_end()
        await super().shutdown(sockets)

    def _end(self) -> None:
        self._draining()
        self.should_exit = True


class StartUp:
    """The app, with the reason kept if its data dir can't be had: that is one line, not uvicorn's traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.failure: StoreError | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def without_traceback(message: Message) -> None:
            failed = message["type"] == "lifespan.startup.failed"
            await send({**message, "message": ""} if failed else message)

        try:
            await self._app(scope, receive, without_traceback)
        except StoreError as error:
            self.failure = error


def raise_file_limit() -> int:
    """Allow more open files than the usual 1,024: each client that stays connected takes one. Returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return FILES_MAX if soft == resource.RLIM_INFINITY else soft


def within_files(settings: Settings, files: int) -> Settings:
    """The settings with no more connections than leave enough of so many open files for everything else."""
    most = max(files - FILES_KEPT, files // 2)
    if settings.connections_max <= most:
        return settings
    log.warning(
        "the system allows %d open files, so at most %d connections (not %d); raise its limit (ulimit -n)",
        files, most, settings.connections_max,
    )  # fmt: skip
    return settings.model_copy(update={"connections_max": most})


def run(
    settings: Settings,
    listener: socket.socket,
    announcement: Callable[[Access], str],
    tls: ssl.SSLContext | None = None,
    *,
    overseer: Overseer | None = None,
    own_token: str | None = None,
    takes_in_spools: bool = True,
) -> None:
    """Serve on a bound socket until a signal to stop; ends the command if the service could not start.

    announcement: where to look, told once it takes requests. own_token: that of all who serve on this socket, if there
    are others. takes_in_spools: whether it is this one that does, if the settings want it.
    """
    configure(settings.log_format, settings.log_level)
    made = create_app(within_files(settings, raise_file_limit()), own_token=own_token)
    app = StartUp(made)
    config = uvicorn.Config(
        app,
        loop="tallyboard_server.cli.server:Loop",
        http=made.connections.protocol(),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )

    if tls is not None:
        config.load()
        config.ssl = tls

    garbage = Garbage()

    def once_up() -> None:
        garbage.start()
        if settings.take_in_spools and takes_in_spools:
            take_in(settings, listener.getsockname()[1], made.access.own_token)

    server = AnnouncedServer(config, lambda: announcement(made.access), once_up, made.end_streams, made.drain, overseer)
    sys.setswitchinterval(THREAD_SWITCH_S)
    try:
        server.run(sockets=[listener])
    except SystemExit:  # how uvicorn ends if the app could not start; older ones just return
        if app.failure is None:
            raise
    finally:
        garbage.stop()
    if app.failure is not None:
        fail(str(app.failure))
    if not server.started:
        raise SystemExit(Exit.FAILED)

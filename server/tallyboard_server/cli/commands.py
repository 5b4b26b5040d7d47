"""The commands joined into one application, and the errors that end any of them."""

from typing import Annotated, Final

import typer

from tallyboard_server.cli import looking
from tallyboard_server.cli.auditing import audit
from tallyboard_server.cli.copies import backup, restore
from tallyboard_server.cli.demo import demo
from tallyboard_server.cli.demo.preempt import demo_preempt
from tallyboard_server.cli.demo.thousand import demo_thousand
from tallyboard_server.cli.doctor import doctor
from tallyboard_server.cli.exporting import export
from tallyboard_server.cli.http import ApiProblemError, UnreachableError
from tallyboard_server.cli.listing import runs
from tallyboard_server.cli.logdirs import import_logdir, watch
from tallyboard_server.cli.moving import migrate
from tallyboard_server.cli.output import Exit, fail, stdout, version
from tallyboard_server.cli.pruning import prune
from tallyboard_server.cli.rewinding import rewind
from tallyboard_server.cli.serve import environment_help, serve
from tallyboard_server.cli.syncing import sync
from tallyboard_server.cli.tokens import tokens
from tallyboard_server.cli.verifying import repair, verify
from tallyboard_server.cli.watchdogs import watchdogs

EXIT_CODES: Final = {401: Exit.UNAUTHORIZED, 403: Exit.UNAUTHORIZED, 404: Exit.NOT_FOUND, 410: Exit.NOT_FOUND}
"""What an HTTP status of the service is as an exit code; any other is Exit.FAILED."""

app = typer.Typer(
    name="tallyboard",
    help="Metrics logging for machine-learning training.",
    epilog=(
        "All but serve, restore, migrate and demos ask the service at TALLYBOARD_URL, http://127.0.0.1:6007 unless "
        "set, with TALLYBOARD_TOKEN. Exit codes: 1 failed, 2 wrong usage, 3 no service answers, 4 no such run, 5 "
        "token refused."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        stdout.print(f"tallyboard {version()}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before any command."""


app.command(epilog=environment_help())(serve)
for command in (
    runs, looking.counters, looking.tail, looking.alerts, rewind, export, sync, verify, repair, backup, restore,
    migrate, prune, audit, doctor, demo, demo_preempt, demo_thousand,
):  # fmt: skip
    app.command()(command)
app.command(name="import")(import_logdir)
app.add_typer(tokens, name="token")
app.command()(watch)
app.add_typer(watchdogs)


def run() -> None:
    """Carry out the command line; whatever the service answers amiss ends in one line and an exit code."""
    try:
        app()
    except UnreachableError as error:
        fail(str(error), Exit.UNREACHABLE)
    except ApiProblemError as error:
        fail(str(error), EXIT_CODES.get(error.problem.status, Exit.FAILED))

"""`tallyboard migrate`: everything from a data directory into PostgreSQL, or back."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tallyboard_server.cli.output import count, fail, printable, stderr, stdout
from tallyboard_server.cli.sources import FROM_ENVIRONMENT, database_of
from tallyboard_server.settings import is_postgresql, without_password
from tallyboard_server.store.protocol import StoreError

if TYPE_CHECKING:
    from tallyboard_server.move import End, Ends, Outcome

SQLITE: Final = "sqlite:"
_UNSOUND_SHOWN: Final = 20


def migrate(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="STORE",
            help="sqlite:DATA_DIR, or postgresql://… (- is TALLYBOARD_DATABASE_URL); it is only read.",
        ),
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="STORE", help="The other kind; empty, or an unfinished move of this source.")
    ],
    keep_event_files: Annotated[
        bool,
        typer.Option(
            "--keep-event-files",
            help="The logdir stays the same directory: go on in the files there. Without, all are written anew.",
        ),
    ] = False,
) -> None:
    """Move everything to another store while no service runs: runs with all their points, producers, alerts, tokens, …

    Killed or cut off, the same command goes on. In the end every row is compared, and what each attempt holds is added
    up against what was acknowledged. Exit code 1 if anything differs. No service opens the target before that.
    """
    source, target = (database_of(store) if store == FROM_ENVIRONMENT else store for store in (source, target))
    if (is_postgresql(source), is_postgresql(target)) == (True, True):
        fail("from PostgreSQL to PostgreSQL pg_dump and pg_restore do it: see docs/postgresql.md")
    if source.startswith(SQLITE) and target.startswith(SQLITE):
        fail("from one data directory to another `tallyboard backup` and `restore` do it")
    for option, store in (("--from", source), ("--to", target)):
        if not (is_postgresql(store) or (store.startswith(SQLITE) and store != SQLITE)):
            fail(f"{option}: write sqlite:DATA_DIR or postgresql://user@host:5432/name")
    outcome = _moved(source, target, keep=keep_event_files)
    tell(outcome)
    if outcome.difference_count or outcome.unsound:
        raise typer.Exit(1)


def _moved(source: str, target: str, *, keep: bool) -> "Outcome":
    """Carry a move out; ends the command if it can't be, or is cut off."""
    try:
        from tallyboard_server.move import Move, MoveUnequalError
    except ImportError as error:
        fail(f"a store on PostgreSQL needs the extra `postgres` ({error}); install tallyboard with [server,postgres]")
    try:
        with _ends(source, target) as ends, stderr.status("…") as status:
            move = Move(ends, keep_event_files=keep)
            try:
                for doing in move.steps():
                    status.update(printable(doing))
            except MoveUnequalError as error:
                stderr.print(f"tallyboard: {error}", markup=False)
            return move.outcome
    except StoreError as error:
        fail(str(error))


@contextmanager
def _ends(source: str, target: str) -> "Iterator[Ends]":
    """Both ends, the source first: a source that can't be had leaves no target behind."""
    from tallyboard_server.move import Ends

    with ExitStack() as stack:
        opened = []
        for store, is_target in ((source, False), (target, True)):
            opened.append(_end(store, target=is_target))
            stack.callback(opened[-1].close)
        yield Ends(*opened)


def _end(store: str, *, target: bool) -> "End":
    from tallyboard_server.move import PostgresEnd, SqliteEnd

    if store.startswith(SQLITE):
        return SqliteEnd(Path(store.removeprefix(SQLITE)), target=target)
    return PostgresEnd(store, without_password(store), target=target)


def tell(outcome: "Outcome") -> None:
    """Say what was moved, and what of it differs."""
    mib = f"{outcome.copied_bytes / 2**20:,.1f} MiB"
    went_on = ", going on with a move that was cut off" if outcome.went_on else ""
    stdout.print(f"copied {count(outcome.copied_rows, 'row')}, {mib}{went_on}", markup=False)
    if outcome.replaced:
        stdout.print(
            f"{count(outcome.replaced, 'row')} had texts with the character U+0000, which PostgreSQL can't hold: "
            "U+FFFD stands for it there"
        )
    if outcome.difference_count:
        for difference in outcome.differences:
            stdout.print(f"  ✗ {printable(difference)}", markup=False)
        if (more := outcome.difference_count - len(outcome.differences)) > 0:
            stdout.print(f"  … and {count(more, 'difference')} more")
        fail(f"{count(outcome.difference_count, 'difference')}; begin anew with an empty target")
    stdout.print(f"✓ {count(outcome.rows, 'row')} compared, of all tables: none differs")
    told = f"{count(outcome.scalars, 'scalar')} of {count(outcome.attempts, 'attempt')} of {count(outcome.runs, 'run')}"
    if not outcome.unsound:
        stdout.print(f"✓ {told} added up: what was acknowledged is there")
        return
    stdout.print(f"✗ {told} added up: not all that was acknowledged is there, and was not in the source, either")
    for what in outcome.unsound[:_UNSOUND_SHOWN]:
        stdout.print(f"  ✗ {printable(what)}", markup=False)
    if (more := len(outcome.unsound) - _UNSOUND_SHOWN) > 0:
        stdout.print(f"  … and {count(more, 'difference')} more")

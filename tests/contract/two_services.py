"""Two services on one store: commands carried out as their writers do, and one of the two halted at any statement."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg
import pytest
from psycopg.pq.abc import PGresult

from tallyboard_server.contract import ContractError
from tallyboard_server.ingest.carry_out import carry_out
from tallyboard_server.ingest.commands import Command, Done
from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.model import RunState
from tallyboard_server.series import read_points
from tallyboard_server.store.postgres.connection import PostgresConnection
from tallyboard_server.store.postgres.exchange import Statement, exchange
from tallyboard_server.store.protocol import RunHeldError, Snapshot, Store

NOW: Final = 1.7e9
HELD_S_MAX: Final = 10.0
"""Whoever meets a run that is held for longer has met a deadlock."""
SECOND_S: Final = 0.03
"""As long as a transaction may take that nothing holds up."""
Outcome = tuple[str, ...]


def carried(store: Store, command: Command) -> Outcome:
    """What came of a command, as text: its receipt, or why it was refused; tried again while another has the run."""
    until = time.monotonic() + HELD_S_MAX
    while True:
        try:
            with store.transaction({command.name}) as transaction:
                try:
                    return told(carry_out(command, transaction, NOW))
                except (ContractError, IngestError) as error:
                    return (type(error).__name__, str(error))
        except RunHeldError:
            assert time.monotonic() < until, f"{command.name} was held for {HELD_S_MAX} s"
            time.sleep(0.001)


def told(done: Done) -> Outcome:
    """A receipt without what differs by chance."""
    return (repr(done.receipt), f"created {done.created}", f"deleted {done.deleted}")


def shown(store: Store, prefix: str) -> dict[str, Any]:
    """All that is to be seen of runs whose names begin with a prefix."""
    with store.snapshot() as view:
        found: dict[str, Any] = {}
        for name in view.run_names(prefix=prefix):
            state = view.load(name)
            assert state is not None
            journal = view.journal(state.id, after_pos=0, bytes_max=2**30)
            assert [block.pos for block in journal] == list(range(1, state.pos + 1))  # gapless: nothing was merged
            found[name] = {
                "state": (
                    state.pos,
                    state.epoch,
                    dict(state.meta.config),
                    state.meta.notes,
                    view.refused_count(state.id),
                ),
                "counters": {
                    name: [(attempt.writer, attempt.start, attempt.last_step) for attempt in counter.attempts]
                    for name, counter in sorted(state.counters.items())
                },
                "producers": {name: producer.seq for name, producer in sorted(state.producers.items())},
                "points": {tag: points_of(view, state, tag) for tag in sorted(state.tags)},
            }
        return found


def points_of(view: Snapshot, state: RunState, tag: str) -> list[tuple[int, float]]:
    """(step, value) of a tag's visible points."""
    found = read_points(view, state, tag)
    return [] if found is None else list(zip(found.steps.tolist(), found.values.tolist(), strict=True))


@dataclass
class Halted:
    """Halts the thread that calls `here` first, before its statement number `number`, until `release` is set."""

    number: int
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    _thread: int | None = None
    _count: int = 0

    def here(self) -> None:
        """A statement is about to be sent."""
        if self._thread is None or threading.get_ident() != self._thread:
            return
        self._count += 1
        if self._count == self.number:
            self.reached.set()
            assert self.release.wait(HELD_S_MAX)

    @contextmanager
    def thread(self) -> Iterator[None]:
        """It is this one."""
        self._thread = threading.get_ident()
        try:
            yield
        finally:
            self._thread = None
            self.reached.set()  # it has come to its end, at the latest


@contextmanager
def halting(number: int) -> Iterator[Halted]:
    """Have stores on PostgreSQL tell a Halted of each statement that they send, BEGIN and COMMIT among them.

    What they send together is sent one by one instead, which comes to the same, so that others come between there, too.
    """
    halted = Halted(number)

    def one_by_one(connection: "psycopg.Connection[Any]", statements: Sequence[Statement]) -> list[PGresult]:
        return [_told_of(halted, exchange, connection, (statement,))[0] for statement in statements]

    with pytest.MonkeyPatch.context() as patch:
        for name in ("execute", "executemany"):
            patch.setattr(PostgresConnection, name, _telling(getattr(PostgresConnection, name), halted))
        for module in ("connection", "store"):
            patch.setattr(f"tallyboard_server.store.postgres.{module}.exchange", one_by_one)
        yield halted


def _told_of(halted: Halted, send: Callable[..., Any], *arguments: Any) -> Any:
    halted.here()
    return send(*arguments)


def _telling(method: Callable[..., Any], halted: Halted) -> Callable[..., Any]:
    def told_first(*arguments: Any) -> Any:
        return _told_of(halted, method, *arguments)

    return told_first


def interleaved(
    number: int, first: Callable[[], Outcome], second: Callable[[], Outcome]
) -> tuple[tuple[Outcome, Outcome], bool]:
    """What came of two operations, `second` having been begun when `first` was before its statement `number`.

    Also whether `first` had so many statements. `second` runs to its end then if it can, else after `first`.
    """
    outcomes: dict[str, Outcome] = {}
    with halting(number) as halted:

        def run_first() -> None:
            with halted.thread():
                outcomes["first"] = first()

        def run_second() -> None:
            outcomes["second"] = second()

        threads = [threading.Thread(target=run_first), threading.Thread(target=run_second)]
        threads[0].start()
        assert halted.reached.wait(HELD_S_MAX)
        was_halted = "first" not in outcomes
        threads[1].start()
        threads[1].join(SECOND_S)
        halted.release.set()
        for thread in threads:
            thread.join(2 * HELD_S_MAX)
            assert not thread.is_alive()
    return (outcomes["first"], outcomes["second"]), was_halted

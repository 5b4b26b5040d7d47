"""What several services keep in one PostgreSQL besides runs: bounds that hold for all, and no deadlocks on the way."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tallyboard.wire import Alert, Open
from tallyboard.wire.batch import Batch
from tallyboard_server.ingest import Bounds, Ingest, writer
from tallyboard_server.ingest.carry_out import carry_out
from tallyboard_server.ingest.commands import Append, Done
from tallyboard_server.ingest.errors import ProjectFullError
from tallyboard_server.ingest.waiting import Waiting
from tallyboard_server.model import KeptAlert
from tallyboard_server.principal import Session, Token
from tallyboard_server.store.postgres import transaction as postgres
from tallyboard_server.store.postgres.transaction import PostgresTransaction
from tallyboard_server.store.protocol import RunHeldError, Store, Transaction
from tests.stores import Stores, on

pytestmark = on("postgres")


@pytest.fixture
def opened(stores: Stores, tmp_path: Path) -> Iterator[list[Store]]:
    """The same store three times."""
    found = [stores.open(tmp_path / "shared") for _ in range(3)]
    yield found
    for store in found:
        store.close()
    stores.remove(tmp_path / "shared")


def together(calls: list[Callable[[], None]]) -> None:
    """Run all at once, each on a thread of its own; raises what one of them raised."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], None]) -> None:
        barrier.wait(10)
        call()

    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(run, calls))


@pytest.mark.parametrize("near", [0, postgres.NEAR_LIMIT])
def test_a_project_holds_as_many_runs_as_it_may_whoever_makes_them(
    opened: list[Store], monkeypatch: pytest.MonkeyPatch, near: int
) -> None:
    monkeypatch.setattr(postgres, "NEAR_LIMIT", near)
    most, full = 12, []

    def make(number: int) -> None:
        for turn in range(6):
            name = f"p/{number}-{turn}"
            command = Append(name, Batch(open=Open(uid=name)))
            while True:
                try:
                    with opened[number].transaction([name]) as transaction:
                        carry_out(command, transaction, 1.0, Bounds(runs_per_project=most))
                        time.sleep(0.01)  # others look meanwhile
                except RunHeldError:
                    time.sleep(0.002)
                except ProjectFullError:
                    full.append(name)
                    break
                else:
                    break

    together([lambda number=number: make(number) for number in range(3)])  # type: ignore[misc]
    with opened[0].snapshot() as view:
        made = len(view.run_names(prefix="p/"))
    assert made + len(full) == 18
    assert made == most if near else made >= most  # without it they count past each other


def test_access_is_changed_without_deadlocks(opened: list[Store]) -> None:
    tokens = [Token(f"t{number}", "n", "read", None, b"h" * 32, 1.0, "a") for number in range(6)]
    sessions = [Session(bytes([number]) * 32, f"t{number % 6}", 9.0) for number in range(60)]
    with opened[0].transaction() as transaction:
        for token in tokens:
            transaction.save_token(token)
        for session in sessions:
            transaction.save_session(session)

    def revoke(transaction: Transaction, turn: int) -> None:
        for token in transaction.lock_tokens()[turn % 3 :: 2]:
            transaction.save_token(token)
            transaction.drop_sessions_of(token.id)

    def save(transaction: Transaction, turn: int) -> None:
        transaction.touch_tokens({token.id: float(turn) for token in reversed(tokens)})
        transaction.drop_sessions([session.hash for session in reversed(sessions)][turn::3])
        for session in sessions[turn::4]:
            transaction.save_session(session)

    def end(transaction: Transaction, turn: int) -> None:
        transaction.drop_sessions([session.hash for session in sessions][turn::2])
        transaction.touch_tokens({"t0": 1.0, "t5": 1.0})
        transaction.drop_token("t3" if turn % 2 else "t2")

    def work(number: int) -> None:
        for turn in range(12):
            with opened[number].transaction() as transaction:
                (revoke, save, end)[number](transaction, turn)

    together([lambda number=number: work(number) for number in range(3)])  # type: ignore[misc]
    with opened[0].snapshot() as view:
        assert {token.id for token in view.tokens()} == {"t0", "t1", "t4", "t5"}


def test_notices_are_taken_and_added_to_without_deadlocks(opened: list[Store]) -> None:
    runs = [f"p/run-{number}" for number in range(5)]
    taken: list[int] = []

    def add(number: int) -> None:
        for turn in range(15):
            with opened[number].transaction() as transaction:
                for run in runs if number else reversed(runs):  # each run's lock is one transaction's in truth
                    alert = KeptAlert(1.0, "p", Alert(title=f"{number}", text=str(turn), level="info"))
                    transaction.queue_notices(run, [alert])

    def take() -> None:
        for _ in range(40):
            with opened[2].snapshot() as view:
                ids = [notice.id for notice in view.notices(limit=99)]
            with opened[2].transaction() as transaction:
                taken.extend(notice.times for notice in transaction.take_notices(ids))

    together([lambda: add(0), lambda: add(1), take])
    with opened[0].snapshot() as view:
        left = sum(notice.times for notice in view.notices(limit=99))
    assert sum(taken) + left == 2 * 15 * len(runs), "each was taken once, or waits"


def test_many_runs_that_are_opened_at_once_take_few_locks_at_once(
    opened: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks are kept in memory that all sessions of the server share: where it is full, nobody can do anything."""
    monkeypatch.setattr(writer, "GROUP_SHARED_MAX", 40)
    locks: list[int] = []
    flush = PostgresTransaction.flush

    def counted(transaction: PostgresTransaction) -> None:
        flush(transaction)
        found = transaction._connection.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        )
        locks.append(found.get)

    monkeypatch.setattr(PostgresTransaction, "flush", counted)
    ingest = Ingest(opened[0])
    answers: list[object] = []
    for number in range(100):
        batch = Batch(open=Open(uid=f"uid-{number}"))
        ingest._queue.put(Waiting(Append(f"p/{number}", batch, explicit=True), answers.append))
    ingest.start()
    ingest.close()
    assert [type(answer) for answer in answers] == [Done] * 100
    assert max(locks) == 80

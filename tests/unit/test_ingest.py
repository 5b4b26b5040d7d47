"""Groups, isolation, names, bounds: the writer on a real store, with faults put in between."""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns, Open, Rewind
from tallyboard_server.contract import LimitError, RefusedError, SeqReusedError
from tallyboard_server.ingest import (
    Append,
    ByteBudget,
    Command,
    Delete,
    Done,
    Ingest,
    Merger,
    OverloadedError,
    Patch,
    RunDeletedError,
    RunNotFoundError,
)
from tallyboard_server.ingest.heartbeats import Heartbeats
from tallyboard_server.ingest.waiting import Waiting, WaitingQueue
from tallyboard_server.series import read_points
from tallyboard_server.store.protocol import Store, StoreBusyError, StoreError, StoreFullError, Transaction
from tallyboard_server.store.sql.transaction import SqlTransaction
from tallyboard_server.store.sqlite import SqliteStore


class FaultyStore:
    """A real store with faults to order: `on_begin` and `on_end` run inside each transaction, `after` behind it."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self.on_end: Callable[[Transaction], None] = lambda _: None
        self.after: Callable[[], None] = lambda: None
        self.commits = 0

    @contextmanager
    def transaction(self, runs: Collection[str] = ()) -> Iterator[Transaction]:
        with self._store.transaction(runs) as transaction:
            yield transaction
            self.on_end(transaction)
        self.commits += 1
        self.after()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaultyStore]:
    inner = SqliteStore.open(tmp_path)
    yield FaultyStore(inner)
    inner.close()


@pytest.fixture
def ingest(store: Store) -> Iterator[Ingest]:
    made = Ingest(store)
    made.start()
    yield made
    made.close()


def report(
    steps: Sequence[int], value: float = 0.5, *, producer: str | None = None, seq: int | None = None, **parts: Any
) -> Batch:
    n = len(steps)
    columns = Columns("global_step", ("loss",), np.array(steps), np.full(n, 1e9), np.full((n, 1), value))
    return Batch(producer=producer, seq=seq, columns=(columns,), checksum=hash((*steps, value)), nbytes=100, **parts)


def opened(name: str, uid: str | None = None, resume: Any = "new", **options: Any) -> Append:
    return Append(name, Batch(open=Open(uid=uid, resume=resume)), **options)


def submit_all(ingest: Ingest, commands: Sequence[Command]) -> list[Any]:
    async def gather() -> list[Any]:
        return await asyncio.gather(*(ingest.submit(c) for c in commands), return_exceptions=True)

    return asyncio.run(gather())


def steps_of(store: Store, run: str) -> list[int]:
    with store.snapshot() as view:
        state = view.load(run)
        assert state is not None
        points = read_points(view, state, "loss")
    return [] if points is None else points.steps.tolist()


def test_commands_that_wait_together_are_committed_together(ingest: Ingest, store: FaultyStore) -> None:
    at_the_gate, gate = threading.Event(), threading.Event()

    def hold(_: Transaction) -> None:
        at_the_gate.set()
        assert gate.wait(10)

    store.on_end = hold
    results: list[Any] = []
    first = threading.Thread(target=lambda: ingest.submit_blocking(Append("p/first", report([1]))))
    first.start()
    assert at_the_gate.wait(10)
    commands = [Append(f"p/{i}", report([1])) for i in range(50)]
    submitting = threading.Thread(target=lambda: results.extend(submit_all(ingest, commands)))
    submitting.start()
    while ingest.stats()["ingest_queue_bytes"] < 50 * 1024:
        assert submitting.is_alive()
    gate.set()
    submitting.join(10)
    first.join(10)
    assert [r.receipt.accepted for r in results] == [1] * 50
    assert store.commits <= 4  # the first, the fifty, and housekeeping
    assert all(steps_of(store, f"p/{i}") == [1] for i in range(50))


def test_a_refused_batch_does_not_touch_its_neighbours(ingest: Ingest, store: FaultyStore) -> None:
    bad = Append("p/a", report([5, 4]))
    good = [Append("p/a", report([1])), Append("p/a", report([2])), Append("p/b", report([1]))]
    results = submit_all(ingest, [good[0], bad, *good[1:]])
    assert isinstance(results[1], RefusedError)
    assert [r.receipt.accepted for r in (results[0], results[2], results[3])] == [1, 1, 1]
    assert steps_of(store, "p/a") == [1, 2]


def test_an_unforeseen_error_fails_alone(ingest: Ingest, store: FaultyStore) -> None:
    def explode(transaction: Transaction) -> None:
        if transaction.taken("p/bad"):
            raise ZeroDivisionError

    store.on_end = explode
    names = ["p/a", "p/bad", "p/b", "p/c"]
    results = submit_all(ingest, [Append(name, report([1])) for name in names])
    assert [isinstance(r, Done) for r in results] == [True, False, True, True]
    assert isinstance(results[1], StoreError)
    assert "ZeroDivisionError" in str(results[1])
    with store.snapshot() as view:
        assert view.run_names() == ["p/a", "p/b", "p/c"]


def test_a_commit_in_doubt_is_answered_as_an_error_and_replays(ingest: Ingest, store: FaultyStore) -> None:
    """The commit went through, its answer did not: the client's retry must not store anything twice."""

    committed: list[int] = []

    def lose_the_answer() -> None:
        if committed == [2]:
            store.on_end, store.after = (lambda _: None), (lambda: None)
            raise StoreError("connection lost after COMMIT")

    def note(transaction: Transaction) -> None:
        state = transaction.load("p/a")
        committed[:] = [state.pos] if state is not None and state.pos == 2 else []

    ingest.submit_blocking(Append("p/a", report([1], producer="w", seq=1)))
    store.on_end, store.after = note, lose_the_answer
    second = Append("p/a", report([2], producer="w", seq=2))
    with pytest.raises(StoreError, match="after COMMIT"):
        ingest.submit_blocking(second)
    again = ingest.submit_blocking(second)
    assert again.receipt.replayed
    assert steps_of(store, "p/a") == [1, 2]


def test_a_full_store_loses_nothing_and_recovers(ingest: Ingest, store: FaultyStore) -> None:
    def full(_: Transaction) -> None:
        raise StoreFullError("no space")

    ingest.submit_blocking(Append("p/a", report([1])))
    store.on_end = full
    with pytest.raises(StoreFullError):
        ingest.submit_blocking(Append("p/a", report([2])))
    store.on_end = lambda _: None
    ingest.submit_blocking(Append("p/a", report([3])))
    assert steps_of(store, "p/a") == [1, 3]


def test_a_seq_is_applied_once(ingest: Ingest, store: FaultyStore) -> None:
    first = Append("p/a", report([1], producer="w", seq=1))
    results = submit_all(ingest, [first, first, first])
    assert sorted(r.receipt.replayed for r in results) == [False, True, True]
    (other,) = submit_all(ingest, [Append("p/a", report([7], producer="w", seq=1))])
    assert isinstance(other, SeqReusedError)
    assert steps_of(store, "p/a") == [1]


def test_a_taken_name_gets_the_next_number(ingest: Ingest) -> None:
    names = [ingest.submit_blocking(opened("p/try", uid)).state.name for uid in ("u1", "u2", "u3")]
    assert names == ["p/try", "p/try-2", "p/try-3"]
    again = ingest.submit_blocking(opened("p/try", "u2"))
    assert (again.state.name, again.created) == ("p/try-2", False)


def test_a_repeated_first_batch_without_uid_finds_its_run(ingest: Ingest) -> None:
    ingest.submit_blocking(opened("p/try"))
    first = Append("p/try", report([1], producer="w", seq=1, open=Open(resume="new", uid="u")))
    names = {ingest.submit_blocking(first).state.name for _ in range(2)}
    assert names == {"p/try-2"}


def test_continue_and_must(ingest: Ingest) -> None:
    with pytest.raises(RunNotFoundError, match="p/a"):
        ingest.submit_blocking(opened("p/a", resume="must"))
    created = ingest.submit_blocking(opened("p/a", resume="continue"))
    assert created.created
    assert ingest.submit_blocking(opened("p/a", resume="must")).state.id == created.state.id


def test_a_deleted_run_comes_back_only_when_asked_for(ingest: Ingest, store: FaultyStore) -> None:
    ingest.submit_blocking(Append("p/a", report([1])))
    ingest.submit_blocking(Delete("p/a"))
    with pytest.raises(RunDeletedError, match="PUT"):
        ingest.submit_blocking(Append("p/a", report([2])))
    with pytest.raises(RunDeletedError):
        ingest.submit_blocking(Patch("p/a", {"notes": "x"}))
    ingest.submit_blocking(opened("p/a", resume="continue", explicit=True))
    ingest.submit_blocking(Append("p/a", report([3])))
    assert steps_of(store, "p/a") == [3]


def test_amending_a_deleted_run_says_that_it_was_deleted(ingest: Ingest) -> None:
    """Not that a seq is missing, which nobody could do anything about."""
    begun = Append("p/a", report([1], producer="w", seq=1, open=Open(uid="u")))
    ingest.submit_blocking(begun)
    ingest.submit_blocking(Delete("p/a"))
    with pytest.raises(RunDeletedError):
        ingest.submit_blocking(Append("p/a", report([2], producer="w", seq=2, open=Open())))
    assert ingest.submit_blocking(begun).created


def test_a_patch_replaces_and_merges(ingest: Ingest) -> None:
    ingest.submit_blocking(Append("p/a", Batch(open=Open(config={"lr": 1, "net": {"depth": 2, "width": 3}}))))
    changes = {"notes": "n", "archived": True, "config": {"lr": None, "net": {"depth": 4}, "new": [1]}}
    meta = ingest.submit_blocking(Patch("p/a", changes)).state.meta
    assert (meta.notes, meta.archived) == ("n", True)
    assert meta.config == {"net": {"depth": 4, "width": 3}, "new": [1]}
    with pytest.raises(RunNotFoundError):
        ingest.submit_blocking(Patch("p/none", {}))


def test_a_patch_can_not_grow_a_document_without_end(ingest: Ingest) -> None:
    ingest.submit_blocking(opened("p/a"))
    for number in range(2):
        change = Patch("p/a", {"config": {f"key{number}": "x" * 40_000}})
        if number == 0:
            ingest.submit_blocking(change)
            continue
        with pytest.raises(LimitError, match="at most 65536 are kept"):
            ingest.submit_blocking(change)


def test_a_rewind_in_the_middle_of_what_is_stored(ingest: Ingest, store: FaultyStore) -> None:
    ingest.submit_blocking(Append("p/a", report([0, 10, 20], producer="w", seq=1)))
    rewind = Batch(producer="x", seq=1, rewind=Rewind(next_steps={"global_step": 15}))
    done = ingest.submit_blocking(Append("p/a", rewind))
    assert done.receipt.counters["global_step"].last_step == 10
    ingest.submit_blocking(Append("p/a", report([16], producer="x", seq=2)))
    assert steps_of(store, "p/a") == [0, 10, 16]


def test_how_often_a_counter_was_reported_in_vain_outlives_the_cache(ingest: Ingest, store: FaultyStore) -> None:
    """Each report is a request of its own that is refused whole, and each time the state is read from the disk."""
    ingest.submit_blocking(Append("p/a", report([0], 1.0)))
    texts = []
    for value in range(2, 6):
        with pytest.raises(RefusedError) as refused:
            ingest.submit_blocking(Append("p/a", report([0], float(value))))
        texts.append(refused.value.refused[0].detail)
        with store.snapshot() as view:
            state = view.load("p/a")
            assert state is not None
        store._cache.forget(state.id)
    assert "is it being incremented?" not in texts[0]
    assert "has been 0 for 5 reports; is it being incremented?" in texts[-1]
    assert steps_of(store, "p/a") == [0]
    assert state.counters["global_step"].attempts[0].unmoved == 4


def test_a_run_that_a_refused_request_would_have_made_is_not_there(ingest: Ingest, store: FaultyStore) -> None:
    with pytest.raises(RefusedError):
        ingest.submit_blocking(Append("p/new", report([5, 3])))
    with store.snapshot() as view:
        assert view.load("p/new") is None


def test_too_much_waiting_is_refused_at_once(store: FaultyStore) -> None:
    ingest = Ingest(store, budget_bytes=4096)
    gate = threading.Event()

    def hold(_: Transaction) -> None:
        assert gate.wait(10)

    store.on_end = hold
    ingest.start()
    results: list[Any] = []
    submitting = threading.Thread(
        target=lambda: results.extend(submit_all(ingest, [Append(f"p/{i}", report([1])) for i in range(50)]))
    )
    submitting.start()
    gate.set()
    submitting.join(10)
    ingest.close()
    refused = [r for r in results if isinstance(r, OverloadedError)]
    assert refused
    assert all(r.retry_after_s > 0 for r in refused)
    assert sum(isinstance(r, Done) for r in results) + len(refused) == 50


def test_a_view_too_far_behind_stops_the_intake(ingest: Ingest) -> None:
    behind = [10**12]
    ingest.watch_backlog(lambda: behind[0])
    with pytest.raises(OverloadedError, match="behind"):
        ingest.submit_blocking(Append("p/a", report([1])))
    behind[0] = 0
    assert ingest.submit_blocking(Append("p/a", report([1]))).receipt.accepted == 1


def test_closing_writes_what_waits_and_takes_nothing_more(store: FaultyStore) -> None:
    ingest = Ingest(store)
    ingest.start()
    done = ingest.submit_blocking(Append("p/a", report([1])))
    ingest.close()
    assert done.receipt.accepted == 1
    with pytest.raises(OverloadedError, match="shutting down"):
        ingest.submit_blocking(Append("p/a", report([2])))


def test_work_of_the_service_shares_the_transactions(ingest: Ingest, store: FaultyStore) -> None:
    seen: list[bool] = []
    ingest.submit_blocking(Append("p/a", report([1])))
    ingest.record(lambda transaction: seen.append(transaction.taken("p/a")))
    assert seen == [True]

    def fail(_: Transaction) -> None:
        raise StoreError("not now")

    with pytest.raises(StoreError, match="not now"):
        ingest.record(fail)


def test_listeners_hear_what_became_durable(ingest: Ingest) -> None:
    heard: list[str] = []
    ingest.on_commit(lambda done: heard.extend(d.state.name for d in done))
    submit_all(ingest, [Append("p/a", report([1])), Append("p/b", report([2, 1]))])
    ingest.close()
    assert heard == ["p/a"]


def test_a_repeated_batch_is_counted_once(ingest: Ingest) -> None:
    batch = Append("p/a", report([1, 2, 1], producer="w", seq=1, partial=True))
    submit_all(ingest, [batch, batch])
    assert ingest.submit_blocking(batch).receipt.replayed
    assert ingest.stats()["ingest_scalars_total"] == 2
    assert sum(ingest.refused_by_reason.values()) == 1


def test_nothing_unforeseen_stops_the_writer(
    ingest: Ingest, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(store, "maintain", explode, raising=False)
    ingest.on_commit(explode)
    for step in (1, 2):
        assert ingest.submit_blocking(Append("p/a", report([step])), timeout_s=20.0).receipt.stored == 1
    assert ingest.is_alive()


def test_what_can_not_be_purged_now_is_let_be_for_a_while(ingest: Ingest, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[float] = []

    def fail(_transaction: SqlTransaction) -> bool:
        tries.append(time.monotonic())
        raise StoreError("the slice can't be removed")

    monkeypatch.setattr(SqlTransaction, "purge", fail)
    ingest._purging = True
    time.sleep(0.6)
    assert 1 <= len(tries) <= 2


def test_a_busy_store_refuses_a_group_at_once(store: FaultyStore) -> None:
    """The store waits seconds before it says that it is busy: once for a group, not once for each of its members."""
    waits: list[int] = []

    def busy(_: Transaction) -> None:
        waits.append(1)
        raise StoreBusyError("held by someone else")

    store.on_end = busy
    ingest = Ingest(store)
    answers: list[Any] = []
    for i in range(5):
        ingest._queue.put(Waiting(Append(f"p/{i}", report([1])), answers.append))
    group = ingest._queue.take_group(10**6, 0)
    assert group is not None
    ingest._write(group)
    assert [type(answer) for answer in answers] == [StoreBusyError] * 5
    assert len(waits) == 1


def test_a_run_that_can_not_be_merged_does_not_keep_the_others(ingest: Ingest, store: FaultyStore) -> None:
    for name in ("p/bad", "p/good"):
        for step in range(4):
            ingest.submit_blocking(Append(name, report([step])))
    merged = threading.Event()

    class Faulty(Merger):
        def _merge_slice(self, run_id: int) -> int:
            if run_id == 1:
                raise ZeroDivisionError
            merged.set()
            return super()._merge_slice(run_id)

    merger = Faulty(store, ingest.record, min_blocks=2, interval_s=0.01)
    merger.start()
    assert merged.wait(20.0)
    merger.stop()
    assert merger.stats()["merge_errors_total"] >= 1


def test_runs_take_turns() -> None:
    queue = WaitingQueue(10**6)
    for name in ("loud", "loud", "loud", "quiet"):
        queue.put(Waiting(Append(name, report([1])), lambda _: None))
    group = queue.take_group(2048, 0)
    assert group is not None
    assert [w.turn for w in group] == ["loud", "quiet"]
    queue.close()
    rest = queue.take_group(10**6, 0)
    assert rest is not None
    assert [w.turn for w in rest] == ["loud", "loud"]
    assert queue.take_group(10**6, 0) is None
    assert queue.nbytes == 0


def test_the_budget_counts_and_refuses() -> None:
    budget = ByteBudget(100)
    with budget.take(60):
        budget.add(40)
        with pytest.raises(OverloadedError):
            budget.add(1)
        budget.give_back(40)
    assert (budget.used, budget.refused) == (0, 1)


def test_heartbeats_are_bounded() -> None:
    beats = Heartbeats(runs_max=2)
    for now, run in enumerate(("a", "b", "a", "c")):
        beats.beat(run, float(now))
    assert [beats.last_beat(run) for run in ("a", "b", "c")] == [2.0, None, 3.0]

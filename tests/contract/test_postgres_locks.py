"""Who has a run's lock sees what came before; nobody waits for one; no commit comes late for who reads in order."""

import random
import threading
import time
from collections import Counter as Multiset
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tallyboard_server.contract import RefusedError
from tallyboard_server.ingest import Ingest
from tallyboard_server.ingest.commands import Append, Done
from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.protocol import RunHeldError, Store
from tests.contract.blocks import block
from tests.contract.test_postgres_interleavings import (
    Case,
    a_deletion_and_a_new_beginning,
    a_deletion_and_a_report,
    a_rewind_and_a_report,
    one_after_the_other,
    one_batch_twice,
    one_tag_on_two_counters,
    opening,
    plain,
    report,
    steps_of_one_counter,
    two_patches,
)
from tests.contract.two_services import carried, shown
from tests.postgres import SUPERUSER
from tests.postgres_stores import PostgresStores
from tests.service import until
from tests.stores import on

pytestmark = on("postgres", "pgbouncer")

AT_ONCE_S: Final = 1.0
RUNS: Final = [f"p/{letter}" for letter in "abcdef"]
WRITERS: Final = 6
TRANSACTIONS: Final = 30
PAUSES: Final = """
CREATE FUNCTION pause() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('application_name') = 'paused' THEN
        PERFORM pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1);
    END IF;
    RETURN true;
END $$;
CREATE POLICY paused ON runs USING (pause()) WITH CHECK (true);
ALTER TABLE runs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
"""
"""Has statements of a session called `paused` stop at each row of `runs` after they have begun, and before they lock
any, while somebody else has the advisory lock 1."""


@pytest.fixture
def two(stores: PostgresStores, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """The stores of two services: one database, a cache of states each."""
    opened = stores.open(tmp_path), stores.open(tmp_path)
    yield opened
    for store in opened:
        store.close()
    stores.remove(tmp_path)


@pytest.mark.parametrize(
    "case",
    [
        steps_of_one_counter, one_tag_on_two_counters, one_batch_twice, a_rewind_and_a_report, a_deletion_and_a_report,
        a_deletion_and_a_new_beginning, two_patches,
    ],
)  # fmt: skip
def test_what_was_committed_while_a_lock_was_taken_is_seen(stores: PostgresStores, tmp_path: Path, case: Case) -> None:
    """The statement that locks began before the other's COMMIT, so the old row is what it sees itself."""
    wanted = one_after_the_other(tmp_path / "sqlite", case, "12")
    before, first, second = case(RUNS[0])
    database = stores.database(tmp_path)
    stores.server.query(PAUSES, database=database)
    one, other = stores.open(tmp_path), PostgresStore.open(f"{stores.url(tmp_path)}&application_name=paused")
    with (
        psycopg.connect(stores.server.url(database, user=SUPERUSER), autocommit=True) as session,
        ThreadPoolExecutor() as pool,
    ):
        try:
            for command in before:
                carried(other, command)  # it knows the state that will be old
            session.execute("SELECT pg_advisory_lock(1)")
            waiting = pool.submit(carried, other, second)
            assert until(lambda: _paused(session) == 1)
            outcome = carried(one, first)
            assert not waiting.done()
            session.execute("SELECT pg_advisory_unlock(1)")
            assert plain(RUNS[0], (outcome, waiting.result()), shown(one, RUNS[0])) == wanted
        finally:
            session.execute("SELECT pg_advisory_unlock_all()")
            one.close()
            other.close()
    stores.remove(tmp_path)


def _paused(session: psycopg.Connection[tuple[int]]) -> int:
    """How many statements are stopped."""
    found = session.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'paused' AND wait_event = 'advisory'"
    ).fetchone()
    assert found is not None
    return found[0]


def test_nobody_waits_for_a_run_that_another_has(two: tuple[Store, Store]) -> None:
    one, other = two
    for name in RUNS[:2]:
        carried(one, report(name, 1))
    with one.transaction([RUNS[0]]) as holding:
        state = holding.load(RUNS[0])
        assert state is not None
        holding.save(replace(state, epoch=7))
        assert holding.load("p/new") is None  # so that it may be made, and by nobody else
        begun = time.monotonic()
        with other.transaction([*RUNS[:2], "p/new"]) as transaction:
            for name in (RUNS[0], "p/new"):
                with pytest.raises(RunHeldError, match=name):
                    transaction.load(name)
            free = transaction.load(RUNS[1])
            assert free is not None
            transaction.save(replace(free, epoch=8))
        assert time.monotonic() - begun < AT_ONCE_S
    with other.transaction(RUNS) as transaction:
        assert [None if (found := transaction.load(name)) is None else found.epoch for name in RUNS[:3]] == [7, 8, None]
        assert transaction.load("p/new") is None


class Hammer:
    """Many writers on two services, each with transactions on some of the runs in an order of its own."""

    def __init__(self, two: tuple[Store, Store]) -> None:
        self.two = two
        self.saved: Multiset[str] = Multiset()
        self.held = 0
        self._counted = threading.Lock()
        for name in RUNS:
            carried(two[0], Append(name, report(name, 1).batch))

    def run(self) -> None:
        """Until all writers are done."""
        with ThreadPoolExecutor(WRITERS) as pool:
            for done in [pool.submit(self._write, number) for number in range(WRITERS)]:
                done.result()

    def _write(self, number: int) -> None:
        dice = random.Random(number)
        for _ in range(TRANSACTIONS):
            names = dice.sample(RUNS, 3)
            saved, held = [], 0
            told_before = names if dice.random() < 0.5 else ()  # else each is locked as it is met
            with self.two[number % 2].transaction(told_before) as transaction:
                for name in names:
                    try:
                        state = transaction.load(name)
                    except RunHeldError:
                        held += 1
                        continue
                    assert state is not None
                    pos = state.pos + 1
                    transaction.save(replace(state, pos=pos), [block(pos, [pos])])
                    saved.append(name)
                    time.sleep(dice.random() * 0.002)
            with self._counted:
                self.saved.update(saved)
                self.held += held


def test_writers_in_any_order_neither_lock_each_other_out_nor_wait(
    stores: PostgresStores, tmp_path: Path, two: tuple[Store, Store]
) -> None:
    hammer = Hammer(two)
    logged = len(stores.server.log())
    hammer.run()
    assert hammer.held > 10, "they met"
    assert sum(hammer.saved.values()) > 100
    for name, found in shown(two[0], "p/").items():
        assert found["state"][0] == 1 + hammer.saved[name]
    log = stores.server.log()[logged:]
    assert "deadlock" not in log
    assert "still waiting" not in log
    ((deadlocks,),) = stores.server.query(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = %s", stores.database(tmp_path)
    )
    assert deadlocks == 0


def test_who_reads_by_positions_misses_no_commit(two: tuple[Store, Store]) -> None:
    """A tail on a sequence would pass over rows that got their number early and were committed late."""
    hammer = Hammer(two)
    ended = threading.Event()

    def follow(store: Store) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for name in RUNS}
        while True:
            last_look = ended.is_set()
            for name in RUNS:
                with store.snapshot() as view:
                    state = view.load(name)
                    assert state is not None
                    after = found[name][-1] if found[name] else 0
                    found[name] += [one.pos for one in view.journal(state.id, after_pos=after, bytes_max=2**20)]
                    assert found[name][-1:] == [state.pos]
            if last_look:
                return found

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(follow, store) for store in two]
        try:
            hammer.run()
        finally:
            ended.set()
        for reader in readers:
            assert reader.result() == {name: list(range(1, hammer.saved[name] + 2)) for name in RUNS}


class TestWriters:
    """Two services whose writers' threads are at work, with pairs of commands that come at the same time."""

    PAIRS = 30

    def meet(
        self, two: tuple[Store, Store], *pairs: tuple[Append, Append]
    ) -> list[tuple[Done | RefusedError, Done | RefusedError]]:
        """What came of each pair; a refusal is its error."""
        writers = Ingest(two[0]), Ingest(two[1])
        for writer in writers:
            writer.start()
        barrier = threading.Barrier(2)

        def send(index: int) -> list[Done | RefusedError]:
            outcomes: list[Done | RefusedError] = []
            for pair in pairs:
                barrier.wait(10)
                try:
                    outcomes.append(writers[index].submit_blocking(pair[index]))
                except RefusedError as error:
                    outcomes.append(error)
            return outcomes

        try:
            with ThreadPoolExecutor() as pool:
                one, other = pool.map(send, (0, 1))
            return list(zip(one, other, strict=True))
        finally:
            for writer in writers:
                writer.close()

    @staticmethod
    def done(outcome: Done | RefusedError) -> Done:
        """It was not refused."""
        assert isinstance(outcome, Done)
        return outcome

    def test_of_two_counters_one_gets_the_tag(self, two: tuple[Store, Store]) -> None:
        names = [f"p/{n}" for n in range(self.PAIRS)]
        for name in names:
            carried(two[0], report(name, 1, "other"))
        counters = ("epoch", "tokens")
        met = self.meet(two, *(
            (report(name, 5, counter=counters[0], partial=False), report(name, 5, counter=counters[1], partial=False))
            for name in names
        ))  # fmt: skip
        for name, pair in zip(names, met, strict=True):
            refused = [isinstance(outcome, RefusedError) for outcome in pair]
            assert sorted(refused) == [False, True]
            (loser,) = [outcome for outcome in pair if isinstance(outcome, RefusedError)]
            assert set(loser.reasons) == {"tag_of_other_counter"}
            winner = refused.index(False)
            with two[1 - winner].snapshot() as view:
                state = view.load(name)
                assert state is not None
                owner = state.counter_by_id(state.tags["loss"].counter_id)
                assert owner is not None
                assert owner.name == counters[winner]

    def test_a_run_is_made_once(self, two: tuple[Store, Store]) -> None:
        """By a first report to both, by one open that comes twice, and by opens of one name that want a run each."""
        pairs: list[tuple[Append, Append]] = []
        for n in range(self.PAIRS // 3):
            again = opening(f"p/again{n}", uid=f"u{n}", resume="new")
            mine, yours = (opening(f"p/own{n}", uid=f"{whose}{n}", resume="new") for whose in ("mine", "yours"))
            pairs += [(report(f"p/first{n}", 1), report(f"p/first{n}", 50, "acc")), (again, again), (mine, yours)]
        met = [(self.done(one), self.done(other)) for one, other in self.meet(two, *pairs)]
        for n, (first, twice, own) in enumerate(zip(met[::3], met[1::3], met[2::3], strict=True)):
            assert [sum(done.created for done in pair) for pair in (first, twice, own)] == [1, 1, 2]
            assert {done.state.name for done in twice} == {f"p/again{n}"}
            assert {done.state.name for done in own} == {f"p/own{n}", f"p/own{n}-2"}
        with two[0].snapshot() as view:
            assert len(view.run_names(prefix="p/", limit=1000)) == self.PAIRS // 3 * 4
            for n in range(self.PAIRS // 3):
                state = view.load(f"p/first{n}")
                assert state is not None
                assert state.tags.keys() >= {"acc"}

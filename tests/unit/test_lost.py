"""When a running run counts as lost: its producers' silence, as long as the service listened; clocks are made up."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tallyboard_server.ingest import HeartbeatKeeper
from tallyboard_server.ingest.heartbeats import Heartbeats
from tallyboard_server.model import Producer, RunState, frozen
from tallyboard_server.store.protocol import StoreFullError, Transaction
from tallyboard_server.store.sqlite import SqliteStore
from tests.contract.blocks import run_state
from tests.eventfiles_kit import Clock

AFTER_S = 300.0


def reported(at: float, name: str = "p/run") -> RunState:
    """A running run whose producer's last batch came at `at`."""
    state = run_state(1, name)
    return replace(state, producers=frozen({"a": Producer("a", 1, last_seen=at)}))


def test_a_run_is_lost_when_its_producers_are_silent_for_too_long() -> None:
    beats = Heartbeats()
    assert not beats.is_lost(reported(1000.0), 1300.0, AFTER_S)
    assert beats.is_lost(reported(1000.0), 1300.5, AFTER_S)


def test_a_heartbeat_is_a_sign_of_life_and_brings_a_lost_run_back() -> None:
    beats = Heartbeats()
    beats.beat("p/run", 1200.0)
    assert not beats.is_lost(reported(1000.0), 1500.0, AFTER_S)
    assert beats.is_lost(reported(1000.0), 1501.0, AFTER_S)
    beats.beat("p/run", 1501.0)
    assert not beats.is_lost(reported(1000.0), 1501.0, AFTER_S)


def test_only_running_runs_with_producers_can_be_lost() -> None:
    state = reported(1000.0)
    finished = replace(state, meta=replace(state.meta, status="finished"))
    beats = Heartbeats()
    assert not beats.is_lost(finished, 9e9, AFTER_S)
    assert not beats.is_lost(replace(state, producers=frozen({})), 9e9, AFTER_S)


def test_a_change_by_hand_is_no_sign_of_life() -> None:
    state = reported(1000.0)
    patched = replace(state, meta=replace(state.meta, updated_at=2000.0))
    beats = Heartbeats()
    assert beats.is_lost(patched, 2000.0, AFTER_S)
    assert beats.last_seen(patched) == 2000.0


def test_silence_while_the_service_was_down_does_not_count() -> None:
    beats = Heartbeats()
    beats.restore({"p/beat": 1900.0}, listened_until=2000.0, now=9000.0)
    alive, lost = reported(1950.0), reported(1650.0)
    assert not beats.is_lost(alive, 9000.0, AFTER_S)
    assert not beats.is_lost(alive, 9250.0, AFTER_S)
    assert beats.is_lost(alive, 9251.0, AFTER_S)  # 50 s before, 251 s since
    assert beats.is_lost(lost, 9000.0, AFTER_S)
    assert not beats.is_lost(reported(1000.0, "p/beat"), 9199.0, AFTER_S)


class TestKeeper:
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore.open(tmp_path)
        with store.transaction() as transaction:
            transaction.save(run_state(transaction.next_run_id(), "p/run"))
        yield store
        store.close()

    def keeper(self, store: SqliteStore, beats: Heartbeats, clock: Clock) -> HeartbeatKeeper:
        def record(work: object) -> None:
            with store.transaction() as transaction:
                work(transaction)  # type: ignore[operator]

        return HeartbeatKeeper(beats, store, record, clock, interval_s=3600.0)

    def test_what_was_heard_outlives_the_process(self, store: SqliteStore) -> None:
        beats, clock = Heartbeats(), Clock(1000.0)
        keeper = self.keeper(store, beats, clock)
        keeper.start()
        beats.beat("p/run", 1010.0)
        beats.beat("p/gone", 1010.0)
        clock.now = 1020.0
        keeper.stop()
        again = Heartbeats()
        later = self.keeper(store, again, Clock(5000.0))
        later.start()
        later.stop()
        assert (again.last_beat("p/run"), again.last_beat("p/gone")) == (1010.0, None)
        state = reported(900.0)
        assert not again.is_lost(state, 5290.0, AFTER_S)
        assert again.is_lost(state, 5291.0, AFTER_S)  # 10 s until 1020, then from 5000 on

    def test_many_beats_are_one_transaction_and_none_without_news_twice(self, store: SqliteStore) -> None:
        beats, clock = Heartbeats(), Clock(1000.0)
        keeper = self.keeper(store, beats, clock)
        for i in range(50):
            beats.beat("p/run", 1000.0 + i)
        before = store.stats()["store_commits_total"]
        keeper.save()
        assert store.stats()["store_commits_total"] == before + 1
        assert beats.unsaved() == {}
        with store.snapshot() as view:
            assert view.heartbeats(limit=10) == ({"p/run": 1049.0}, 1000.0)

    def test_beats_that_could_not_be_saved_wait_for_the_next_time(self, store: SqliteStore) -> None:
        def full(_work: object) -> None:
            raise StoreFullError("no room")

        beats = Heartbeats()
        beats.beat("p/run", 1.0)
        HeartbeatKeeper(beats, store, full, Clock()).save()
        assert beats.unsaved() == {"p/run": 1.0}

    def test_nothing_unforeseen_ends_it(self, store: SqliteStore) -> None:
        tries = threading.Semaphore(0)

        def explode(_work: object) -> None:
            tries.release()
            raise ZeroDivisionError

        beats = Heartbeats()
        keeper = HeartbeatKeeper(beats, store, explode, Clock(), interval_s=0.01)
        keeper.start()
        beats.beat("p/run", 1.0)
        for _ in range(3):
            assert tries.acquire(timeout=5.0)
        keeper.stop()
        assert beats.unsaved() == {"p/run": 1.0}

    def test_the_beats_of_a_deleted_run_go_with_it(self, store: SqliteStore) -> None:
        def save(transaction: Transaction) -> None:
            transaction.save_heartbeats({"p/run": 5.0}, 6.0)

        with store.transaction() as transaction:
            save(transaction)
        with store.transaction() as transaction:
            state = transaction.load("p/run")
            assert state is not None
            transaction.delete_run(state)
        while True:
            with store.transaction() as transaction:
                if not transaction.purge():
                    break
        assert store._writer.execute("SELECT count(*) FROM heartbeats").get == 0

"""Heartbeats of services that share a store: what one hears counts on all, and no run is lost that any hears."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tallyboard_server.ingest import HeartbeatKeeper
from tallyboard_server.ingest.heartbeats import SKEW_S, Heartbeats
from tallyboard_server.model import Producer, RunState, frozen
from tallyboard_server.store.protocol import Store, StoreBusyError, Transaction
from tests.contract.blocks import run_state
from tests.contract.test_store import create
from tests.eventfiles_kit import Clock
from tests.stores import Stores, on

pytestmark = on("postgres")

RUN = "p/run"
EVERY_S = 10.0
AFTER_S = 60.0
START = 10_000.0


@dataclass
class Replica:
    """What one service hears; its clock goes wrong by skew_s. is_cut_off: it can't reach the store."""

    store: Store
    now: Clock
    skew_s: float = 0.0
    is_cut_off: bool = False

    def __post_init__(self) -> None:
        self.beats = Heartbeats()
        self.keeper = HeartbeatKeeper(self.beats, self.store, self._record, self.clock, interval_s=EVERY_S)
        self.keeper._thread = threading.Thread()  # the test says when it saves
        self.keeper._exchange()

    def clock(self) -> float:
        return self.now() + self.skew_s

    def beat(self) -> None:
        self.beats.beat(RUN, self.clock())

    def loses(self, reported_at: float) -> bool:
        return self.beats.is_lost(reported(reported_at), self.clock(), AFTER_S)

    def _record(self, work: Callable[[Transaction], None]) -> None:
        if self.is_cut_off:
            raise StoreBusyError("the database can't be reached")
        with self.store.transaction() as transaction:
            work(transaction)


def reported(at: float) -> RunState:
    return replace(run_state(1, RUN), producers=frozen({"a": Producer("a", 1, last_seen=at)}))


@pytest.fixture
def clock() -> Clock:
    return Clock(START)


@pytest.fixture
def join(stores: Stores, tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Replica]]:
    """Starts a service on the test's database."""
    opened: list[Store] = []

    def start(skew_s: float = 0.0) -> Replica:
        opened.append(stores.open(tmp_path / "shared"))
        if len(opened) == 1:
            create(opened[0], RUN)
        return Replica(opened[-1], clock, skew_s)

    yield start
    for store in opened:
        store.close()
    stores.remove(tmp_path / "shared")


def pass_time(clock: Clock, seconds: float, *replicas: Replica, each_s: Callable[[], None] = lambda: None) -> None:
    """Second by second; each service saves every EVERY_S, at a second of its own."""
    for _ in range(int(seconds)):
        clock.now += 1
        each_s()
        for number, replica in enumerate(replicas):
            if clock.now % EVERY_S == 3 * number:
                replica.keeper.save()


def test_a_run_that_beats_at_one_is_lost_on_none(join: Callable[..., Replica], clock: Clock) -> None:
    hears, deaf, fast = join(), join(skew_s=-2.0), join(skew_s=2.0)
    losses: list[float] = []

    def live() -> None:
        if clock.now % 30 == 0:
            hears.beat()
        losses.extend(clock.now for replica in (hears, deaf, fast) if replica.loses(START))

    pass_time(clock, 400, hears, deaf, fast, each_s=live)
    assert losses == []
    silent_from = clock.now
    lost_at: dict[int, float] = {}

    def fall_silent() -> None:
        for number, replica in enumerate((hears, deaf, fast)):
            if replica.loses(START):
                lost_at.setdefault(number, clock.now)

    pass_time(clock, 120, hears, deaf, fast, each_s=fall_silent)
    assert sorted(lost_at) == [0, 1, 2], "all find it lost in the end"
    late_s = max(lost_at.values()) - silent_from - AFTER_S
    assert late_s <= 2 * EVERY_S + SKEW_S + 2.0 + 1.0
    assert min(lost_at.values()) >= silent_from - 30 + AFTER_S


def test_while_the_store_is_out_of_reach_nobody_is_lost_whom_another_may_hear(
    join: Callable[..., Replica], clock: Clock
) -> None:
    hears, deaf = join(), join()
    losses: list[float] = []

    def live() -> None:
        if clock.now % 20 == 0:
            hears.beat()
        losses.extend(clock.now for replica in (hears, deaf) if replica.loses(START))

    pass_time(clock, 60, hears, deaf, each_s=live)
    hears.is_cut_off = deaf.is_cut_off = True
    pass_time(clock, 300, hears, deaf, each_s=live)
    hears.is_cut_off = deaf.is_cut_off = False
    deaf.keeper.save()  # before the other one could tell what it has heard meanwhile
    live()
    pass_time(clock, 60, hears, deaf, each_s=live)
    assert losses == []
    hears.keeper.save()
    deaf.keeper.save()
    assert deaf.beats.last_beat(RUN) == hears.beats.last_beat(RUN)


def test_silence_counts_while_anybody_listened_and_not_while_nobody_did(
    join: Callable[..., Replica], clock: Clock
) -> None:
    first = join()
    pass_time(clock, 20, first)
    second = join()
    pass_time(clock, 25, second)  # the first one is gone
    assert not second.loses(START)
    pass_time(clock, 50, second)
    assert second.loses(START), "the first one's time counts, too"
    clock.now += 3_600  # nobody listens
    third = join()
    heard_of = clock.now - 3_600 - 10
    pass_time(clock, 5, third)
    fourth = join()
    pass_time(clock, 40, third, fourth)
    for replica in (third, fourth):
        assert not replica.loses(heard_of), "10 s before the gap and 45 s after it"
    pass_time(clock, 40, third, fourth)
    for replica in (third, fourth):
        assert replica.loses(heard_of)


def test_a_service_that_starts_knows_at_once_what_others_hear(join: Callable[..., Replica], clock: Clock) -> None:
    hears = join()

    def live() -> None:
        if clock.now % 20 == 0:
            hears.beat()

    pass_time(clock, 200, hears, each_s=live)
    starts = join()
    assert not starts.loses(START)
    assert starts.beats.last_beat(RUN) is not None
    pass_time(clock, 100, hears)
    assert join().loses(START), "nor is a run that was lost alive again because of it"


def test_many_services_save_the_same_runs_at_once(join: Callable[..., Replica], clock: Clock) -> None:
    replicas = [join() for _ in range(3)]
    runs = [f"p/many-{number}" for number in range(300)]
    for run in runs:
        create(replicas[0].store, run)
    barrier = threading.Barrier(len(replicas))

    def save(number: int) -> None:
        for turn in range(5):
            for run in runs if number % 2 else reversed(runs):
                replicas[number].beats.beat(run, clock.now + turn + number)
            barrier.wait(20)
            replicas[number].keeper._exchange()  # raises if the database had to end a deadlock

    with ThreadPoolExecutor(len(replicas)) as pool:
        list(pool.map(save, range(len(replicas))))
    replicas[0].keeper._exchange()
    assert {replicas[0].beats.last_beat(run) for run in runs} == {clock.now + 4 + 2}

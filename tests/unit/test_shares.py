"""Whoever works for some runs only leaves the others alone, and looks anew at those that come to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.eventfiles.files.exporter import file_engine
from tallyboard_server.eventfiles.files.storage import FileTools
from tallyboard_server.eventfiles.layout import LogDirectory
from tallyboard_server.ingest import Merger
from tallyboard_server.notify import Outbox
from tallyboard_server.replicas import HeldShares
from tallyboard_server.retention import Pruner, Rules, Worker
from tallyboard_server.shares import SHARES
from tallyboard_server.watch import RuleBook, Watcher
from tallyboard_server.watch import Rules as WatchRules
from tests.eventfiles_kit import Service, curves, same, settle

RUNS = ("p/a", "p/b")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as made:
        yield made


@pytest.fixture
def held(service: Service) -> HeldShares:
    """The share of the first run, for as long as the test lasts."""
    made = HeldShares(service.clock)
    made.begin("replica")
    made.extend(float("inf"))
    for run in RUNS:
        grow(service, run, 1)
    made.take_over([share_of(service, "p/a")])
    return made


def grow(service: Service, run: str, step: int, value: float = 0.5) -> None:
    service.report(run, [step], {"loss": [value]})


def id_of(service: Service, run: str) -> int:
    with service.store.snapshot() as view:
        state = view.load(run)
    assert state is not None
    return state.id


def share_of(service: Service, run: str) -> int:
    return id_of(service, run) % SHARES


def hand_over(service: Service, held: HeldShares, *runs: str) -> None:
    held.take_over([share_of(service, run) for run in runs])


def engine_of(service: Service, held: HeldShares) -> Any:
    tools = FileTools(
        service.store, service.ingest.record, service.settings, service.clock, service.wall,
        LogDirectory(service.logdir), Disk(), host="host", shares=held,
    )  # fmt: skip
    return file_engine(tools)


# ── event files ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_event_files_are_written_of_own_runs_only(service: Service, held: HeldShares) -> None:
    engine = engine_of(service, held)
    engine.notify([id_of(service, run) for run in RUNS])
    settle(engine)
    assert [len(service.event_files(run)) for run in RUNS] == [1, 0]
    with service.store.snapshot() as view:
        assert [head.name for head in engine.heads_behind(view.heads())] == []  # the other is no business of its own
    hand_over(service, held, *RUNS)
    settle(engine)
    assert [len(service.event_files(run)) for run in RUNS] == [1, 1]


def test_a_run_that_was_given_away_is_not_written_to_any_more(service: Service, held: HeldShares) -> None:
    engine = engine_of(service, held)
    settle(engine)
    before = service.event_files("p/a")[0].read_bytes()
    hand_over(service, held, "p/b")
    grow(service, "p/a", 2)
    engine.notify([id_of(service, "p/a")])
    settle(engine)
    assert service.event_files("p/a")[0].read_bytes() == before
    assert engine.exported_pos(id_of(service, "p/a")) == 0
    assert engine.backlog_bytes() == 0


def test_a_file_that_two_write_by_turns_is_as_if_one_had(service: Service, held: HeldShares) -> None:
    other = HeldShares(service.clock)
    other.begin("other")
    other.extend(float("inf"))
    pairs = [(held, engine_of(service, held)), (other, engine_of(service, other))]
    for turn in range(2, 14):
        (has_it, engine), (has_not, idle) = pairs if turn % 2 else pairs[::-1]
        hand_over(service, has_not)
        hand_over(service, has_it, "p/a")
        if turn == 8:
            service.rewind("p/a", global_step=3)
        grow(service, "p/a", turn if turn < 8 else turn - 4, turn / 3)
        for each in (engine, idle):
            service.pass_time(40.0)
            settle(each)
    assert same(curves(service.live_file("p/a")), service.shown("p/a"))
    assert len(service.event_files("p/a")) == 1
    assert len(service.generations("p/a")) == 1


def test_nothing_is_written_once_it_is_not_sure_any_more(service: Service, held: HeldShares) -> None:
    engine = engine_of(service, held)
    held.extend(service.clock() + 4.0)
    service.clock.now += 5.0
    engine.notify([id_of(service, "p/a")])
    settle(engine)
    assert service.event_files("p/a") == []


# ── merges ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def journal_of(service: Service, run: str) -> int:
    """Blocks of a run that no merge took yet."""
    with service.store.snapshot() as view:
        return len(view.journal(id_of(service, run), after_pos=0, bytes_max=2**20))


def test_own_runs_are_merged_and_others_when_they_come(service: Service, held: HeldShares) -> None:
    merger = Merger(service.store, service.ingest.record, min_blocks=4, clock=service.wall, shares=held)
    merger._turn()
    everybody = HeldShares(service.clock)
    everybody.extend(float("inf"))
    hand_over(service, everybody, *RUNS)
    for step in range(2, 10):
        for run in RUNS:
            grow(service, run, step)
            merger.grew(id_of(service, run), 1, 1)
    settle(engine_of(service, everybody))
    merger._turn()
    assert [journal_of(service, run) for run in RUNS] == [0, 9]
    assert merger.backlog_bytes() == 0  # what another is to merge does not stop the intake here
    hand_over(service, held, "p/b")
    merger._turn()
    assert [journal_of(service, run) for run in RUNS] == [0, 0]


def test_what_waits_to_be_merged_and_is_given_away_is_forgotten(service: Service, held: HeldShares) -> None:
    merger = Merger(service.store, service.ingest.record, min_blocks=1, clock=service.wall, shares=held)
    merger.grew(id_of(service, "p/a"), 5, 1000)
    assert merger.backlog_bytes() > 0
    hand_over(service, held, "p/b")
    merger._turn()
    assert merger.backlog_bytes() == 0
    assert merger.stats()["merge_runs_waiting"] == 0


# ── watchdogs ────────────────────────────────────────────────────────────────────────────────────────────────────────


def watcher_of(service: Service, held: HeldShares) -> Watcher:
    book = RuleBook(WatchRules())
    watcher = Watcher(
        service.store, service.ingest.record, service.ingest.heartbeats, book, Outbox(lambda _run: False),
        clock=service.wall, shares=held,
    )  # fmt: skip
    service.ingest.on_commit(watcher.inbox.committed)
    return watcher


def incidents_of(service: Service, run: str) -> list[str]:
    with service.store.snapshot() as view:
        return [incident.kind for _, incident in view.incidents(limit=100) if incident.run_id == id_of(service, run)]


def test_own_runs_are_watched_and_others_when_they_come(service: Service, held: HeldShares) -> None:
    watcher = watcher_of(service, held)
    watcher.turn()
    for run in RUNS:
        grow(service, run, 2, float("nan"))
    watcher.turn()
    assert [incidents_of(service, run) for run in RUNS] == [["nonfinite"], []]
    hand_over(service, held, "p/b")
    watcher.turn()
    assert watcher.stats()["watch_runs"] == 1
    grow(service, "p/b", 3, float("nan"))
    grow(service, "p/a", 3, 0.5)
    watcher.turn()
    assert [incidents_of(service, run) for run in RUNS] == [["nonfinite"], ["nonfinite"]]


def test_an_incident_is_told_once_though_its_run_goes_to_another(service: Service, held: HeldShares) -> None:
    other = HeldShares(service.clock)
    other.begin("other")
    other.extend(float("inf"))
    first, second = watcher_of(service, held), watcher_of(service, other)
    for watcher in (first, second):
        watcher.turn()
    grow(service, "p/a", 2, float("nan"))
    first.turn()
    hand_over(service, held)
    hand_over(service, other, "p/a")
    grow(service, "p/a", 3, float("nan"))
    for _ in range(3):
        service.pass_time(20.0)
        for watcher in (first, second):
            watcher.turn()
    with service.store.snapshot() as view:
        assert view.alert_count(id_of(service, "p/a")).kept == 1
    assert first.stats()["watch_alerts_total"] + second.stats()["watch_alerts_total"] == 1


# ── retention ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_own_runs_are_deleted_by_age_and_others_when_they_come(service: Service, held: HeldShares) -> None:
    def sweep() -> list[str]:
        pruner = Pruner(
            service.store, service.ingest.record, service.ingest.submit_blocking, lambda state: state.meta.updated_at,
            lambda: 4e9,
        )  # fmt: skip
        Worker(pruner, Rules(runs_days=1.0), sleep=lambda _: None, shares=held).sweep()
        with service.store.snapshot() as view:
            return list(view.run_names())

    assert sweep() == ["p/b"]
    hand_over(service, held)
    assert sweep() == ["p/b"]
    held.take_over(range(SHARES))
    assert sweep() == []

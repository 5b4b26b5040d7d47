"""Three services on one database: what one receives all show, and each run is worked for by one."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tallyboard_server.eventfiles import Exporter
from tallyboard_server.membership import SharedService
from tallyboard_server.replicas import Replica
from tallyboard_server.replicas import bulletin as bulletins
from tallyboard_server.settings import Settings
from tallyboard_server.shares import SHARES
from tests.service import RunningService, serving, until
from tests.sse import Stream, listening
from tests.stores import Stores, on

pytestmark = on("postgres")


@pytest.fixture(scope="module")
def trio(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningService]]:
    """Three that share a database and a logdir."""
    folder = tmp_path_factory.mktemp("trio")
    with ExitStack() as stack:
        yield [stack.enter_context(serving(_settings(stores, folder, index))) for index in range(3)]


def _settings(stores: Stores, folder: Path, index: int) -> Settings:
    own = {"data_dir": folder / str(index), "logdir": folder / "logdir", "port": 0, "watchdogs": True}
    return Settings(**(stores.settings(folder) | own))


def shares_of(service: RunningService) -> set[int]:
    shares = service.parts.shares
    return {number for number in range(SHARES) if shares.has(number)}


def test_shares_are_divided_evenly_and_each_is_held_once(trio: list[RunningService]) -> None:
    def divided() -> bool:
        held = [shares_of(service) for service in trio]
        return set().union(*held) == set(range(SHARES)) and sum(map(len, held)) == SHARES and max(map(len, held)) <= 22

    assert until(divided)


def test_what_one_has_acknowledged_all_show_at_once(trio: list[RunningService], run_name: str) -> None:
    for step, service in enumerate(trio):
        assert service.report(run_name, {"step": step, "scalars": {"loss": step / 2}}).status == 200
        for other in trio:
            assert other.points(run_name, "loss") == [(n, n / 2) for n in range(step + 1)]


def test_a_counter_never_goes_back_whoever_is_asked(trio: list[RunningService], run_name: str) -> None:
    assert trio[0].report(run_name, {"step": 5, "scalars": {"loss": 1.0}}).status == 200
    for service in trio:
        refused = service.report(run_name, {"step": 4, "scalars": {"loss": 2.0}})
        assert refused.json()["refused_count"] == 1, refused.body
    assert trio[1].report(run_name, {"step": 6, "scalars": {"loss": 0.5}}).status == 200
    assert trio[2].points(run_name, "loss") == [(5, 1.0), (6, 0.5)]


def test_pages_hear_what_another_replica_received(trio: list[RunningService], run_name: str) -> None:
    with listening(trio[0]) as stream:
        assert stream.event()[0] == "hello"
        trio[1].report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
        assert _tells(stream, "runs", run_name)
        trio[2].request("DELETE", f"/api/v1/runs/{run_name}")
        assert _tells(stream, "deleted", run_name)


def _tells(stream: Stream, what: str, run: str) -> bool:
    """Whether one of the next events names the run; news of earlier tests may come before."""
    return any(run in stream.event()[1][what] for _ in range(5))


def test_each_run_has_event_files_of_one_writer(trio: list[RunningService], run_name: str) -> None:
    runs = [f"{run_name}-{number}" for number in range(12)]
    for step in range(1, 4):
        for number, run in enumerate(runs):
            service = trio[(number + step) % 3]
            assert service.report(run, {"step": step, "scalars": {"loss": float(number)}}).status == 200
    logdir = trio[0].logdir

    def complete() -> bool:
        return all(
            len(found := list((logdir / run).glob("events*"))) == 1 and found[0].stat().st_size > 150 for run in runs
        )

    assert until(complete)
    for service in trio:  # nobody knows of files that are not its own
        exporter = service.parts.event_files
        assert isinstance(exporter, Exporter)
        assert all(service.parts.shares.has(run_id) for run_id in range(10_000) if exporter.exported_pos(run_id))


def test_a_watchdog_sees_what_another_replica_received(trio: list[RunningService], run_name: str) -> None:
    runs = [f"{run_name}-{number}" for number in range(6)]
    for run in runs:  # ids follow each other, so they are of different replicas
        for service in trio:
            service.report(run, {"step": 1, "scalars": {"loss": 1.0}})
        trio[0].report(run, {"step": 2, "scalars": {"loss": "NaN"}})

    def all_told() -> bool:
        return all(trio[1].get(f"/alerts/{run}").json()["alerts"] for run in runs)

    assert until(all_told, 20.0)
    for run in runs:
        titles = [alert["title"] for alert in trio[1].get(f"/alerts/{run}").json()["alerts"]]
        assert len(titles) == 1, "each is told once, by whoever has the run's share"


def test_when_one_leaves_its_shares_are_taken_over(stores: Stores, tmp_path: Path) -> None:
    with serving(_settings(stores, tmp_path, 0)) as stays:
        with serving(_settings(stores, tmp_path, 1)) as leaves:
            assert until(lambda: len(shares_of(leaves)) == SHARES // 2 == len(shares_of(stays)))
        assert until(lambda: len(shares_of(stays)) == SHARES, 5.0)


def replica_of(service: RunningService) -> Replica:
    membership = service.parts.views["replicas"]
    assert isinstance(membership, SharedService)
    return membership._replica


def test_pages_look_at_everything_again_when_their_replica_missed_something(
    trio: list[RunningService], run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulletins, "KEPT_S", 0.3)
    with listening(trio[0]) as stream, pytest.MonkeyPatch.context() as paused:
        assert stream.event()[0] == "hello"
        heard = replica_of(trio[0]).stats()["replica_missed_total"]
        paused.setattr(replica_of(trio[0]), "turn", lambda: None)
        for step in range(1, 4):
            trio[1].report(f"{run_name}-{step}", {"step": step, "scalars": {"loss": 1.0}})
            time.sleep(0.6)  # so that each is told, and forgotten
        paused.undo()
        assert any(stream.event()[1]["resync"] for _ in range(5))
        assert replica_of(trio[0]).stats()["replica_missed_total"] > heard


def test_intake_waits_for_another_replica_that_is_far_behind(
    trio: list[RunningService], run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status() -> int:
        return trio[0].report(run_name, {"step": 1, "scalars": {"loss": 1.0}}).status

    assert status() == 200
    with monkeypatch.context() as behind:
        behind.setattr(replica_of(trio[1]), "_backlog_bytes", lambda: 2**40)
        assert until(lambda: status() == 503)
        refused = trio[0].report(run_name, {"step": 2, "scalars": {"loss": 1.0}})
        assert int(refused.headers["Retry-After"]) >= 1
        assert "of another replica are 1099511627776 bytes behind" in refused.json()["detail"]
        assert trio[2].get(f"/runs/{run_name}").status == 200
    assert until(lambda: status() == 200)  # though the other has nothing else to tell

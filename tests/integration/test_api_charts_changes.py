"""Charts of runs that change while they are read: rewinds, deletions and growth between two snapshots."""

from typing import Any
from urllib.parse import quote

import pytest

from tallyboard_server.api import query
from tallyboard_server.runtable import table
from tallyboard_server.series import Allowance, HistoryChangedError, Question, RunReader, read_lines
from tests.service import RunningService


@pytest.fixture(autouse=True)
def _each_read_has_a_snapshot_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "HOLD_S", -1.0)


def train(service: RunningService, run: str, steps: range) -> None:
    reports = [{"step": step, "scalars": {"loss": step / 2}} for step in steps]
    assert service.report(run, {"reports": reports}).status == 200


def disturb(
    monkeypatch: pytest.MonkeyPatch, service: RunningService, path: str, *, times: int, method: str = "points_at_most"
) -> list[int]:
    """Something happens just before the points are counted (or read), so many times: a POST to `path`, or a DELETE."""
    happened: list[int] = []
    count = getattr(RunReader, method)

    def counted(self: RunReader, *arguments: Any, **named: Any) -> Any:
        if len(happened) < times:
            happened.append(len(happened))
            body = {"next_steps": {"global_step": 9 - len(happened)}}
            answer = (
                service.send("POST", path, body) if path.startswith("/rewind") else service.send("DELETE", path, {})
            )
            assert answer.status in (200, 204), answer.body
        return count(self, *arguments, **named)

    monkeypatch.setattr(RunReader, method, counted)
    return happened


def test_a_rewind_while_a_run_is_read_begins_it_anew(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(service, run_name, range(20))
    happened = disturb(monkeypatch, service, f"/rewind/{run_name}", times=1)
    assert [step for step, _ in service.points(run_name, "loss")] == list(range(8))
    assert len(happened) == 1


def test_a_run_that_never_stands_still_is_read_in_one_snapshot(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "SNAPSHOT_S_MAX", 60.0)
    train(service, run_name, range(20))
    happened = disturb(monkeypatch, service, f"/rewind/{run_name}", times=8)
    assert [step for step, _ in service.points(run_name, "loss")] == list(range(9 - len(happened) + 1))
    assert len(happened) == 4  # the last one came after the snapshot that answered


def test_no_snapshot_is_held_without_bound_for_a_run_that_never_stands_still(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(query, "SNAPSHOT_S_MAX", -1.0)
    train(service, run_name, range(20))
    happened = disturb(monkeypatch, service, f"/rewind/{run_name}", times=4)
    answer = service.get(f"/scalars?run={run_name}&buckets=5")
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "history_changing", "1")
    assert answer.json()["detail"] == f"run '{run_name}' is being pruned or rewound; ask again"
    assert len(happened) == 4
    assert service.get(f"/scalars?run={run_name}&buckets=5").status == 200


def test_a_table_does_not_hold_one_either(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "HOLD_S", -1.0)
    monkeypatch.setattr(table, "SNAPSHOT_S_MAX", -1.0)
    train(service, run_name, range(20))
    disturb(monkeypatch, service, f"/rewind/{run_name}", times=2, method="cells")
    path = "/runs?columns=min.loss&filter=" + quote(f'name = "{run_name}"')
    answer = service.get(path)
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "history_changing", "1")
    assert service.get(path).status == 200


def test_a_run_deleted_while_it_is_read_is_missing(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(service, run_name, range(20))
    disturb(monkeypatch, service, f"/runs/{run_name}", times=1)
    answer = service.get(f"/scalars?run={run_name}&buckets=5").json()
    assert (answer["series"], answer["missing"]) == ([], [{"run": run_name}])


def test_growth_between_snapshots_is_left_for_later(service: RunningService, run_name: str) -> None:
    train(service, run_name, range(5))
    with RunReader(service.parts.store.snapshot, hold_s=-1.0) as reader:
        state = reader.load(run_name)
        assert state is not None
        train(service, run_name, range(5, 9))
        counter = state.counters["global_step"]
        (cells,) = reader.cells(state.id, counter.id, 1, [state.tags["loss"].id]).values()
        assert len(cells) == 9
        assert read_lines(reader, state, ["loss"], Question(), Allowance(100))[0].count == 5
        service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 2}})
        with pytest.raises(HistoryChangedError):
            reader.cells(state.id, counter.id, 1, [1])

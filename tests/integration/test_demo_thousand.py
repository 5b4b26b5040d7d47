"""The thousand-run demo, made small, on a real service."""

import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tallyboard_server.cli.demo import thousand
from tallyboard_server.cli.demo.curves import curves
from tallyboard_server.cli.demo.sweeps import steps_done, trials
from tallyboard_server.cli.demo.thousand import fill, go_on
from tallyboard_server.cli.http import Service
from tests.cli_process import tallyboard
from tests.conftest import StartService

RUNS = 60
COLUMNS = "name,status,attempts,refused,counters.global_step,totals.global_step,nonfinite.train/loss,config.lr,owner"


def test_its_runs_are_all_there_and_those_that_run_go_on(start_service: StartService) -> None:
    service = start_service()
    made, now = list(trials(RUNS, 1)), time.time()
    at = Service(service.url)
    assert fill(at, made, 1, now) > 100_000
    rows: dict[str, list[Any]] = {
        row[0]: row for row in service.get(f"/runs?columns={COLUMNS}&limit=100").json()["rows"]
    }
    assert len(rows) == RUNS
    for trial in made:
        _, status, attempts, refused, step, total, nonfinite, lr, owner = rows[trial.name]
        assert (total, lr, owner) == (trial.total, trial.config["lr"], trial.user)
        assert step == (steps_done(trial) if trial.course in ("failed", "lost", "running") else trial.total)
        assert status == {"failed": "failed", "lost": "running", "running": "running"}.get(trial.course, "finished")
        assert attempts == (2 if trial.course == "preempted" else 1)
        assert (refused > 0) == trial.refused
        assert (nonfinite > 0) == (trial.course == "diverged")
    going = [curves(trial, 1, now) for trial in made if trial.course == "running"]
    turns = count(1)

    def enough(_seconds: float) -> None:
        if next(turns) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go_on(at, going, enough)
    for found in going:
        view = service.get(f"/runs/{found.trial.name}").json()
        assert view["counters"]["global_step"]["last_step"] == steps_done(found.trial) + 3


@pytest.mark.slow
def test_it_fills_a_store_and_ends(tmp_path: Path) -> None:
    outcome = tallyboard("demo-thousand", "--once", "--runs", "20", "--port", "0", "--data-dir", str(tmp_path / "new"))
    assert outcome.returncode == 0, outcome.stderr
    assert "wrote 20 runs" in outcome.stdout
    again = tallyboard("demo-thousand", "--once", "--data-dir", str(tmp_path / "new"))
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)


def test_a_busy_service_is_waited_for(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thousand, "_RETRY_S", 0.0)
    service = start_service()
    (trial,) = trials(1, 1)
    busy = iter([1, 1])

    def backlog() -> int:
        return 2**60 if next(busy, None) else 0

    service.parts.ingest.watch_backlog(backlog, "tests")
    assert fill(Service(service.url), [trial], 1, time.time()) > 1_000
    assert next(busy, None) is None

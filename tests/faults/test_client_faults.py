"""Whatever happens between client and service: the values are there, equal, and none twice."""

import random
import time
from pathlib import Path

import pytest

import tallyboard
from tallyboard.delivery import sender
from tallyboard.syncing import sync
from tests.faults.proxy import FAULTS, Fault, proxied
from tests.service import RunningService

REPORTS = 400


def train(run: tallyboard.Run, chance: random.Random) -> dict[str, dict[int, float]]:
    """Report on three counters, go back twice, and now and then let the sender come by. Returns what must be there."""
    truth: dict[str, dict[int, float]] = {"loss": {}, "val": {}, "eval": {}}
    step, epoch, late = run.counter(), run.counter("epoch"), run.counter("eval")
    for i in range(REPORTS):
        step.increment()
        value = chance.random()
        run.log({"loss": value})
        truth["loss"][step.value] = value
        if i % 7 == 0:
            epoch.increment()
            epoch.log({"val": value})
            truth["val"][epoch.value] = value
        if i % 31 == 0:
            late.increment(by=chance.randrange(1, 5))
            late.log({"eval": value})
            truth["eval"][late.value] = value
        if i in (130, 260):
            back = {"global_step": step.value - 50, "epoch": epoch.value - 3}
            run.rewind(back, "diverged")
            truth["loss"] = {s: v for s, v in truth["loss"].items() if s < back["global_step"]}
            truth["val"] = {s: v for s, v in truth["val"].items() if s < back["epoch"]}
        if i % 20 == 0:
            run.flush(timeout_s=0.01)
    return truth


def check(service: RunningService, run: str, truth: dict[str, dict[int, float]]) -> None:
    for tag, points in truth.items():
        assert service.points(run, tag) == sorted(points.items()), tag


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone(service: RunningService, run_name: str, fault: Fault) -> None:
    with proxied(service.port, seed=1, faults=[fault], probability=0.4) as proxy:
        run = tallyboard.init(run_name, url=proxy.url)
        truth = train(run, random.Random(1))
        proxy.faults = ()
        assert run.flush()
        stats = run.stats()
        run.finish()
        assert proxy.met[fault] > 0
    check(service, run_name, truth)
    assert (stats.refused, stats.dropped_reports, stats.waiting) == (0, 0, 0)
    assert stats.accepted == stats.reports


@pytest.mark.parametrize("seed", range(6))
def test_all_faults_together_through_disk_and_memory(
    service: RunningService, run_name: str, seed: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sender, "TICK_S", 0.02)
    if seed % 2:
        monkeypatch.setenv("TALLYBOARD_SPOOL", "always")
    chance = random.Random(seed)
    with proxied(service.port, seed=seed, probability=0.6) as proxy:
        run = tallyboard.init(run_name, url=proxy.url, spool_dir=tmp_path / "spool")
        truth = train(run, chance)
        proxy.cut()
        for _ in range(3):
            run.counter("after").increment()
            run.log({"after": 1.0}, counter="after")
            time.sleep(0.1)
        run.flush(timeout_s=30.0, kept=True)  # which needs the disk, the service being away
        assert any((tmp_path / "spool").rglob("*.seg"))
        proxy.mend()
        run.flush(timeout_s=1.0)
        proxy.faults = ()
        assert run.flush()
        stats = run.stats()
        run.finish()
        assert proxy.met.total() - proxy.met["none"] >= 3
    check(service, run_name, truth | {"after": {1: 1.0, 2: 1.0, 3: 1.0}})
    assert (stats.refused, stats.dropped_reports, stats.waiting) == (0, 0, 0)
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("seed", range(3))
def test_sync_through_the_same_faults(service: RunningService, run_name: str, seed: int, tmp_path: Path) -> None:
    run = tallyboard.init(run_name, mode="offline", spool_dir=tmp_path)
    truth = train(run, random.Random(seed))
    run.finish()
    with proxied(service.port, seed=seed, probability=0.7) as proxy:
        for _ in range(50):
            (result,) = tallyboard.sync(tmp_path, url=proxy.url)
            if result.done:
                break
            assert result.state == "away", result
        assert result.done
    check(service, run_name, truth)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "remedy"),
    [(200, "check TALLYBOARD_URL"), (302, "redirects"), (403, "TALLYBOARD_TOKEN"), (404, "URL"), (421, "URL")],
)
def test_a_page_of_somebody_elses_ends_nothing(
    service: RunningService, run_name: str, status: int, remedy: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with proxied(service.port, faults=["foreign"], probability=1.0) as proxy:
        proxy.foreign_statuses = (status,)
        run = tallyboard.init(run_name, url=proxy.url, spool_dir=tmp_path)
        run.log({"loss": 1.0}, 1)
        assert run.flush(timeout_s=1.0) is False
        assert f"{proxy.url} does not answer as a Tallyboard does (status {status}: <html><title>Please" in caplog.text
        assert caplog.text.count("Please sign in") == 1
        assert remedy in caplog.text
        run.log({"loss": 2.0}, 2)
        assert run.flush(timeout_s=5.0, kept=True)
        proxy.faults = ()
        assert run.flush()
        run.finish()
    assert service.points(run_name, "loss") == [(1, 1.0), (2, 2.0)]


def test_nor_does_it_make_a_run_that_must_be_there_absent(
    service: RunningService, run_name: str, tmp_path: Path
) -> None:
    service.report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
    with proxied(service.port, faults=["foreign"], probability=1.0) as proxy:
        proxy.foreign_statuses = (404,)
        with tallyboard.init(run_name, resume="must", url=proxy.url, spool_dir=tmp_path) as run:
            run.log({"loss": 2.0}, 2)
            proxy.faults = ()
    assert service.points(run_name, "loss") == [(1, 1.0), (2, 2.0)]


def test_sync_leaves_what_a_page_of_somebody_elses_answers(
    service: RunningService, run_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "FIRST_PATIENCE_S", 0.2)
    with tallyboard.init(run_name, mode="offline", spool_dir=tmp_path) as run:
        run.log({"loss": 1.0}, 1)
    with proxied(service.port, faults=["foreign"], probability=1.0) as proxy:
        proxy.foreign_statuses = (403,)
        (away,) = tallyboard.sync(tmp_path, url=proxy.url)
        proxy.faults = ()
        (sent,) = tallyboard.sync(tmp_path, url=proxy.url)
    assert (away.state, away.remaining) == ("away", 1)
    assert "status 403: <html><title>Please sign in</title></html>); something in front of it asks" in away.detail
    assert sent.done
    assert service.points(run_name, "loss") == [(1, 1.0)]

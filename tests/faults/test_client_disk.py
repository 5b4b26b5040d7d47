"""Spools on disks that are full or read-only: training goes on, what there is room for is kept, the rest is counted."""

import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import tallyboard
from tallyboard import start
from tallyboard.collect.sections import Sections
from tallyboard.outbox import spool
from tests.faults.proxy import proxied
from tests.service import RunningService

DISK_BYTES = 1024 * 1024
SCALARS = {f"s{i}": float(i) for i in range(10)}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)],
        capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"mounting a small disk takes rights that this user does not have: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=20)


def log(run: tallyboard.Run, reports: int) -> None:
    """So many reports of ten scalars, in batches of many sizes."""
    step = run.counter()
    for i in range(reports):
        step.increment()
        run.log(SCALARS)
        if i % 1000 == 0:
            run.flush(timeout_s=0.01)


def test_a_full_disk(
    service: RunningService,
    run_name: str,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(start, "Place", partial(spool.Place, free_bytes_min=0, memory_bytes_max=200_000))
    monkeypatch.setattr(spool, "DISK_RETRY_S", 0.1)
    with proxied(service.port, faults=()) as proxy:
        run = tallyboard.init(run_name, url=proxy.url, spool_dir=disk / "spool", strict=True)
        proxy.cut()
        log(run, 40_000)  # about 4 MB of values
        assert "No space left on device" in caplog.text
        assert sum(file.stat().st_size for file in disk.rglob("*.seg")) > DISK_BYTES / 2
        proxy.mend()
        assert run.flush()
        stats = run.stats()
        run.finish()
    assert (stats.waiting, stats.dropped_reports, stats.accepted) == (0, 0, 40_000)  # the rest waited in memory
    assert [step for step, _ in service.points(run_name, "s3")] == list(range(1, 40_001))
    assert list((disk / "spool").iterdir()) == []


def test_what_does_not_fit_anywhere_is_dropped_counted_and_said(
    service: RunningService,
    run_name: str,
    disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(start, "Place", partial(spool.Place, free_bytes_min=0, memory_bytes_max=200_000))
    monkeypatch.setattr(start, "Sections", partial(Sections, bytes_max=400_000))
    with proxied(service.port, faults=()) as proxy:
        run = tallyboard.init(run_name, url=proxy.url, spool_dir=disk / "spool", exit_timeout_s=0.5)
        proxy.cut()
        log(run, 100_000)
        run.finish()
    stats = run.stats()
    assert stats.dropped_reports > 10_000
    assert stats.reports + stats.dropped_reports == 100_000
    assert "the newest reports are dropped" in caplog.text
    lost = int(caplog.text.partition(" NOT sent and lost")[0].rpartition(" ")[2].replace(",", ""))
    (result,) = tallyboard.sync(disk / "spool", url=service.url)
    assert result.state == "sent"
    assert result.reports + lost == stats.waiting
    steps = [step for step, _ in service.points(run_name, "s3")]
    assert len(steps) == result.reports
    assert steps == sorted(set(steps))


def test_a_read_only_disk(service: RunningService, run_name: str, disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=20)
    with proxied(service.port, faults=()) as proxy:
        run = tallyboard.init(run_name, url=proxy.url, spool_dir=disk / "spool", strict=True)
        proxy.cut()
        log(run, 3_000)
        deadline = time.monotonic() + 20.0
        while "Read-only file system" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "Read-only file system" in caplog.text
        proxy.mend()
        assert run.flush()
        run.finish()
    assert len(service.points(run_name, "s0")) == 3_000


def test_an_offline_run_on_a_disk_that_takes_nothing_says_that_it_is_lost(
    run_name: str, disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=20)
    run = tallyboard.init(run_name, mode="offline", spool_dir=disk / "spool", exit_timeout_s=0.2)
    log(run, 100)
    assert run.flush(timeout_s=0.2) is False
    run.finish()
    assert "100 NOT sent and lost" in caplog.text

"""What a job may lose when the worst happens to it, its disk or its service, and what it never does."""

import signal
import threading
from pathlib import Path

import pytest

import tallyboard
from tallyboard.delivery import sender
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.spooldir import SpoolDir, stream_dirs
from tallyboard.outbox.stream import Stream
from tallyboard_server.cli.demo.process import free_port
from tallyboard_server.settings import Settings
from tests.client_script import Script
from tests.faults.proxy import proxied
from tests.service import RunningService, serving, until

NOBODY = "http://127.0.0.1:9"
pytestmark = pytest.mark.usefixtures("no_run_left")


# ── SIGKILL ──────────────────────────────────────────────────────────────────────────────────────────────────────

TRAINING = """
    import time, tallyboard
    run = tallyboard.init()
    for step in range(100):
        run.log({"loss": float(step)}, step)
    print("logged", flush=True)
    time.sleep(60)
"""


def reports_on_disk(spool: Path) -> int:
    """Reports in all streams, read beside the job that writes them."""
    found = 0
    for folder in stream_dirs(spool):
        stream: Stream = folder.load()
        found += DiskSpool(SpoolDir(folder.path), stream, None, None).survey().reports  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("policy", ["spill", "always"])
def test_what_a_killed_job_had_on_disk_is_sent_by_sync(
    tmp_path: Path, service: RunningService, run_name: str, policy: str
) -> None:
    spool = tmp_path / "spool"
    environ = {"TALLYBOARD_URL": NOBODY, "TALLYBOARD_RUN": run_name, "TALLYBOARD_SPOOL_DIR": str(spool)}
    with Script(tmp_path / "train.py", environ).started(TRAINING, TALLYBOARD_SPOOL=policy) as process:
        assert until(lambda: reports_on_disk(spool) == 100)  # by itself, in TICK_S, and SPILL_AFTER_S if it spills
        process.send_signal(signal.SIGKILL)
        process.wait()
    (result,) = tallyboard.sync(spool, url=service.url)
    assert (result.state, result.reports) == ("sent", 100)
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(100)]


def test_with_the_spool_off_nothing_is_ever_written(tmp_path: Path, run_name: str) -> None:
    spool = tmp_path / "spool"
    environ = {"TALLYBOARD_URL": NOBODY, "TALLYBOARD_RUN": run_name, "TALLYBOARD_SPOOL_DIR": str(spool)}
    done = Script(tmp_path / "train.py", environ).run(
        """
        import tallyboard
        run = tallyboard.init(exit_timeout_s=0.5)
        run.log({"loss": 1.0})
        """,
        TALLYBOARD_SPOOL="off",
    )
    assert done.returncode == 0
    assert "1 NOT sent and lost" in done.stderr
    assert not spool.exists()


# ── the disk ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_end_is_bounded_when_the_disk_hangs(
    tmp_path: Path, run_name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hangs, real = threading.Event(), DiskSpool.append

    def hanging(self: DiskSpool, parcel: object) -> None:
        hangs.wait(60.0)
        real(self, parcel)  # type: ignore[arg-type]

    monkeypatch.setattr(DiskSpool, "append", hanging)
    monkeypatch.setattr(sender, "PUT_AWAY_S", 0.5)
    run = tallyboard.init(run_name, mode="offline", spool_dir=tmp_path, exit_timeout_s=0.5)
    run.log({"loss": 1.0})
    run.finish()
    assert not hangs.is_set()
    assert "1 NOT sent and lost: neither the server nor the disk took them in time" in caplog.text
    hangs.set()
    assert until(lambda: all(thread.name != "tallyboard-sender" for thread in threading.enumerate()))


# ── the service ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_service_has_forgotten_is_told_and_a_new_producer_goes_on(
    tmp_path: Path, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port("127.0.0.1")
    with serving(Settings(data_dir=tmp_path / "data", port=port)) as service:
        run = tallyboard.init(run_name, url=service.url, config={"lr": 0.1}, spool_dir=tmp_path / "spool")
        for step in range(50):
            run.log({"loss": float(step)}, step)
        assert run.flush()
    with serving(Settings(data_dir=tmp_path / "older", port=port)) as service:
        for step in range(50, 100):
            run.log({"loss": float(step)}, step)
        assert run.flush()
        run.finish()
        assert service.points(run_name, "loss") == [(i, float(i)) for i in range(50, 100)]
        told = service.get(f"/runs/{run_name}").json()
    assert (told["status"], told["config"]) == ("finished", {"lr": 0.1})
    assert "that it had acknowledged: was an older copy of its data restored?" in caplog.text


def test_a_resume_that_comes_late_takes_nothing_from_the_job_that_went_on(
    service: RunningService, run_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with tallyboard.init(run_name, url=service.url) as before:
        for step in range(1, 11):
            before.log({"loss": 0.0}, step)
    newer_job = """
        import tallyboard
        with tallyboard.init(resume="must", next_steps={"global_step": 5}, strict=True) as run:
            for step in range(5, 21):
                run.log({"loss": 2.0}, step)
    """
    environ = {"TALLYBOARD_URL": service.url, "TALLYBOARD_RUN": run_name}
    with proxied(service.port, faults=()) as proxy:
        proxy.cut()
        late = tallyboard.init(
            run_name, resume="continue", next_steps={"global_step": 8}, url=proxy.url, spool_dir=tmp_path / "spool"
        )
        for step in range(8, 13):
            late.log({"loss": 1.0}, step)
        assert late.flush(kept=True)
        done = Script(tmp_path / "newer.py", environ).run(newer_job)
        assert done.returncode == 0, done.stderr
        proxy.mend()
        assert late.flush() is False
        late.finish()
    curve = [(step, 0.0) for step in range(1, 5)] + [(step, 2.0) for step in range(5, 21)]
    assert service.points(run_name, "loss") == curve
    assert "began later and has gone on with global_step, while this job could not reach the server" in caplog.text
    assert "tallyboard sync --as-new" in caplog.text
    (held,) = tallyboard.sync(tmp_path / "spool", url=service.url)
    assert (held.state, held.remaining) == ("held", 5)
    (sent,) = tallyboard.sync(tmp_path / "spool", url=service.url, as_new=True)
    assert (sent.state, sent.run) == ("sent", f"{run_name}-2")
    assert service.points(sent.run, "loss") == [(step, 1.0) for step in range(8, 13)]
    assert service.points(run_name, "loss") == curve

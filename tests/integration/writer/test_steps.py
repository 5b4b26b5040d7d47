"""SummaryWriter and steps: counted for each tag, or on shared counters; back only by purge_step."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tallyboard
from tallyboard import SummaryWriter
from tallyboard.errors import ConfigurationError, InvalidReportError, StepDecreasedError, TagOfOtherCounterError
from tests.service import RunningService
from tests.writer_kit import described


def test_epochs_and_batches_through_one_writer(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        for epoch in range(3):
            for batch in range(5):
                writer.add_scalar("train/loss", 1.0, 5 * epoch + batch)
            writer.add_scalar("val/loss", 2.0, epoch)
    assert [step for step, _ in service.points(run_name, "train/loss")] == list(range(15))
    assert [step for step, _ in service.points(run_name, "val/loss")] == [0, 1, 2]
    assert described(service, run_name)["counters"] == {}


def test_no_step_counts_on_instead_of_meaning_zero(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        for _ in range(3):
            writer.add_scalar("loss", 1.0)
            writer.add_text("text", "a")
        writer.add_scalar("loss", 1.0, 10)
        writer.add_scalar("loss", 1.0)
    assert [step for step, _ in service.points(run_name, "loss")] == [0, 1, 2, 10, 11]
    assert described(service, run_name)["tag_counters"]["text/text_summary"]["last_step"] == 2


def test_a_step_that_goes_back_is_refused_counted_and_told_once(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with SummaryWriter(run_name) as writer:
        for step in (0, 1, 2, 9, 3, 4, 10):
            writer.add_scalar("loss", float(step), step)
        run = writer.run
    assert [step for step, _ in service.points(run_name, "loss")] == [0, 1, 2, 9, 10]
    assert (run.stats().refused, run.stats().violations) == (2, 2)
    assert caplog.text.count("goes back") == 1
    assert __file__ in caplog.text
    refused = service.get(f"/refused/{run_name}").json()["refused"]
    assert {(one["refusal"]["reason"], one["refusal"]["step"]) for one in refused} == {
        ("step_decreased", 3),
        ("step_decreased", 4),
    }


def test_a_strict_writer_raises_on_the_line(run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        writer.add_scalar("loss", 1.0, 5)
        with pytest.raises(StepDecreasedError):
            writer.add_scalar("loss", 1.0, 4)
        with pytest.raises(InvalidReportError):
            writer.add_image("image", np.zeros(3), 1)
        with pytest.raises(InvalidReportError):
            writer.add_scalar("loss", "much", 6)


def test_shared_counters_bring_the_whole_contract(service: RunningService, run_name: str) -> None:
    counters = {"val/*": "epoch", "*": "global_step"}
    with SummaryWriter(run_name, counters=counters, strict=True) as writer:
        step = writer.run.counter("global_step", total=6)
        for epoch in range(2):
            for _ in range(3):
                step.increment()
                writer.add_scalar("train/loss", 1.0)
                writer.add_scalars("train/parts", {"a": 1.0, "b": 2.0})
            writer.add_scalar("val/loss", 2.0, epoch)
            writer.add_histogram("weights", np.arange(4.0))
        writer.add_custom_scalars({"x": {"y": ["Multiline", ["train/loss"]]}})
        with pytest.raises(StepDecreasedError):
            writer.add_scalar("train/other", 1.0, 2)
        with pytest.raises(TagOfOtherCounterError):
            writer.run.log({"val/loss": 1.0}, 7, counter="global_step")
    told = described(service, run_name)
    assert {name: counter["last_step"] for name, counter in told["counters"].items()} == {"global_step": 6, "epoch": 1}
    assert list(told["tag_counters"]) == ["custom_scalars__config__"]
    assert [step for step, _ in service.points(run_name, "train/parts/b")] == [1, 2, 3, 4, 5, 6]


def test_purge_step_is_a_rewind(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        for step in range(10):
            writer.add_scalar("loss", 1.0, step)
            writer.add_scalar("few", 1.0, step // 4)
            writer.add_text("text", f"text {step}", step)
    with SummaryWriter(run_name, purge_step=6, strict=True) as writer:
        assert writer.run.name == run_name
        writer.add_scalar("loss", 2.0)
        writer.add_scalar("loss", 2.0, 8)
        writer.add_text("text", "anew", 6)
    assert service.points(run_name, "loss") == [*((step, 1.0) for step in range(6)), (6, 2.0), (8, 2.0)]
    assert service.points(run_name, "few") == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert described(service, run_name)["tag_counters"]["text/text_summary"] == {"last_step": 6, "attempt": 2}


def test_purge_step_from_another_process_and_on_shared_counters(service: RunningService, run_name: str) -> None:
    script = """
import sys
from tallyboard import SummaryWriter
purge, first = eval(sys.argv[1]), int(sys.argv[2])
with SummaryWriter("NAME", purge_step=purge, counters={"val/*": "epoch", "*": "global_step"}, strict=True) as writer:
    for step in range(first, first + 4):
        writer.add_scalar("loss", float(first), step)
    writer.add_scalar("val/loss", 1.0, 3 + first)
""".replace("NAME", run_name)
    for arguments in (("None", "0"), ("2", "2"), ("{'global_step': 4, 'epoch': 5}", "4")):
        subprocess.run([sys.executable, "-c", script, *arguments], timeout=60, check=True, capture_output=True)
    loss = [(0, 0.0), (1, 0.0), (2, 2.0), (3, 2.0), (4, 4.0), (5, 4.0), (6, 4.0), (7, 4.0)]
    assert service.points(run_name, "loss") == loss
    assert [step for step, _ in service.points(run_name, "val/loss")] == [3, 7]


def test_a_purge_step_that_is_none_is_told(run_name: str) -> None:
    with pytest.raises(ConfigurationError):
        SummaryWriter(run_name, purge_step=-1)


def test_a_purge_that_waited_takes_nothing_from_a_job_that_went_on(
    service: RunningService, run_name: str, tmp_path: Path
) -> None:
    SummaryWriter(run_name, strict=True).close()
    script = f"""
from tallyboard import SummaryWriter
with SummaryWriter({run_name!r}, purge_step=0, mode="offline", spool_dir={str(tmp_path)!r}) as writer:
    writer.add_scalar("loss", 1.0, 0)
"""
    subprocess.run([sys.executable, "-c", script], timeout=60, check=True, capture_output=True)
    with SummaryWriter(run_name, purge_step=0, strict=True) as later:
        later.add_scalar("loss", 2.0, 0)
    (result,) = tallyboard.sync(tmp_path, url=service.url)
    assert not result.done
    assert "began later" in result.detail
    assert service.points(run_name, "loss") == [(0, 2.0)]


def test_a_job_that_is_preempted_puts_every_writers_reports_away(
    service: RunningService, run_name: str, tmp_path: Path
) -> None:
    script = f"""
import os, signal, time
from tallyboard import SummaryWriter
spool = {str(tmp_path / "spool")!r}
writers = [SummaryWriter({run_name!r} + f"/{{i}}", spool_dir=spool, url="http://127.0.0.1:9") for i in range(3)]
for writer in writers:
    writer.add_scalar("loss", 1.0, 0)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(30)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False, capture_output=True)
    assert done.returncode == -15, done.stderr
    assert {result.state for result in tallyboard.sync(tmp_path / "spool", url=service.url)} == {"sent"}
    for i in range(3):
        assert service.points(f"{run_name}/{i}", "loss") == [(0, 1.0)]
        assert "SIGTERM" in described(service, f"{run_name}/{i}")["summary"]["preempted"]

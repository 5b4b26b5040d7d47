"""SummaryWriter and runs: which logdir becomes which run, and when it ends."""

import subprocess
import sys
from pathlib import Path

import pytest

import tallyboard
from tallyboard import SummaryWriter, lifecycle
from tallyboard.errors import ConfigurationError
from tests.service import RunningService
from tests.writer_kit import described


def test_a_logdir_becomes_a_run_and_no_file_is_written(service: RunningService, run_name: str, tmp_path: Path) -> None:
    with SummaryWriter(f"runs/{run_name}") as writer:
        writer.add_scalar("loss", 0.5, 3)
        assert writer.run.name == run_name
    assert service.points(run_name, "loss") == [(3, 0.5)]
    assert described(service, run_name)["status"] == "finished"
    assert list(tmp_path.rglob("*events*")) == []
    assert not (tmp_path / "runs").exists()


def test_scripts_that_put_files_into_the_logdir_find_it(run_name: str) -> None:
    with SummaryWriter(log_dir=Path("runs") / run_name) as writer:
        assert writer.log_dir == writer.logdir == writer.get_logdir() == f"runs/{run_name}"
        assert writer.file_writer.get_logdir() == writer.logdir
        assert Path(writer.logdir).is_dir()
        assert list(writer.all_writers) == [writer.logdir]


def test_a_logdir_that_can_not_be_made_harms_nobody(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    Path("runs").write_text("a file")
    with SummaryWriter(f"runs/{run_name}") as writer:
        assert writer.logdir == f"runs/{run_name}"
        writer.add_scalar("loss", 1.0, 1)
    assert service.points(run_name, "loss") == [(1, 1.0)]
    assert "can't make" in caplog.text


def test_without_a_logdir_the_script_and_the_time_name_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/home/me/train.py"])
    with SummaryWriter(comment="_lr0.1") as one, SummaryWriter(comment="_lr0.1") as other:
        assert one.run.name.startswith("train/")
        assert "_lr0.1" in one.run.name
        assert one.run is not other.run  # in the same second, and still a run of its own each
        assert one.run.name != other.run.name


def test_a_name_of_its_own_wins_over_the_logdir(run_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with SummaryWriter("runs/whatever", run=run_name) as writer:
        assert writer.run.name == run_name
    monkeypatch.setenv("TALLYBOARD_RUN", f"{run_name}/from-outside")
    with SummaryWriter() as writer:
        assert writer.run.name == f"{run_name}/from-outside"
    with pytest.raises(ConfigurationError):
        SummaryWriter(run="/no name")


def test_several_writers_stand_beside_each_other_and_beside_init(service: RunningService, run_name: str) -> None:
    run = tallyboard.init(f"{run_name}/own", strict=True)
    train, test = SummaryWriter(f"{run_name}/train"), SummaryWriter(f"{run_name}/test")
    for step in range(3):
        train.add_scalar("loss", 1.0, step)
        test.add_scalar("loss", 2.0, step)
        run.log({"loss": 3.0}, step)
    train.close()
    test.add_scalar("loss", 2.0, 3)
    lifecycle.finish_all()  # what an exit does
    for name, points in (("train", 3), ("test", 4), ("own", 3)):
        assert len(service.points(f"{run_name}/{name}", "loss")) == points
        assert described(service, f"{run_name}/{name}")["status"] == "finished"


def test_writers_of_one_process_on_one_logdir_write_one_run(service: RunningService, run_name: str) -> None:
    one, other = SummaryWriter(run_name, strict=True), SummaryWriter(f"./{run_name}/", strict=True)
    one.add_scalar("a", 1.0, 0)
    other.add_scalar("b", 2.0, 0)
    assert one.run is other.run
    one.close()
    other.add_scalar("b", 3.0, 1)
    other.close()
    assert (service.points(run_name, "a"), service.points(run_name, "b")) == ([(0, 1.0)], [(0, 2.0), (1, 3.0)])


def test_a_closed_writer_goes_on_where_it_was(service: RunningService, run_name: str) -> None:
    writer = SummaryWriter(run_name, strict=True)
    for epoch in range(3):
        writer.add_scalar("loss", 1.0, epoch)
        writer.add_scalar("counted", 2.0)
        writer.close()
    with SummaryWriter(run_name, strict=True) as again:
        again.add_scalar("counted", 3.0)
    assert [step for step, _ in service.points(run_name, "loss")] == [0, 1, 2]
    assert service.points(run_name, "counted") == [(0, 2.0), (1, 2.0), (2, 2.0), (3, 3.0)]
    assert service.get(f"/runs/{run_name}-2").status == 404


def test_another_process_begins_a_run_of_its_own(service: RunningService, run_name: str) -> None:
    script = (
        f"from tallyboard import SummaryWriter\nwith SummaryWriter({run_name!r}) as w: w.add_scalar('loss', 1.0, 5)"
    )
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "exists; this one is" in done.stderr
    assert service.points(run_name, "loss") == service.points(f"{run_name}-2", "loss") == [(5, 1.0)]


def test_a_script_that_closes_nothing_loses_nothing(service: RunningService, run_name: str) -> None:
    script = f"""
from tallyboard import SummaryWriter
train, test = SummaryWriter({run_name + "/train"!r}), SummaryWriter({run_name + "/test"!r})
for step in range(100):
    train.add_scalar("loss", step, step)
    test.add_scalar("loss", -step, step)
raise RuntimeError("out of memory")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    for name in ("train", "test"):
        assert len(service.points(f"{run_name}/{name}", "loss")) == 100
        told = described(service, f"{run_name}/{name}")
        assert told["status"] == "failed"
        assert "out of memory" in told["summary"]["exception"]


def test_an_exception_inside_the_block_is_the_runs_end(service: RunningService, run_name: str) -> None:
    def train() -> None:
        with SummaryWriter(run_name) as writer:
            writer.add_scalar("loss", 1.0, 1)
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        train()
    assert described(service, run_name)["status"] == "failed"


def test_write_to_disk_false_and_ranks_report_nothing(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SummaryWriter(run_name, write_to_disk=False) as writer:
        writer.add_scalar("loss", 1.0, 1)
        writer.add_text("text", "a", 1)
    monkeypatch.setenv("RANK", "3")
    with SummaryWriter(run_name) as writer:
        writer.add_scalar("loss", 1.0, 1)
        writer.add_hparams({"lr": 1}, {"a": 1.0})
    assert service.get(f"/runs/{run_name}").status == 404

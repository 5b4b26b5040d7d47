"""Scripts written for wandb, run with the import alone changed, against a real service: all values are found."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tallyboard
from tests.cli_process import clean
from tests.client_script import LIMIT_S, Script
from tests.service import RunningService
from tests.writer_kit import described, kinds

SCRIPTS = Path(__file__).parents[1] / "wandb_scripts"


def ran(
    service: RunningService, folder: Path, name: str, *arguments: str, **environ: str
) -> "subprocess.CompletedProcess[str]":
    """The script of that name, run to its end; nothing of it may have been refused or dropped."""
    source = (SCRIPTS / f"{name}.py").read_text()
    assert source.count("\nimport wandb\n") == 1
    script = folder / f"{name}.py"
    script.write_text(source.replace("\nimport wandb\n", "\nfrom tallyboard.integrations import wandb\n"))
    environment = clean({"TALLYBOARD_URL": service.url, "MPLCONFIGDIR": str(folder), **environ})
    done = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=folder, capture_output=True, text=True, timeout=100,
        env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_quickstart(service: RunningService, tmp_path: Path) -> None:
    done = ran(service, tmp_path, "quickstart", "--batch-size=32")
    assert done.stdout == "True resnet baseline 5 3\n"
    run = "pets/resnet baseline"
    assert [step for step, _ in service.points(run, "loss")] == [0, 1, 2, 3, 4]
    assert service.points(run, "epoch") == [(i, float(i)) for i in range(5)]
    assert service.points(run, "lr")[4] == (4, 0.02 / 5)
    told = described(service, run)
    assert told["config"] == {
        "learning_rate": 0.02, "architecture": "CNN", "epochs": 5, "batch_size": 32, "dropout": 0.2,
    }  # fmt: skip
    assert told["summary"] == {
        "best_accuracy": max(value for _, value in service.points(run, "accuracy")),
        "done": True,
    }
    assert (told["group"], told["notes"], told["status"]) == ("resnets", "first try", "finished")
    assert told["tags"] == ["baseline", "paper1", "job_type:train"]
    assert "not used here: save_code" in done.stderr
    assert " 0 refused, 0 dropped" in done.stderr


def test_step_metrics_are_counters(service: RunningService, tmp_path: Path) -> None:
    done = ran(service, tmp_path, "custom_axes")
    assert done.stdout == "0.3 {'min': 0.25} 28\n"
    run = "axes/custom"
    assert [step for step, _ in service.points(run, "train.loss")] == [s for s in range(28) if s % 7 < 5]
    assert {value for _, value in service.points(run, "train.time.fwd")} == {0.5}
    assert service.points(run, "epoch") == [(5, 0.0), (12, 1.0), (19, 2.0), (26, 3.0)]
    assert service.points(run, "val/acc") == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert service.points(run, "env/reward") == [(4096 * (i + 1), float(i)) for i in range(4)]
    told = described(service, run)
    assert {name: counter["last_step"] for name, counter in told["counters"].items() if name != "system"} == {
        "global_step": 27, "epoch": 3, "env/frames": 16_384,
    }  # fmt: skip
    assert told["summary"] == {
        "val/loss": {"min": 0.25}, "val/acc": {"max": 0.3, "last": 0.3, "mean": pytest.approx(0.15)},
    }  # fmt: skip
    along = service.get(f"/scalars?run={run}&tag=val/acc&x=global_step").json()["series"][0]
    assert (along["x_source"], along["points"]["x"]) == ("recorded", [5, 12, 19, 26])
    along = service.get(f"/scalars?run={run}&tag=train.loss&x=epoch").json()["series"][0]
    assert along["points"]["x"][-1] == 2  # no batch after the last evaluation
    assert " 0 refused, 0 dropped" in done.stderr


def test_steps_are_filled_in_and_the_last_value_stays(service: RunningService, tmp_path: Path) -> None:
    done = ran(service, tmp_path, "steps")
    assert done.stdout == "40 abc123 True True\n"
    run = "steps/abc123"
    assert service.points(run, "train/loss") == [(0, 1.0), (10, 0.9), (20, 0.8)]
    assert service.points(run, "train/acc") == [(0, 0.0), (10, 0.1), (20, 0.2)]
    assert service.points(run, "epoch_loss") == [(30, 3.0)]
    assert service.points(run, "a") + service.points(run, "b") == [(30, 1.0), (30, 2.0)]
    assert service.points(run, "c") == [(31, 1.5), (32, 2.5)]
    assert service.points(run, "flag") == [(31, 1.0)]
    assert service.points(run, "nan") == [(31, "NaN")]
    assert service.points(run, "last") == [(40, 1.0)]  # under way when the script ended
    assert service.points(run, "none") == service.points(run, "tokens") == []
    told = described(service, run)
    assert (told["summary"], told["notes"]) == ({"message": "done"}, "any name")
    assert [path.name for path in tmp_path.glob("wandb/run-*-abc123/files/*")] == ["model.txt"]
    for notice in ("texts go into the summary", "'tokens' is left out: list", "wandb.save does nothing", "under way"):
        assert done.stderr.count(notice) == 1, done.stderr
    assert " 0 refused, 0 dropped" in done.stderr


def test_pictures_and_histograms_are_kept_and_the_rest_is_told(service: RunningService, tmp_path: Path) -> None:
    done = ran(service, tmp_path, "media")
    run = "media/all kinds"
    assert dict(kinds(service, run)) == {
        "examples/0": "images", "examples/1": "images", "examples/2": "images", "gray": "images", "pil": "images",
        "chart": "images", "gradients": "histograms", "counted": "histograms", "weights": "histograms",
    }  # fmt: skip
    assert [step for step, _ in service.points(run, "loss")] == [0, 1]
    assert described(service, run)["status"] == "failed"
    for notice in (
        "wandb.watch does nothing", "'predictions' is left out: Table",
        "'video' is left out", "'pr' is left out", "wandb.Artifact does nothing", "wandb.run.log_artifact does nothing",
    ):  # fmt: skip
        assert done.stderr.count(notice) == 1, (notice, done.stderr)
    assert " 0 refused, 0 dropped" in done.stderr


def test_a_job_with_an_id_goes_on_where_it_stood(service: RunningService, tmp_path: Path) -> None:
    first, second = (ran(service, tmp_path, "resumed", part) for part in "12")
    assert (first.stdout, second.stdout) == ("False\n", "True\n")
    assert service.points("resumed/job-7", "loss") == [(step, 1.0) for step in (0, 1, 2, 4, 5, 6)]
    assert service.points("resumed/job-7", "part") == [(3, 1.0), (7, 2.0)]
    assert " 0 refused, 0 dropped" in second.stderr


@pytest.mark.parametrize("mode", ["online", "offline", "dryrun", "disabled"])
def test_project_name_and_mode_of_the_environment(service: RunningService, tmp_path: Path, mode: str) -> None:
    environ = {"WANDB_MODE": mode, "WANDB_PROJECT": "told", "WANDB_NAME": f"as {mode}"}
    ran(service, tmp_path, "environment", **environ, TALLYBOARD_SPOOL_DIR=str(tmp_path / "spool"))
    points = [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert service.points(f"told/as {mode}", "i") == (points if mode == "online" else [])
    tallyboard.sync(tmp_path / "spool", url=service.url)
    assert service.points(f"told/as {mode}", "i") == ([] if mode == "disabled" else points)


def test_sigterm_sends_the_step_under_way(service: RunningService, tmp_path: Path) -> None:
    script = Script(tmp_path / "train.py", {"TALLYBOARD_URL": service.url})
    code = """
        import time
        from tallyboard.integrations import wandb
        wandb.init(project="ends", name="sigterm")
        wandb.define_metric("loss", summary="min")
        wandb.log({"loss": 1.0}, step=7)
        print("training", flush=True)
        time.sleep(60)
    """
    with script.started(code) as process:
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == -signal.SIGTERM
    assert service.points("ends/sigterm", "loss") == [(7, 1.0)]
    summary = described(service, "ends/sigterm")["summary"]
    assert summary["loss"] == {"min": 1.0}
    assert summary["preempted"].startswith("SIGTERM on ")


def test_a_forked_child_neither_hangs_nor_sends(service: RunningService, tmp_path: Path) -> None:
    """Children come while a thread of the parent logs, and may hold what the child then needs."""
    done = Script(tmp_path / "train.py", {"TALLYBOARD_URL": service.url}).run("""
        import os, threading, warnings
        warnings.simplefilter("ignore")
        from tallyboard.integrations import wandb
        run = wandb.init(project="ends", name="fork")
        stop = threading.Event()
        def work():
            while not stop.is_set():
                wandb.log({"thread": 1.0}, commit=False)
        thread = threading.Thread(target=work)
        thread.start()
        for step in range(50):
            wandb.log({"loss": 1.0}, step=step)
            child = os.fork()
            if not child:
                wandb.log({"loss": 2.0, "text": "x", "list": [step]})
                wandb.finish()
                own = wandb.init(project="ends", name="child", mode="disabled")
                own.log({"loss": 2.0})
                wandb.finish()
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        stop.set()
        thread.join()
    """)
    assert done.returncode == 0, done.stderr
    assert service.points("ends/fork", "loss") == [(step, 1.0) for step in range(50)]
    assert service.get("/runs/ends/child").status == 404

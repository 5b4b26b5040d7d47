"""SummaryWriter against a real service: what the scripts of its users do is there, and its model's bugs are not."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX import SummaryWriter as TensorboardX

import tallyboard
from tallyboard import SummaryWriter, lifecycle
from tallyboard.errors import ConfigurationError, InvalidReportError, StepDecreasedError, TagOfOtherCounterError
from tests.service import RunningService


@pytest.fixture(autouse=True)
def _elsewhere(service: RunningService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TALLYBOARD_URL", service.url)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    lifecycle.finish_all()


def described(service: RunningService, run: str) -> dict[str, Any]:
    answer = service.get(f"/runs/{run}")
    assert answer.status == 200, answer.body
    document = answer.json()
    assert isinstance(document, dict)
    return document


def kinds(service: RunningService, run: str) -> Mapping[str, str]:
    found = described(service, run)["kinds"]
    assert isinstance(found, dict)
    return found


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── what is not inherited ────────────────────────────────────────────────────────────────────────────────────────


def test_wall_times_are_never_zero(service: RunningService, run_name: str) -> None:
    before = time.time()
    with SummaryWriter(run_name, strict=True) as writer:
        with writer.use_metadata(global_step=7):  # here tensorboardX forgets the time
            writer.add_scalar("a", 1.0)
            writer.add_text("text", "a")
        with writer.use_metadata(walltime=1_700_000_000.5):
            writer.add_scalar("b", 1.0, 3)
            writer.add_scalar("b", 1.0, 4, walltime=1_700_000_001.5)
        writer.add_scalar("c", 1.0, 1, 1_700_000_002)
        writer.add_scalars("d", {"x": 1.0}, 1, walltime=1_700_000_003)
    times = {
        tag: service.get(f"/scalars?run={run_name}&tag={tag}").json()["series"][0]["points"]["wall_time"]
        for tag in ("a", "b", "c", "d/x")
    }
    assert before <= times["a"][0] <= time.time()
    assert service.points(run_name, "a") == [(7, 1.0)]
    assert times["b"] == [1_700_000_000.5, 1_700_000_001.5]
    assert (times["c"], times["d/x"]) == ([1_700_000_002.0], [1_700_000_003.0])
    assert described(service, run_name)["tag_counters"]["text/text_summary"]["last_step"] == 7


def test_tags_keep_their_letters(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        writer.add_scalar("acc@1 (top)", 1.0, 1)
        writer.add_scalar("acc#1 (top)", 2.0, 1)
        writer.add_histogram("weights (all)", np.arange(3.0), 1)
        writer.add_image("größe/bild 1", np.zeros((3, 2, 2)), 1)
        writer.add_scalar("line\nbreak", 3.0, 1)
    assert service.points(run_name, "acc@1 (top)") == [(1, 1.0)]
    assert service.points(run_name, "line_break") == [(1, 3.0)]
    assert kinds(service, run_name) == {"weights (all)": "histograms", "größe/bild 1": "images"}


def test_many_writers_in_one_second_lose_nothing(service: RunningService, run_name: str) -> None:
    def write(index: int) -> None:
        for step in range(20):
            writers[index].add_scalar(f"tag{index}", float(step), step)

    writers = [SummaryWriter(run_name, strict=True) for _ in range(8)]
    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.close()
    assert all(len(service.points(run_name, f"tag{i}")) == 20 for i in range(8))


def test_nothing_blocks_while_the_service_is_away(run_name: str, tmp_path: Path) -> None:
    """A writer whose thread can write nothing: tensorboardX's add_scalar and close would wait for ever."""
    writer = SummaryWriter(run_name, url="http://127.0.0.1:9", exit_timeout_s=0.5)
    finished = threading.Event()

    def train() -> None:
        for step in range(5_000):
            writer.add_scalar("loss", 1.0, step)
        writer.add_image("image", np.zeros((3, 8, 8)), 0)
        writer.flush()
        writer.close()
        finished.set()

    threading.Thread(target=train, daemon=True).start()
    assert finished.wait(60.0)
    assert len(list((tmp_path / "state").rglob("*.json"))) > 0  # what waits for `tallyboard sync`


def test_what_waited_offline_is_sent_by_sync(service: RunningService, run_name: str, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    with SummaryWriter(run_name, mode="offline", spool_dir=spool, strict=True) as writer:
        for step in range(3):
            writer.add_scalar("loss", float(step), step)
            writer.add_image("image", np.full((3, 4, 4), step / 3), step)
    assert service.get(f"/runs/{run_name}").status == 404
    tallyboard.sync(spool, url=service.url)
    assert service.points(run_name, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert described(service, run_name)["tag_counters"]["image"]["last_step"] == 2


def test_a_forked_child_harms_nobody(service: RunningService, run_name: str) -> None:
    script = f"""
import os
from tallyboard import SummaryWriter
writer = SummaryWriter({run_name!r})
writer.add_scalar("loss", 1.0, 0)
child = os.fork()
writer.add_scalar("loss", 2.0, 1)
if not child:
    with SummaryWriter({run_name + "/child"!r}) as own:
        own.add_scalar("loss", 3.0, 0)
    os._exit(0)
os.waitpid(child, 0)
writer.close()
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60, check=True, capture_output=True)
    assert service.points(run_name, "loss") == [(0, 1.0), (1, 2.0)]
    assert service.points(f"{run_name}/child", "loss") == [(0, 3.0)]


# ── hyperparameters ──────────────────────────────────────────────────────────────────────────────────────────────


def test_hyperparameters_are_config_and_metrics_are_summary(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, config={"given": 1}, strict=True) as writer:
        hparams = {"lr": 0.1, "opt": "adam", "deep": True, "none": None, "fn": len, "n": np.int64(3)}
        writer.add_hparams(hparams, {"acc": 0.9, "loss": np.float32(0.5)}, name="trial")
        writer.add_hparams(hparams, {"acc": 0.95}, global_step=2)
    told = described(service, run_name)
    assert told["config"] == {"given": 1, "lr": 0.1, "opt": "adam", "deep": True, "fn": "len", "n": 3}
    assert told["summary"] == {"acc": 0.95, "loss": 0.5}
    assert service.get(f"/runs/{run_name}/trial").status == 404  # no run beside it


def test_further_trials_are_runs_below_it(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        for i in range(3):
            writer.add_hparams({"lr": 0.1 * i}, {"acc": 10.0 * i}, {"lr": [0.1]}, "third" if i == 2 else None, i)
    configs = {name: described(service, f"{run_name}{name}") for name in ("", "/hparams-2", "/third")}
    assert [told["config"]["lr"] for told in configs.values()] == [0.0, 0.1, 0.2]
    assert [told["summary"]["acc"] for told in configs.values()] == [0.0, 10.0, 20.0]
    assert {told["status"] for told in configs.values()} == {"finished"}


def test_hyperparameters_that_are_none_are_told(run_name: str, caplog: pytest.LogCaptureFixture) -> None:
    with SummaryWriter(run_name) as writer:
        writer.add_hparams(["lr"], {})  # type: ignore[arg-type]
        writer.add_hparams({"lr": 1}, {"acc": "good"})
    assert caplog.text.count("add_hparams") == 2


def test_hyperparameters_by_hand_are_taken_over(service: RunningService, run_name: str) -> None:
    """The well-known way around tensorboardX's run in a run."""
    from tensorboardX.summary import hparams

    with SummaryWriter(run_name, strict=True) as writer:
        for proto in hparams({"lr": 0.1, "opt": "adam", "deep": False}, {"acc": 1.0}):
            writer.file_writer.add_summary(proto)
    told = described(service, run_name)
    assert told["config"] == {"lr": 0.1, "opt": "adam", "deep": False}
    assert told["kinds"] == {}


# ── other ways in ────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_and_summaries_by_hand(service: RunningService, run_name: str) -> None:
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboardX.proto.tensor_pb2 import TensorProto

    scalar = Summary.Value(tag="scalar", simple_value=0.5)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"))
    tensor = Summary.Value(tag="new style", tensor=TensorProto(dtype="DT_FLOAT", float_val=[1.5]), metadata=metadata)
    with SummaryWriter(run_name, strict=True) as writer:
        events = writer.file_writer.event_writer
        events.add_event(Event(step=3, wall_time=1_700_000_000.0, summary=Summary(value=[scalar, tensor])))
        events.add_event(Event(step=4, session_log=SessionLog(status="START")))
        events.add_event(Event(file_version="brain.Event:2"))
        writer._get_file_writer().add_summary(Summary(value=[scalar]), 5, 1_700_000_001.0)
        events.reopen()
        writer.add_tensor("tensor", [[1.0, 2.0]], 1)
    assert service.points(run_name, "scalar") == [(3, 0.5), (5, 0.5)]
    assert service.points(run_name, "new style") == [(3, 1.5)]
    assert kinds(service, run_name) == {"tensor": "tensors"}


def test_values_of_any_number_type(service: RunningService, run_name: str) -> None:
    values = [1, 1.0, True, np.float32(1), np.array(1), np.array([1.0]), np.array([[1]]), np.int64(1)]
    with SummaryWriter(run_name, strict=True) as writer:
        for step, value in enumerate(values):
            writer.add_scalar("value", value, np.int64(step) if step % 2 else float(step))
    assert service.points(run_name, "value") == [(step, 1.0) for step in range(len(values))]


def test_what_can_not_be_made_is_told_once_and_counted(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with SummaryWriter(run_name) as writer:
        for _ in range(2):
            writer.add_image("image", np.zeros(3), 1)
            writer.add_video("video", np.zeros((1, 2, 3, 4, 4)), 1)  # it takes moviepy, which is not installed
            writer.add_graph(object())  # takes torch, which is not installed
            writer.add_openvino_graph("no such file")
            writer.add_scalars("main", 5.0, 1)  # type: ignore[arg-type]
            writer.add_scalar("loss", [1.0, 2.0], 1)
            writer.add_scalar("loss", 1.0, "first")
            writer.add_histogram("empty", [], 1)
        run = writer.run
    assert run.stats().reports == 0
    assert run.stats().dropped_reports + run.stats().dropped_scalars == 16
    told = [record.message for record in caplog.records if record.name == "tallyboard" and __file__ in record.message]
    assert len(told) == 8
    assert kinds(service, run_name) == {}


def test_a_keyword_that_does_not_exist_is_an_error_as_ever(run_name: str) -> None:
    with SummaryWriter(run_name) as writer, pytest.raises(TypeError):
        writer.add_image("image", np.zeros((3, 2, 2)), setp=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        SummaryWriter(run_name, max_que=1)  # type: ignore[call-arg]


def test_what_add_scalars_reported_can_be_exported(run_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(writer: Any, name: str) -> Any:
        for step in range(3):
            writer.add_scalars("main", {"a": step, "b": 2 * step}, step, walltime=1_700_000_000)
        writer.export_scalars_to_json(name)
        assert writer.scalar_dict == {}
        return Path(name).read_text()

    with SummaryWriter("x", run=run_name) as ours, TensorboardX("x") as theirs:
        assert export(ours, "ours.json") == export(theirs, "theirs.json").replace("1700000000,", "1700000000.0,")
        monkeypatch.setattr("tallyboard.summary_writer.exported.SCALARS_MAX", 3)
        ours.export_scalars_to_json("empty.json")
        ours.add_scalars("main", {"a": 1, "b": 2})
        ours.add_scalars("main", {"a": 1, "b": 2}, 9)
        assert sum(map(len, ours.scalar_dict.values())) <= 4
        assert ours.scalar_dict["x/main/a"][0][1] is None


def test_scalars_need_no_tensorboardx_and_the_rest_says_what_it_needs(service: RunningService, run_name: str) -> None:
    script = f"""
import sys
sys.modules["tensorboardX"] = None
from tallyboard import SummaryWriter
with SummaryWriter({run_name!r}) as writer:
    writer.add_scalar("loss", 1.0, 1)
    writer.add_scalars("main", {{"a": 1.0}}, 1)
    writer.add_hparams({{"lr": 1}}, {{}})
    writer.add_text("text", "needs it", 1)
    writer.run.log_text("own", "needs nothing", 1)
assert "google" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install 'tallyboard[tensorboard]'" in done.stderr
    assert service.points(run_name, "loss") == [(1, 1.0)]
    assert kinds(service, run_name) == {"own": "text"}

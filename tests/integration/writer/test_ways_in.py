"""Protos made by hand, values of any type, what can not be encoded, and what needs tensorboardX."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboardX import SummaryWriter as TensorboardX

from tallyboard import SummaryWriter
from tests.service import RunningService
from tests.writer_kit import kinds


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

"""Summaries of every kind as tensorboardX writes them, and event files taken apart into what POST /events takes."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter
from tensorboardX.proto import event_pb2, summary_pb2

from tallyboard.wire import Columns, decode_events
from tallyboard_server.eventfiles.tfrecord import Record, frame, read_records

WALL_TIME = 1.7e9


def image_value(tag: str, seed: int, size: int = 8) -> Any:
    """A legacy image: PNG bytes need not be a picture for anything that stores them."""
    png = np.random.default_rng(seed).bytes(size * size)
    image = summary_pb2.Summary.Image(height=size, width=size, colorspace=3, encoded_image_string=png)
    return summary_pb2.Summary.Value(tag=tag, image=image)


def text_value(tag: str, text: str) -> Any:
    """A text as tensorboardX makes it."""
    value = summary_pb2.Summary.Value(tag=f"{tag}")
    value.metadata.plugin_data.plugin_name = "text"
    value.tensor.dtype = 7
    value.tensor.tensor_shape.dim.add(size=1)
    value.tensor.string_val.append(text.encode())
    return value


def histogram_value(tag: str, limits: Sequence[float], counts: Sequence[float]) -> Any:
    """A legacy histogram."""
    histo = summary_pb2.HistogramProto(
        min=0.0, max=float(len(limits)), num=sum(counts), sum=1.0, sum_squares=1.0, bucket_limit=limits, bucket=counts
    )
    return summary_pb2.Summary.Value(tag=tag, histo=histo)


def scalar_value(tag: str, number: float) -> Any:
    """A simple_value."""
    return summary_pb2.Summary.Value(tag=tag, simple_value=number)


def event(step: int, *values: Any, wall_time: float | None = None) -> bytes:
    """A serialised Event; wall times tell the steps apart."""
    message = event_pb2.Event(step=step, wall_time=WALL_TIME + step if wall_time is None else wall_time)
    message.summary.value.extend(values)
    data: bytes = message.SerializeToString()
    return data


def framed(*events: bytes) -> bytes:
    """Events as the records of an event file."""
    return b"".join(map(frame, events))


def records(data: bytes) -> list[bytes]:
    """The records of an event file."""
    found = list(read_records(BytesIO(data)))
    assert all(isinstance(record, Record) for record in found), found[-1]
    return [record.data for record in found if isinstance(record, Record)]


def columns_of(*events: bytes, counter: str | None = None) -> tuple[Columns, ...]:
    """What a batch carries of events."""
    return decode_events(events, counter=counter, now=WALL_TIME)[0]


def write_every_kind(directory: Path, steps: int = 4) -> list[bytes]:
    """An event file of tensorboardX with all it can write without further packages; returns its events."""
    random = np.random.default_rng(1)
    with SummaryWriter(str(directory)) as writer:
        for step in range(steps):
            wall_time = WALL_TIME + step
            writer.add_scalar("loss", 1 / (step + 1), step, walltime=wall_time)
            writer.add_image("samples/one", random.random((3, 8, 8)), step, walltime=wall_time)
            writer.add_images("samples/many", random.random((2, 3, 4, 4)), step, walltime=wall_time)
            writer.add_histogram("weights", random.normal(size=100), step, walltime=wall_time)
            writer.add_text("notes", f"step **{step}** — ünï", step, walltime=wall_time)
            writer.add_pr_curve(
                "pr", random.integers(0, 2, 50), random.random(50), step, num_thresholds=11, walltime=wall_time
            )
            writer.add_mesh("mesh", random.random((1, 4, 3)), global_step=step, walltime=wall_time)
        writer.add_custom_scalars({"losses": {"all": ["Multiline", ["loss"]]}})
    (file,) = directory.iterdir()
    return records(file.read_bytes())

"""Event files read as columns against the same files read record by record, whole, cut and damaged anywhere."""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto import event_pb2
from tensorboardX.proto.summary_pb2 import Summary

from tallyboard_server.eventfiles import columns
from tallyboard_server.eventfiles.columns import PointColumns, read_columns
from tallyboard_server.eventfiles.encoder import (
    Encoder,
    encode_eraser,
    encode_header,
    encode_placeholders,
    encode_session_start,
)
from tallyboard_server.eventfiles.reader import ScalarPoint, read_items
from tallyboard_server.eventfiles.tfrecord import Damage, Record, frame
from tests.property.test_encoder import BOUNDARIES

Seen = list[object]

_tags = st.sampled_from([("loss",), ("loss", "acc"), ("a", "b"), ("späť/x",) * 1, tuple(f"t{i}" for i in range(12))])
_steps = st.integers(0, 300) | st.sampled_from(BOUNDARIES)
_values = st.floats(width=32)


@st.composite
def stretches(draw: st.DrawFn) -> bytes:
    """Records of one tag set, some records of other kinds, or a foreign writer's way of saying the same."""
    kind = draw(st.sampled_from(["ours", "ours", "ours", "others", "foreign"]))
    tags = draw(_tags)
    if kind == "others":
        make = draw(st.sampled_from([encode_eraser, encode_placeholders]))
        return make(1.5, tags) + draw(st.sampled_from([b"", encode_session_start(2.0), encode_header(1.0)]))
    n = draw(st.integers(1, 40))
    steps = np.array(sorted(draw(st.lists(_steps, min_size=n, max_size=n))), np.int64)
    values = np.array(draw(st.lists(_values, min_size=n * len(tags), max_size=n * len(tags)))).reshape(n, len(tags))
    walls = np.linspace(1.7e9, 1.8e9, n)
    if kind == "ours":
        return Encoder().encode_reports(tags, steps, walls, values)
    return b"".join(foreign(tags, int(s), float(w), v) for s, w, v in zip(steps, walls, values.tolist(), strict=True))


def foreign(tags: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> bytes:
    """A report with metadata that ours never has, and a negative step now and then."""
    summary = Summary(value=[Summary.Value(tag=t, simple_value=v) for t, v in zip(tags, values, strict=True)])
    summary.value[0].metadata.display_name = "x"
    step = -step if step % 7 == 3 else step
    return frame(event_pb2.Event(wall_time=wall_time, step=step, summary=summary).SerializeToString())


files = st.lists(stretches(), min_size=1, max_size=6).map(lambda parts: encode_header(1.0) + b"".join(parts))


def by_record(data: bytes) -> Seen:
    """Every item as read one record at a time; points as (tag, step, wall time, value)."""
    seen: Seen = []
    for item in read_items(io.BytesIO(data)):
        match item:
            case Record():
                continue
            case Damage():
                seen.append(("damage", item.offset))
            case ScalarPoint():
                seen.append((item.tag, item.step, item.wall_time, repr(item.value)))
            case _:
                seen.append(item)
    return seen


def by_column(data: bytes) -> Seen:
    seen: Seen = []
    for part in read_columns(io.BytesIO(data), len(data)):
        match part:
            case PointColumns(tags, steps, walls, values):
                seen += [
                    (tag, step, wall, repr(value))
                    for step, wall, row in zip(steps.tolist(), walls.tolist(), values.tolist(), strict=True)
                    for tag, value in zip(tags, row, strict=True)
                ]
            case Damage():
                seen.append(("damage", part.offset))
            case _:
                seen.append(part)
    return seen


@settings(max_examples=40, deadline=None)
@given(files)
def test_columns_are_what_the_records_say(data: bytes) -> None:
    assert by_column(data) == by_record(data)


@settings(max_examples=40, deadline=None)
@given(files, st.data())
def test_a_file_cut_anywhere_gives_what_is_whole(data: bytes, choice: st.DataObject) -> None:
    cut = data[: choice.draw(st.integers(0, len(data)))]
    assert by_column(cut) == by_record(cut)


@settings(max_examples=40, deadline=None)
@given(files, st.data())
def test_a_changed_byte_ends_the_reading_where_it_stands(data: bytes, choice: st.DataObject) -> None:
    at = choice.draw(st.integers(0, len(data) - 1))
    changed = bytearray(data)
    changed[at] ^= choice.draw(st.integers(1, 255))
    found = by_column(bytes(changed))
    assert found == by_record(bytes(changed))
    assert found[-1][0] == "damage"  # type: ignore[index]


def test_records_may_lie_across_the_buffers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "BUFFER_BYTES", 100)
    n = 300
    data = encode_header(1.0) + Encoder().encode_reports(
        ("a", "b"), np.arange(n), np.arange(n) / 8, np.arange(2.0 * n).reshape(n, 2)
    )
    assert by_column(data) == by_record(data)


def test_only_the_bytes_asked_for_are_read() -> None:
    head = encode_header(1.0)
    more = Encoder().encode_reports(("a",), np.arange(5), np.zeros(5), np.ones((5, 1)))
    found = list(read_columns(io.BytesIO(head + more), len(head)))
    assert len(found) == 1

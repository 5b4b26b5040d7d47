"""The encoder's bytes against protocol buffers: what tensorboardX would have serialised, record by record."""

import io
from collections.abc import Sequence

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tensorboardX.proto import event_pb2
from tensorboardX.proto.summary_pb2 import Summary

from tallyboard.wire import Float64, Int64
from tallyboard.wire.limits import STEP_MAX
from tallyboard_server.eventfiles.encoder import Encoder, varint
from tallyboard_server.eventfiles.tfrecord import Record, frame, read_records

BOUNDARIES = sorted({0, STEP_MAX, *(s for i in range(1, 9) for s in (2 ** (7 * i) - 1, 2 ** (7 * i)))})
"""The first and last step of every varint length."""

tags = st.lists(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=200),
    min_size=1,
    max_size=40,
    unique=True,
)
steps = st.lists(st.integers(0, STEP_MAX) | st.sampled_from(BOUNDARIES), min_size=1, max_size=30).map(sorted)
wall_times = st.floats(allow_nan=False, allow_infinity=False).filter(bool)
"""0.0 is left out: protobuf omits the field then, where ours writes the zero (both mean the same)."""


def reference(names: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> bytes:
    """The same report by way of objects and the protobuf library."""
    with np.errstate(all="ignore"):
        floats = [float(np.float32(value)) for value in values]
    summary = Summary(value=[Summary.Value(tag=t, simple_value=v) for t, v in zip(names, floats, strict=True)])
    return frame(event_pb2.Event(wall_time=wall_time, step=step, summary=summary).SerializeToString())


@st.composite
def reports(draw: st.DrawFn) -> tuple[list[str], Int64, Float64, Float64]:
    names = draw(tags)
    column = draw(steps)
    n = len(column)
    return (
        names,
        np.array(column, np.int64),
        draw(hnp.arrays(np.float64, n, elements=wall_times)),
        draw(hnp.arrays(np.float64, (n, len(names)), elements=st.floats(width=64))),
    )


@given(reports())
def test_every_record_is_what_the_protobuf_library_makes(case: tuple[list[str], Int64, Float64, Float64]) -> None:
    names, column, walls, values = case
    data = Encoder().encode_reports(names, column, walls, values)
    expected = [reference(names, int(column[i]), float(walls[i]), values[i].tolist()) for i in range(len(column))]
    # NaN payloads may differ between two ways of casting, so those reports are compared as values.
    if not np.isnan(values).any():
        assert data == b"".join(expected)
    found = [r for r in read_records(io.BytesIO(data)) if isinstance(r, Record)]
    assert len(found) == len(column)
    for i, record in enumerate(found):
        event = event_pb2.Event.FromString(record.data)
        assert (event.step, event.wall_time) == (column[i], walls[i])
        assert [v.tag for v in event.summary.value] == names
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(
                np.array([v.simple_value for v in event.summary.value], np.float32), values[i].astype(np.float32)
            )
    assert Encoder().record_sizes(names, column).tolist() == [len(e) for e in expected]


@given(reports(), st.data())
def test_cutting_a_block_anywhere_changes_no_byte(
    case: tuple[list[str], Int64, Float64, Float64], data: st.DataObject
) -> None:
    names, column, walls, values = case
    encoder = Encoder()
    cut = data.draw(st.integers(0, len(column)))
    pieces = [
        encoder.encode_reports(names, column[part], walls[part], values[part])
        for part in (slice(0, cut), slice(cut, None))
    ]
    assert b"".join(pieces) == encoder.encode_reports(names, column, walls, values)


def test_every_varint_boundary_in_one_block_and_row_by_row() -> None:
    column = np.array(BOUNDARIES, np.int64)
    walls = np.linspace(1.7e9, 1.8e9, len(column))
    values = np.linspace(-1, 1, 2 * len(column)).reshape(-1, 2)
    expected = b"".join(
        reference(["loss", "acc"], int(column[i]), float(walls[i]), values[i].tolist()) for i in range(len(column))
    )
    encoder = Encoder()
    assert encoder.encode_reports(["loss", "acc"], column, walls, values) == expected
    rows = [
        encoder.encode_reports(["loss", "acc"], column[i : i + 1], walls[i : i + 1], values[i : i + 1])
        for i in range(len(column))
    ]
    assert b"".join(rows) == expected


def test_float32_is_reached_without_a_warning() -> None:
    values = np.array([[1e300, -1e300, 1e-300, np.nan, np.inf, -np.inf, 0.1]] * 6)
    names = [f"t{i}" for i in range(7)]
    data = Encoder().encode_reports(names, np.arange(6), np.ones(6), values)
    event = event_pb2.Event.FromString(next(r for r in read_records(io.BytesIO(data)) if isinstance(r, Record)).data)
    np.testing.assert_array_equal(
        [v.simple_value for v in event.summary.value], [np.inf, -np.inf, 0, np.nan, np.inf, -np.inf, np.float32(0.1)]
    )


def test_wide_and_long_blocks_cross_slabs() -> None:
    names = [f"group/metric_{i}" for i in range(1500)]
    column = np.arange(100, 160)
    walls = np.linspace(1.7e9, 1.8e9, 60)
    values = np.random.default_rng(7).normal(size=(60, 1500))
    expected = b"".join(reference(names, int(column[i]), float(walls[i]), values[i].tolist()) for i in range(60))
    assert Encoder().encode_reports(names, column, walls, values) == expected


@given(st.integers(0, 2**64 - 1))
@example(0)
@example(2**64 - 1)
def test_varint_is_protobufs(number: int) -> None:
    decoded = event_pb2.Event.FromString(b"\x10" + varint(number)).step
    assert decoded % 2**64 == number
    assert len(varint(number)) == max(1, (number.bit_length() + 6) // 7)

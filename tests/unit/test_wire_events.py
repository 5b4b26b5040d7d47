"""Event protos taken apart: what becomes a scalar, what a blob, what is left out, and what is refused."""

import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto import event_pb2, summary_pb2

from tallyboard.wire import (
    MSGPACK,
    Batch,
    InvalidBatchError,
    decode_batch,
    decode_events,
    encode_batch,
    events,
    limits,
    protos,
)
from tallyboard.wire.messages import EventBlock
from tallyboard.wire.summaries import blob_of, key_of_hash, plain_metadata
from tests.summary_kit import columns_of, event, histogram_value, image_value, scalar_value, text_value

NOW = 1234.5


def tensor_value(tag: str, dtype: int, shape: tuple[int, ...] = (), plugin: str = "scalars", **fields: Any) -> Any:
    value = summary_pb2.Summary.Value(tag=tag)
    value.metadata.plugin_data.plugin_name = plugin
    value.tensor.dtype = dtype
    for size in shape:
        value.tensor.tensor_shape.dim.add(size=size)
    for name, content in fields.items():
        if name == "tensor_content":
            value.tensor.tensor_content = content
        else:
            getattr(value.tensor, name).extend(content)
    return value


def refused(*events: bytes, counter: str | None = None) -> InvalidBatchError:
    with pytest.raises(InvalidBatchError) as caught:
        decode_events(events, counter=counter, now=NOW)
    return caught.value


class TestScalars:
    @pytest.mark.parametrize(
        ("dtype", "fields", "number"),
        [
            (1, {"float_val": [0.25]}, 0.25),
            (2, {"double_val": [0.1]}, 0.1),
            (2, {"tensor_content": struct.pack("<d", 0.1)}, 0.1),
            (1, {"tensor_content": struct.pack("<f", 0.5)}, 0.5),
            (3, {"int_val": [-7]}, -7.0),
            (9, {"int64_val": [2**53]}, 2.0**53),
            (10, {"bool_val": [True]}, 1.0),
            (4, {"tensor_content": b"\x05"}, 5.0),
            (19, {"half_val": [0x3800]}, 0.5),
            (1, {"float_val": [float("nan")]}, float("nan")),
        ],
    )
    @pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
    def test_tensors_of_one_number(self, dtype: int, fields: Any, number: float, shape: tuple[int, ...]) -> None:
        (columns,) = columns_of(event(3, tensor_value("loss", dtype, shape, **fields)))
        assert (columns.kind, columns.metadata, columns.blobs) == ("scalars", b"", ())
        assert columns.values.tobytes() == np.array([[number]]).tobytes()

    @pytest.mark.parametrize(
        ("value", "why"),
        [
            (tensor_value("x", 1, float_val=[1.0, 2.0]), "2 values"),
            (tensor_value("x", 1), "0 values"),
            (tensor_value("x", 1, (2,), float_val=[1.0]), "more than one element"),
            (tensor_value("x", 7, string_val=[b"1"]), "of type 7"),
            (tensor_value("x", 1, tensor_content=b"\0\0\0"), "cut"),
            (tensor_value("x", 3, int_val=[1, 2]), "2 values"),
        ],
    )
    def test_tensors_that_are_no_number(self, value: Any, why: str) -> None:
        error = refused(event(1, scalar_value("y", 1.0)), event(2, value))
        assert error.field == "$.events[1]"
        assert why in error.detail

    def test_a_wall_time_that_is_absent_is_now(self) -> None:
        data = event_pb2.Event(step=1, summary=summary_pb2.Summary(value=[scalar_value("x", 1.0)])).SerializeToString()
        (columns,), _ = decode_events([data], counter=None, now=NOW)
        assert columns.wall_times.tolist() == [NOW]


class TestGrouping:
    def test_each_tag_counts_by_itself(self) -> None:
        found = columns_of(
            event(5, scalar_value("a", 1.0), image_value("i", 1)),
            event(3, scalar_value("b", 2.0), scalar_value("c", 3.0)),
        )
        assert [(c.counter, c.tags, c.steps.tolist(), c.kind) for c in found] == [
            ("tag:a", ("a",), [5], "scalars"),
            ("tag:i", ("i",), [5], "images"),
            ("tag:b", ("b",), [3], "scalars"),
            ("tag:c", ("c",), [3], "scalars"),
        ]
        assert [c.block for c in found] == [0, 1, 2, 3]
        assert [c.row_of(0) for c in found] == [0, 0, 1, 1]

    def test_scalars_that_come_together_share_a_block_on_a_named_counter(self) -> None:
        rows = [event(step, scalar_value("a", step), scalar_value("b", -step)) for step in (1, 2)]
        found = columns_of(*rows, event(3, scalar_value("c", 0.0)), counter="global_step")
        assert [(c.counter, c.tags) for c in found] == [("global_step", ("a", "b")), ("global_step", ("c",))]
        assert found[0].values.tolist() == [[1.0, -1.0], [2.0, -2.0]]
        assert found[1].row_of(0) == 2

    def test_metadata_is_that_of_the_first_point(self) -> None:
        bare = text_value("t", "two")
        bare.ClearField("metadata")
        (columns,) = columns_of(event(1, text_value("t", "one")), event(2, bare))
        assert (columns.kind, columns.metadata) == ("text", plain_metadata("text"))
        assert len(columns) == 2

    def test_one_tag_as_two_kinds_becomes_two_blocks(self) -> None:
        found = columns_of(event(1, scalar_value("x", 1.0)), event(2, image_value("x", 1)))
        assert [(c.counter, c.kind) for c in found] == [("tag:x", "scalars"), ("tag:x", "images")]

    def test_a_blob_is_the_field_as_it_stands(self) -> None:
        value = histogram_value("h", [1.0, 2.0], [3.0, 4.0])
        (columns,) = columns_of(event(1, value))
        value.ClearField("tag")
        assert columns.blobs == (blob_of(value.SerializeToString()),)
        assert columns.values[0, 0] == key_of_hash(columns.blobs[0].hash)

    def test_hyperparameters_need_no_value(self) -> None:
        value = summary_pb2.Summary.Value(tag="_hparams_/session_start_info")
        value.metadata.plugin_data.plugin_name = "hparams"
        value.metadata.plugin_data.content = b"\x12\x00"
        (columns,) = columns_of(event(0, value))
        assert columns.kind == "hparams"
        assert summary_pb2.Summary.Value.FromString(columns.blobs[0].data).tensor.tensor_shape.dim[0].size == 0


class TestBesides:
    def test_a_graph_becomes_the_tag_that_tensorboard_shows(self) -> None:
        (columns,) = columns_of(event_pb2.Event(step=0, wall_time=1.0, graph_def=b"graph").SerializeToString())
        assert (columns.tags, columns.kind) == (("__run_graph__",), "graphs")
        value = summary_pb2.Summary.Value.FromString(columns.blobs[0].data)
        assert list(value.tensor.string_val) == [b"graph"]

    def test_what_has_no_place_is_passed_over_or_told(self) -> None:
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        metadata = event_pb2.TaggedRunMetadata(tag="step1", run_metadata=b"x")
        events = [
            event_pb2.Event(wall_time=1.0, file_version="brain.Event:2"),
            event_pb2.Event(wall_time=1.0, session_log=start),
            event_pb2.Event(wall_time=1.0, step=7, session_log=start),
            event_pb2.Event(wall_time=1.0, tagged_run_metadata=metadata),
            event_pb2.Event(wall_time=1.0, tagged_run_metadata=metadata),
            event_pb2.Event(
                wall_time=1.0, summary=summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="x", node_name="n")])
            ),
        ]
        columns, warnings = decode_events([e.SerializeToString() for e in events], counter=None, now=NOW)
        assert columns == ()
        assert len(warnings) == 3
        assert "run metadata were left out (2 ×)" in warnings
        assert "values without a known content were left out (1 ×)" in warnings
        assert any("session start at step 7" in w and '{"tag:*": 7}' in w for w in warnings)


def raw_event(summary: bytes, wall: float = 1.0) -> bytes:
    return b"\x09" + struct.pack("<d", wall) + protos.sized(5, summary)


HOSTILE = [
    (b"\xff" * 11, "does not end"),
    (b"\x09\x00", "ends within"),
    (b"\x0b", "wire type 3"),
    (b"\x00\x00", "field number 0"),
    (protos.sized(5, b"") + protos.sized(4, b""), "two contents"),
    (b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "ends within"),
    (raw_event(b"", float("nan")), "wall_time nan"),
    (raw_event(b"", float("inf")), "wall_time inf"),
    (b"\x10" + protos.varint(2**64 - 1), "step -1 is negative"),
    (b"\x12\x00", "step has wire type"),
    (b"\x0a\x00", "wall_time has wire type"),
    (raw_event(protos.sized(1, protos.sized(1, b"\xff\xfe") + b"\x15\0\0\0\0")), "not valid UTF-8"),
    (raw_event(protos.sized(1, protos.sized(1, b"a\x07") + b"\x15\0\0\0\0")), "control character"),
    (raw_event(protos.sized(1, b"\x15\0\0\0\0")), "must not be empty"),
    (raw_event(protos.sized(1, protos.sized(1, b"x" * 513) + b"\x15\0\0\0\0")), "at most 512"),
    (raw_event(protos.sized(1, protos.sized(1, b"*") + b"\x15\0\0\0\0")), "stands for those of all tags"),
    (raw_event(protos.sized(1, protos.sized(1, b"x") + b"\x15\0\0\0\0" + protos.sized(4, b""))), "two values"),
    (raw_event(protos.sized(1, protos.sized(1, b"x") + b"\x42\0" + protos.sized(9, b"\x10\x01"))), "metadata"),
    (raw_event(protos.sized(1, protos.sized(9, b"a" * 70_000) + protos.sized(8, b""))), "the metadata has 70000 bytes"),
    (raw_event(protos.sized(1, protos.sized(1, b"x") + protos.sized(4, b"\0" * (8 * 2**20)))), "at most 8388608"),
    (raw_event(protos.sized(1, b"") * 100_001), "more than 100000 fields"),
    (raw_event(protos.sized(1, b"\x50\x00" * 17)), "more than 16 fields"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "why"), HOSTILE, ids=[why for _, why in HOSTILE])
def test_hostile_events_are_refused_with_a_reason(data: bytes, why: str) -> None:
    error = refused(event(1, scalar_value("fine", 1.0)), data)
    assert error.field == "$.events[1]"
    assert why in error.detail


def test_too_many_values_and_tags_are_refused() -> None:
    many = [event(step, *(scalar_value("x", 1.0),) * 1000) for step in range(101)]
    assert "more than 100000 values" in refused(*many).detail
    tags = [event(1, *(scalar_value(f"t{i}", 1.0) for i in range(limits.SERIES_PER_EVENTS_MAX + 1)))]
    assert "tags" in refused(*tags).detail
    assert refused(event(1, scalar_value("x", 1.0)), counter="tag:x").field == "$.counter"


VALID = event(
    7, scalar_value("loss", 0.5), image_value("i", 1, 4), text_value("t", "hello"), histogram_value("h", [1.0], [2.0])
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_events_are_taken_or_refused_and_nothing_else(data: st.DataObject) -> None:
    mutated = bytearray(VALID)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        match data.draw(st.sampled_from(("set", "cut", "grow"))):
            case "set":
                mutated[at] = data.draw(st.integers(0, 255))
            case "cut":
                del mutated[at : at + data.draw(st.integers(1, 8))]
            case "grow":
                mutated[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        if not mutated:
            break
    try:
        columns, _ = decode_events([bytes(mutated)], counter=None, now=NOW)
    except InvalidBatchError:
        return
    for stretch in columns:
        assert np.isfinite(stretch.wall_times).all()
        assert (stretch.steps >= 0).all()
        assert len(stretch.values) == len(stretch) == (len(stretch.blobs) or len(stretch))


@given(
    st.floats(),
    st.integers(0, 2**63 - 1),
    st.text(st.characters(codec="utf-8"), max_size=110),
    st.floats(width=32),
    st.integers(-1, 140),
    st.integers(0, 255),
)
def test_the_short_way_agrees_with_the_long_one(
    wall_time: float, step: int, tag: str, number: float, at: int, byte: int
) -> None:
    """Of what it takes on at all: as it was written, and with any one byte changed."""
    data = bytearray(event(step, scalar_value(tag, number), wall_time=wall_time))
    if 0 <= at < len(data):
        data[at] = byte
    short = events._simple_event(bytes(data))
    if short is not None:
        assert repr(short) == repr(events.read_event(memoryview(data)))
    else:
        assert at >= 0 or not wall_time or not np.isfinite(wall_time) or not tag or len(data) >= 128


def block(**changes: Any) -> dict[str, Any]:
    value = image_value("", 1)
    fields = {
        "counter": "global_step", "tag": "i", "steps": np.array([1], "<i8").tobytes(),
        "values": [value.SerializeToString()], "wall_times": np.array([5.0], "<f8").tobytes(),
    }  # fmt: skip
    return fields | changes


def decode(*blocks: dict[str, Any]) -> Batch:
    return decode_batch(msgspec.msgpack.encode({"events": list(blocks)}), MSGPACK, now=NOW)


class TestBlocks:
    def test_they_stand_beside_blocks_of_scalars_and_come_back(self) -> None:
        scalars = {
            "counter": "global_step", "tags": ["loss"], "steps": np.array([1], "<i8").tobytes(),
            "values": np.array([0.5], "<f8").tobytes(), "wall_times": np.array([5.0], "<f8").tobytes(),
        }  # fmt: skip
        at = {"epoch": np.array([3], "<i8").tobytes()}
        body = {"blocks": [scalars], "events": [block(at=at, metadata=plain_metadata("images"))]}
        batch = decode_batch(msgspec.msgpack.encode(body), MSGPACK, now=NOW)
        assert [(c.block, c.kind, c.tags) for c in batch.columns] == [(0, "scalars", ("loss",)), (1, "images", ("i",))]
        assert batch.columns[1].at["epoch"].tolist() == [3]
        again = decode_batch(encode_batch(batch), MSGPACK, now=0.0)
        assert again.columns[1].blobs == batch.columns[1].blobs
        assert again.columns[1].values.tobytes() == batch.columns[1].values.tobytes()
        assert again.columns[1].metadata == plain_metadata("images")

    def test_their_kind_is_the_plugin_or_the_form(self) -> None:
        text = text_value("", "x")
        text.ClearField("metadata")
        assert decode(block()).columns[0].kind == "images"
        assert decode(block(values=[text.SerializeToString()])).columns[0].kind == "tensors"
        told = block(values=[text.SerializeToString()], metadata=plain_metadata("text"))
        assert decode(told).columns[0].kind == "text"

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"values": []}, "values"),
            ({"values": [b"", b""]}, "values"),
            ({"values": [b""]}, "values[0]"),
            ({"values": [image_value("tagged", 1).SerializeToString()]}, "values[0]"),
            ({"values": [scalar_value("", 1.0).SerializeToString()]}, "values[0]"),
            ({"values": [b"\x22\x05abc"]}, "values[0]"),
            ({"values": [protos.sized(4, b"x" * (8 * 2**20))]}, "values[0]"),
            ({"metadata": b"\xff"}, "metadata"),
            ({"metadata": plain_metadata("scalars")}, "metadata"),
            ({"metadata": plain_metadata("a\x07")}, "metadata"),
            ({"counter": "tag:other"}, "counter"),
            ({"counter": "wall_time"}, "counter"),
            ({"tag": ""}, "tag"),
            ({"steps": np.array([-1], "<i8").tobytes()}, "steps"),
            ({"wall_times": np.array([np.nan], "<f8").tobytes()}, "wall_times"),
            ({"at": {"tag:x": np.array([1], "<i8").tobytes()}}, "at"),
        ],
    )
    def test_what_is_wrong_with_one_is_named(self, changes: dict[str, Any], field: str) -> None:
        with pytest.raises(InvalidBatchError) as caught:
            decode(block(**changes))
        assert caught.value.field == f"$.events[0].{field}"

    def test_values_of_a_block_are_of_one_kind(self) -> None:
        histogram = histogram_value("", [1.0], [1.0]).SerializeToString()
        values = [image_value("", 1).SerializeToString(), histogram]
        with pytest.raises(InvalidBatchError, match="histograms in a block of images"):
            decode(block(values=values, steps=np.array([1, 2], "<i8").tobytes(), wall_times=None))

    def test_blocks_of_both_sorts_are_bounded_together(self) -> None:
        many = [block(tag=f"t{i}") for i in range(limits.BLOCKS_PER_BATCH_MAX + 1)]
        with pytest.raises(InvalidBatchError, match="at most 1000"):
            decode(*many)
        assert EventBlock.__struct_fields__[:3] == ("counter", "tag", "steps")


class TestKeys:
    @given(st.binary(max_size=64))
    def test_they_are_plain_numbers(self, data: bytes) -> None:
        key = key_of_hash(blob_of(data).hash)
        assert np.isfinite(key)
        assert 2.0**-257 < abs(key) < 2.0**256

    def test_they_tell_blobs_apart(self) -> None:
        keys = {key_of_hash(blob_of(str(i).encode()).hash) for i in range(10_000)}
        assert len(keys) == 10_000
        assert len({key > 0 for key in keys}) == 2

"""The codec of event files: framing, the reader's honesty about damage, and the merging of overlapping blocks."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.crc32c import crc32c as reference_crc32c
from tensorboardX.proto import event_pb2

from tallyboard_server.eventfiles import ordering
from tallyboard_server.eventfiles.crc import mask, masked_crc32c
from tallyboard_server.eventfiles.encoder import (
    Encoder,
    encode_eraser,
    encode_header,
    encode_placeholders,
    encode_session_start,
)
from tallyboard_server.eventfiles.ordering import Rows
from tallyboard_server.eventfiles.reader import ScalarPoint, read_event_file
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.tfrecord import RECORD_BYTES_MAX, Damage, Record, frame, read_records
from tallyboard_server.model import Block


def make_block(steps: list[int], tag_ids: list[int], *, pos: int = 1, counter: int = 1, attempt: int = 1) -> Block:
    n, k = len(steps), len(tag_ids)
    return Block(
        pos=pos,
        counter_id=counter,
        attempt=attempt,
        tag_ids=np.array(tag_ids, np.int32),
        steps=np.array(steps, np.int64),
        wall_times=np.full(n, 100.0) + pos,
        values=np.arange(n * k, dtype=np.float64).reshape(n, k) + 1000 * pos,
    )


NAMES = TagNames({1: "loss", 2: "acc", 3: "lr"})


def points_of(data: bytes) -> list[ScalarPoint]:
    found = []
    for item in read_records(io.BytesIO(data)):
        assert isinstance(item, Record), item
        event = event_pb2.Event.FromString(item.data)
        found += [ScalarPoint(event.wall_time, event.step, v.tag, v.simple_value) for v in event.summary.value]
    return found


class TestCrc:
    def test_agrees_with_the_published_value_and_another_implementation(self) -> None:
        assert reference_crc32c(b"123456789") == 0xE3069283
        for data in (b"", b"123456789", bytes(range(256))):
            crc = reference_crc32c(data)
            expected = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
            assert masked_crc32c(data) == expected
            assert mask(np.array([crc], np.uint32)).tolist() == [expected]


class TestHeaderRecords:
    def test_are_what_tensorboardx_would_write(self) -> None:
        for data, event in (
            (encode_header(12.5), event_pb2.Event(wall_time=12.5, file_version="brain.Event:2")),
            (
                encode_session_start(12.5),
                event_pb2.Event(wall_time=12.5, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START)),
            ),
        ):
            assert data == frame(event.SerializeToString())

    def test_eraser_and_placeholders_parse_as_meant(self) -> None:
        (record,) = read_records(io.BytesIO(encode_eraser(1.0, ["loss", "acc"])))
        assert isinstance(record, Record)
        event = event_pb2.Event.FromString(record.data)
        assert [v.tag for v in event.summary.value] == ["loss", "acc"]
        for value in event.summary.value:
            assert value.WhichOneof("value") == "obsolete_old_style_histogram"
            assert value.metadata.plugin_data.plugin_name == "scalars"
            # data_class is newer than tensorboardX's proto: field 4, DATA_CLASS_SCALAR = 1
            assert value.metadata.SerializeToString().endswith(b"\x20\x01")
        points = points_of(encode_placeholders(1.0, ["loss"]))
        assert [(p.step, p.tag) for p in points] == [(0, "loss")]
        assert np.isnan(points[0].value)


class TestReader:
    def test_a_cut_at_every_byte_is_a_torn_tail_after_the_whole_records(self, tmp_path: Path) -> None:
        encoder = Encoder()
        records = [encode_header(1.0), encode_session_start(1.0)]
        records += [
            encoder.encode_reports(["loss"], np.array([step]), np.array([2.0]), np.array([[0.5]])) for step in (0, 200)
        ]
        whole = b"".join(records)
        ends = np.cumsum([0, *map(len, records)]).tolist()
        path = tmp_path / "cut"
        for cut in range(len(whole) + 1):
            path.write_bytes(whole[:cut])
            found = read_event_file(path)
            kept = max(i for i, end in enumerate(ends) if end <= cut)
            assert (found.records, found.end) == (kept, ends[kept])
            assert [p.step for p in found.points] == [0, 200][: max(0, kept - 2)]
            if cut == ends[kept]:
                assert found.damage is None
            else:
                assert found.damage is not None
                assert (found.damage.torn, found.damage.offset) == (True, ends[kept])

    def test_a_flipped_bit_is_damage_at_its_record(self, tmp_path: Path) -> None:
        whole = encode_header(1.0) + encode_session_start(1.0)
        path = tmp_path / "flipped"
        for at in range(len(whole)):
            broken = bytearray(whole)
            broken[at] ^= 0x10
            path.write_bytes(broken)
            found = read_event_file(path)
            assert found.damage is not None
            assert found.damage.offset == (0 if at < len(encode_header(1.0)) else len(encode_header(1.0)))

    def test_an_unbelievable_length_is_not_believed(self) -> None:
        length = struct.pack("<Q", RECORD_BYTES_MAX + 1)
        data = length + struct.pack("<I", masked_crc32c(length)) + b"x" * 100
        (damage,) = read_records(io.BytesIO(data))
        assert isinstance(damage, Damage)
        assert not damage.torn

    def test_a_record_that_is_no_event_is_damage(self, tmp_path: Path) -> None:
        path = tmp_path / "other"
        path.write_bytes(encode_header(1.0) + frame(b"\xff\xff\xff"))
        found = read_event_file(path)
        assert found.damage is not None
        assert (found.damage.offset, found.damage.torn, found.end) == (len(encode_header(1.0)),) * 1 + (
            False,
            len(encode_header(1.0)),
        )

    def test_a_second_session_start_takes_back_what_came_before(self, tmp_path: Path) -> None:
        path = tmp_path / "twice"
        path.write_bytes(
            encode_header(1.0)
            + encode_session_start(1.0)
            + encode_placeholders(1.0, ["gone"])
            + encode_session_start(1.0)
            + Encoder().encode_reports(["loss"], np.array([7]), np.array([2.0]), np.array([[0.5]]))
        )
        found = read_event_file(path)
        assert found.points == [ScalarPoint(2.0, 7, "loss", 0.5)]
        assert found.header is not None
        assert found.header.version == "brain.Event:2"


class TestOrdering:
    @pytest.mark.parametrize(
        ("pieces", "groups"),
        [
            ([[1, 3, 5], [2, 4], [5, 6], [6, 9]], [2, 1, 1]),  # equal steps touch, they don't overlap
            ([[5], [5], [4], [6]], [3, 1]),  # what comes last may belong before the first
            ([[10, 12], [20], [15], [11], [30]], [4, 1]),
            ([[2**62], [2**63 - 1], [2**63 - 1]], [1, 1, 1]),
            ([], []),
        ],
    )
    def test_pieces_are_put_together_as_far_as_steps_cross(self, pieces: list[list[int]], groups: list[int]) -> None:
        rows = [ordering.clip(make_block(steps, [1]), NAMES, {(1, 1): None}) for steps in pieces]
        assert [len(group) for group in ordering.overlapping(rows)] == groups

    def test_overlapping_blocks_are_interleaved_by_step(self) -> None:
        a, b = make_block([1, 3, 5], [1], pos=1), make_block([2, 3, 4], [2], pos=2)
        data = ordering.encode_blocks(Encoder(), [a, b], NAMES, {(1, 1): None})
        assert [(p.step, p.tag) for p in points_of(data)] == [
            (1, "loss"), (2, "acc"), (3, "loss"), (3, "acc"), (4, "acc"), (5, "loss"),
        ]  # fmt: skip

    def test_only_rows_below_the_limit_are_written(self) -> None:
        blocks = [make_block([1, 2, 2, 3], [1], pos=1), make_block([1, 5], [2], pos=2, attempt=2)]
        data = ordering.encode_blocks(Encoder(), blocks, NAMES, {(1, 1): 2, (1, 2): None})
        assert [(p.step, p.tag) for p in points_of(data)] == [(1, "loss"), (1, "acc"), (5, "acc")]
        assert ordering.encode_blocks(Encoder(), blocks[:1], NAMES, {(1, 1): 0}) == b""

    def test_many_small_blocks_give_the_same_bytes_as_each_alone(self) -> None:
        blocks = [make_block([10 * i, 10 * i + 1], [1, 2] if i % 3 else [1], pos=i) for i in range(1, 40)]
        limits = {(1, 1): None}
        alone = [ordering.encode_blocks(Encoder(), [block], NAMES, limits) for block in blocks]
        assert ordering.encode_blocks(Encoder(), blocks, NAMES, limits) == b"".join(alone)

    def test_an_unknown_attempt_or_tag_is_an_error_not_a_guess(self) -> None:
        with pytest.raises(KeyError):
            ordering.encode_blocks(Encoder(), [make_block([1], [1])], NAMES, {})
        with pytest.raises(KeyError):
            ordering.encode_blocks(Encoder(), [make_block([1], [9])], NAMES, {(1, 1): None})

    def test_merging_keeps_records_whole(self) -> None:
        encoder = Encoder()
        long = Rows(("a", "b" * 100), np.array([0, 200, 2**62]), np.ones(3), np.ones((3, 2)))
        short = Rows(("c",), np.array([0, 1, 300]), np.ones(3), np.zeros((3, 1)))
        points = points_of(b"".join(ordering.encode_pieces(encoder, [long, short])))
        assert [(p.step, p.tag[0]) for p in points] == [
            (0, "a"), (0, "b"), (0, "c"), (1, "c"), (200, "a"), (200, "b"), (300, "c"), (2**62, "a"), (2**62, "b"),
        ]  # fmt: skip


class TestEncoder:
    def test_ragged_columns_are_refused(self) -> None:
        with pytest.raises(ValueError, match="2 tags, 1 steps"):
            Encoder().encode_reports(["a", "b"], np.array([1]), np.array([1.0]), np.array([[1.0]]))

    def test_the_memory_of_layouts_is_bounded(self) -> None:
        encoder = Encoder(templates_bytes_max=20_000)
        expected = Encoder().encode_reports(["t0"], np.array([1]), np.array([1.0]), np.array([[1.0]]))
        for i in range(200):
            encoder.encode_reports([f"t{i}"], np.array([1]), np.array([1.0]), np.array([[1.0]]))
        assert encoder.templates_bytes <= 20_000
        assert encoder.encode_reports(["t0"], np.array([1]), np.array([1.0]), np.array([[1.0]])) == expected

"""Points that are no scalars, from the call to the batch: in order, bounded, and never harmful."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from tensorboardX.proto.summary_pb2 import Summary

import tallyboard
from tallyboard.collect import sections
from tallyboard.collect.blobs import PendingBlob, encoded
from tallyboard.delivery import batching
from tallyboard.errors import InvalidReportError, TagOfOtherKindError, TagRepeatedError
from tallyboard.summaries.texts import METADATA, text_blob
from tallyboard.wire import MSGPACK, Batch, decode_batch, encode_batch, limits
from tests.unit.client_kit import Recorded, problem, recorded, sending


def batches(mine: Recorded) -> list[Batch]:
    """What would be sent, as the service decodes it."""
    return [
        decode_batch(encode_batch(batch), MSGPACK, now=0.0)
        for section in mine.recorder.take()
        for batch in batching.batches(section)
    ]


def texts(mine: Recorded) -> list[tuple[str, str, int, str]]:
    """(counter, tag, step, text) of each text that would be sent."""
    return [
        (c.counter, c.tags[0], int(step), Summary.Value.FromString(blob.data).tensor.string_val[0].decode())
        for batch in batches(mine)
        for c in batch.columns
        if c.kind == "text"
        for step, blob in zip(c.steps, c.blobs, strict=True)
    ]


def test_a_text_an_image_and_a_histogram_go_with_the_scalars() -> None:
    mine = recorded(strict=True)
    for step in range(3):
        mine.log({"loss": step / 10}, step)
        mine.run.log_text("sample", f"text {step}", step)
        mine.run.log_image("image", np.full((2, 2), step, np.uint8), step)
        mine.run.log_histogram("weights", [step, step + 1.0], step)
    (batch,) = batches(mine)
    kinds = {c.tags[0]: (c.counter, c.kind, c.steps.tolist(), len(set(c.blobs))) for c in batch.columns}
    assert kinds == {
        "loss": ("global_step", "scalars", [0, 1, 2], 0),
        "sample": ("global_step", "text", [0, 1, 2], 3),
        "image": ("global_step", "images", [0, 1, 2], 3),
        "weights": ("global_step", "histograms", [0, 1, 2], 3),
    }
    stats = mine.tally.stats()
    assert (stats.reports, stats.scalars, stats.waiting) == (12, 12, 12)


def test_without_a_step_it_stands_at_the_counters_value() -> None:
    mine = recorded(strict=True, counters={"val/*": "epoch"})
    run = mine.run
    run.counter("global_step").set(7)
    run.counter("epoch").set(2)
    run.log_text("a", "one")
    run.log_text("val/b", "two")
    run.log_text("c", "three", counter="epoch", wall_time=12.5, at={"global_step": 5})
    (batch,) = batches(mine)
    stands = {c.tags[0]: (c.counter, c.steps.tolist(), {k: v.tolist() for k, v in c.at.items()}) for c in batch.columns}
    assert stands == {
        "a": ("global_step", [7], {"epoch": [2]}),
        "val/b": ("epoch", [2], {"global_step": [7]}),
        "c": ("epoch", [2], {"global_step": [5]}),
    }
    assert [c.wall_times[0] for c in batch.columns] == [1000.0, 1000.0, 12.5]


def test_nothing_raises_and_each_line_is_warned_about_once() -> None:
    mine = recorded()
    run = mine.run
    for _ in range(3):
        run.log_image("image", np.zeros(3), 1)
        run.log_histogram("weights", ["x"], 1)
        run.log_text("text", 3, 1)  # type: ignore[arg-type]
        run.log_text("", "no tag", 1)
        run.log_text("text", "no step", "x")  # type: ignore[arg-type]
        run.log_text("text", "no counter", 1, counter="wall_time")
    assert len(mine.ears.heard) == 6
    assert mine.tally.stats().dropped_reports == 18
    assert all(__file__ in text for text in mine.ears.heard)
    assert batches(mine) == []


def test_a_foreign_array_that_fails_harms_nobody() -> None:
    class Hostile:
        @property
        def dtype(self) -> Any:
            raise RuntimeError("no device")

        def __array__(self) -> Any:
            raise RuntimeError("no device")

    mine = recorded()
    mine.run.log_image("image", Hostile(), 1)
    assert "no device" in mine.ears.heard[0]


def test_a_strict_run_raises_on_the_line() -> None:
    run = recorded(strict=True).run
    with pytest.raises(InvalidReportError):
        run.log_image("image", np.zeros(3), 1)
    run.log_text("text", "one", 1)
    run.log_text("text", "one", 1)  # is stored already
    with pytest.raises(TagRepeatedError):
        run.log_text("text", "two", 1)
    with pytest.raises(TagOfOtherKindError, match="holds text, not scalars"):
        run.log({"text": 1.0}, 2)


def test_a_lower_step_travels_apart_for_the_service_to_judge() -> None:
    mine = recorded()
    for step in (5, 3, 6):
        mine.run.log_text("text", f"at {step}", step)
    assert [row[2:] for row in texts(mine)] == [(5, "at 5"), (6, "at 6"), (3, "at 3")]
    assert mine.tally.stats().violations == 1
    assert "goes back" in mine.ears.heard[0]


def test_after_the_end_it_is_dropped_and_counted() -> None:
    mine = recorded()
    mine.recorder.close("it is over", "finished", {})
    mine.run.log_text("text", "late", 1)
    assert mine.tally.stats().dropped_reports == 1
    assert "over" in mine.ears.heard[0]


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────


def blob_of_size(nbytes: int, byte: bytes = b"x") -> PendingBlob:
    """A text blob of just so many bytes."""
    overhead = len(text_blob("x" * nbytes).encode()) - nbytes if nbytes < limits.BLOB_BYTES_MAX - 64 else 22
    return text_blob((byte * (nbytes - overhead)).decode())


def _same(blob: PendingBlob) -> PendingBlob:
    return blob


def test_sections_with_the_largest_blobs_fit_into_a_body() -> None:
    mine = recorded(strict=True)
    step = 0
    for _ in range(3):
        for nbytes in (sections.SECTION_COST_MAX - 4096, limits.BLOB_BYTES_MAX - 64):
            step += 1
            blob = blob_of_size(nbytes, b"%d" % step)
            mine.recorder.log_blob("text", partial(_same, blob), step, None, None, None)
    bodies = [encode_batch(batch) for section in mine.recorder.take() for batch in batching.batches(section)]
    assert max(map(len, bodies)) <= limits.BODY_BYTES_MAX * 0.8
    assert max(map(len, bodies)) > limits.BLOB_BYTES_MAX + sections.SECTION_COST_MAX - 8192
    assert sum(len(c) for body in bodies for c in decode_batch(body, MSGPACK, now=0.0).columns) == 6


def test_a_blob_beyond_its_bound_is_dropped_counted_and_told() -> None:
    mine = recorded()
    mine.run.log_text("text", "x" * limits.BLOB_BYTES_MAX, 1)
    assert batches(mine) == []
    assert mine.tally.stats().dropped_reports == 1
    assert "at most" in mine.ears.heard[0]


def test_metadata_counts_too() -> None:
    """Thousands of tags with large metadata must not make a batch that no service takes."""
    mine = recorded(strict=True)
    metadata = METADATA + b"\x12" + b"\xd0\xf0\x03" + b"d" * 63_568  # a display name
    text = text_blob("a").encode()
    for i in range(300):
        mine.recorder.log_blob(f"tag{i}", lambda: encoded(metadata, text), 1, None, None, None)
    bodies = [encode_batch(batch) for section in mine.recorder.take() for batch in batching.batches(section)]
    assert len(bodies) > 3
    assert max(map(len, bodies)) <= limits.BODY_BYTES_MAX


def test_blobs_that_wait_are_bounded_by_their_bytes() -> None:
    mine = recorded(buffer_bytes_max=20 * limits.MIB)
    for step in range(30):
        blob = blob_of_size(limits.MIB, b"%d" % (step % 10))
        mine.recorder.log_blob("text", partial(_same, blob), step, None, None, None)
    kept = [blob.nbytes for section in mine.recorder.take() for packed in section.rows for blob in packed.blobs]
    assert 19 * limits.MIB <= sum(kept) <= 26 * limits.MIB
    assert mine.tally.stats().dropped_reports > 0
    assert sum("dropped" in text for text in mine.ears.heard) == 1
    mine.run.log_text("text", "room again", 100)
    assert len(batches(mine)) == 1


def test_one_row_of_each_of_many_tags_is_counted_with_what_it_takes() -> None:
    mine = recorded(counters={"*": "tag:*"}, buffer_bytes_max=limits.MIB)
    for i in range(20_000):
        mine.log({f"tag{i}": 1.0}, 1)
    assert sum(len(section.rows) for section in mine.recorder.take()) < 5_000


def test_what_can_not_be_encoded_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = recorded(strict=True)
    bugs: list[str] = []
    monkeypatch.setattr(mine.ears, "bug", bugs.append)

    def broken() -> bytes:
        raise MemoryError

    for step, blob in enumerate((text_blob("a"), PendingBlob("text", METADATA, 10, "x", broken), text_blob("b"))):
        mine.recorder.log_blob("text", partial(_same, blob), step, None, None, None)
    mine.recorder.log_blob("alone", lambda: PendingBlob("text", METADATA, 10, "x", broken), 4, None, None, None)
    mine.log({"loss": 1.0}, 5)
    sent = [(c.tags[0], c.steps.tolist()) for batch in batches(mine) for c in batch.columns]
    assert sorted(sent) == [("loss", [5]), ("text", [0, 2])]
    stats = mine.tally.stats()
    assert (stats.dropped_reports, stats.waiting) == (2, 3)
    assert bugs == ["encoding", "encoding"]


def test_a_disabled_run_moves_counters_and_keeps_nothing() -> None:
    with tallyboard.init("digits/try1", mode="disabled") as run:
        run.log_text("text", "a", 7)
        run.log_image("image", "no image at all")
        assert run.counter().value == 7


# ── on the way ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_blobs_are_sent_again_as_they_were() -> None:
    busy = problem(503)
    mine = sending(busy, busy)
    mine.recorded.run.log_text("text", "hello", 1)
    mine.drain()
    bodies = [body for _, body in mine.transport.sent]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    (batch,) = mine.transport.batches
    assert batch.columns[0].kind == "text"


def test_what_the_service_refuses_is_told() -> None:
    mine = sending(problem(422, "invalid", "not text at all"))
    mine.recorded.run.log_text("text", "hello", 1)
    mine.drain()
    assert mine.recorded.tally.stats().dropped_reports == 1
    assert "not text at all" in mine.recorded.ears.heard[-1]


def test_a_section_of_nothing_but_what_can_not_be_encoded_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bytes:
        raise MemoryError

    mine = sending()
    monkeypatch.setattr(mine.recorded.ears, "bug", lambda _: None)
    mine.recorded.recorder.log_blob("text", partial(PendingBlob, "text", METADATA, 9, "x", broken), 1, None, None, None)
    mine.drain()
    (batch,) = mine.transport.batches
    assert batch.columns == ()
    stats = mine.recorded.tally.stats()
    assert (stats.dropped_reports, stats.waiting) == (1, 0)


def test_many_tags_that_go_back_are_one_warning_a_line() -> None:
    mine = recorded(counters={"*": "tag:*"})
    for step in (5, 4):
        mine.log({f"tag{i}": 1.0 for i in range(50)}, step)
    assert len(mine.ears.heard) == 1
    assert mine.tally.stats().violations == 50

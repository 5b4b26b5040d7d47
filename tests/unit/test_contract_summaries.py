"""The step contract and tags that are no scalars, and counters that single tags have to themselves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.wire import Batch, Blob, Columns, Open, Rewind, limits
from tallyboard.wire.summaries import blob_of, keys_of
from tallyboard_server.contract import BlobCollisionError, LimitError, Outcome, RefusedError
from tallyboard_server.model import Counter, RunState, frozen
from tests.unit.contract_run import Run


def images(steps: list[int], blobs: list[bytes], tag: str = "image", **changes: Any) -> Columns:
    made = tuple(map(blob_of, blobs))
    columns = Columns(
        "global_step", (tag,), np.array(steps, np.int64), np.ones(len(steps)), keys_of(made), kind="images",
        metadata=b"m", blobs=made,
    )  # fmt: skip
    return replace(columns, **changes)


def scalars(steps: list[int], tag: str = "loss", **changes: Any) -> Columns:
    columns = Columns("global_step", (tag,), np.array(steps, np.int64), np.ones(len(steps)), np.ones((len(steps), 1)))
    return replace(columns, **changes)


def own(tag: str, steps: list[int]) -> Columns:
    return scalars(steps, tag, counter=f"tag:{tag}")


def send(run: Run, *columns: Columns, **parts: Any) -> Outcome:
    return run.apply(Batch(columns=columns, **parts))


class TestKinds:
    def test_a_blob_is_a_point_like_any_other(self) -> None:
        run = Run()
        outcome = send(run, images([1, 2], [b"one", b"two"]), scalars([1, 2], block=1))
        assert (outcome.receipt.accepted, outcome.receipt.stored) == (4, 4)
        assert sorted(blob.data for blob in outcome.blobs.values()) == [b"one", b"two"]
        tag = run.state.tags["image"]
        assert (tag.kind, tag.metadata, tag.is_scalar) == ("images", b"m", False)
        assert run.state.tags["loss"].is_scalar
        assert [key for _, key in run.visible("image")] == keys_of([blob_of(b"one"), blob_of(b"two")])[:, 0].tolist()

    def test_the_same_again_is_stored_already_and_another_is_refused(self) -> None:
        run = Run()
        send(run, images([1], [b"one"]))
        again = send(run, images([1], [b"one"])).receipt
        assert (again.stored, again.repeated) == (0, 1)
        with pytest.raises(RefusedError) as caught:
            send(run, images([1], [b"other"]))
        (refusal,) = caught.value.refused
        assert refusal.reason == "tag_repeated"
        assert refusal.detail.startswith("tag 'image' has other images at global_step 1 already")

    def test_blobs_of_refused_reports_are_not_kept(self) -> None:
        run = Run()
        send(run, images([5], [b"five"]))
        outcome = send(run, images([4, 6], [b"four", b"six"]), partial=True)
        assert [blob.data for blob in outcome.blobs.values()] == [b"six"]
        assert [r.reason for r in outcome.receipt.refused] == ["step_decreased"]

    def test_a_tag_keeps_its_kind_and_its_first_metadata(self) -> None:
        run = Run()
        send(run, images([1], [b"one"]), scalars([1], block=1))
        send(run, images([2], [b"two"], metadata=b"other"))
        assert run.state.tags["image"].metadata == b"m"
        for columns in (scalars([3], "image"), images([3], [b"x"], "loss"), images([3], [b"x"], kind="text")):
            before = run.state
            with pytest.raises(RefusedError) as caught:
                send(run, columns)
            (refusal,) = caught.value.refused
            assert (refusal.reason, refusal.tags) == ("tag_of_other_kind", list(columns.tags))
            assert "a tag keeps its kind" in refusal.detail
            assert run.state is before
        send(run, rewind=Rewind(next_steps={"global_step": 0}))
        with pytest.raises(RefusedError):
            send(run, scalars([3], "image"))  # even with no point left

    def test_two_kinds_in_one_batch(self) -> None:
        run = Run()
        receipt = send(run, scalars([1], "x"), images([1], [b"x"], "x", block=1), partial=True).receipt
        assert [(r.block, r.reason) for r in receipt.refused] == [(1, "tag_of_other_kind")]
        assert run.state.tags["x"].kind == "scalars"

    def test_values_that_share_a_key_are_refused(self) -> None:
        run = Run()
        one, other = blob_of(b"one"), Blob(b"other", b"another hash")
        columns = replace(images([1, 2], [b"one", b"one"]), blobs=(one, other))
        before = run.state
        with pytest.raises(BlobCollisionError, match="can't be told apart"):
            send(run, columns)
        assert run.state is before

    def test_rows_of_refusals_are_those_of_the_request(self) -> None:
        run = Run()
        send(run, images([5], [b"five"]))
        receipt = send(run, images([4], [b"four"], rows=np.array([17])), partial=True).receipt
        assert [r.row for r in receipt.refused] == [17]


Plan = list[tuple[str, list[tuple[int, int]]]]
"""Batches: a rewind of the counter to a step, or reports of a tag as (step, number of the value)."""


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2)), min_size=1)),
            st.tuples(st.just("rewind"), st.lists(st.tuples(st.integers(0, 6), st.just(0)), min_size=1, max_size=1)),
        ),
        max_size=12,
    )
)
def test_histories_of_blobs_are_histories_of_their_keys(plan: Plan) -> None:
    """Whatever happens to tags of blobs happens to scalar tags that report the blobs' keys, step by step."""
    blobs, numbers = Run(), Run()
    for what, points in plan:
        steps = [step for step, _ in points]
        if what == "rewind":
            batch = Batch(rewind=Rewind(next_steps={"global_step": steps[0]}))
            outcomes = blobs.apply(batch), numbers.apply(batch)
        else:
            columns = images(steps, [str(number).encode() for _, number in points], what)
            plain = replace(columns, kind="scalars", metadata=b"", blobs=())
            outcomes = send(blobs, columns, partial=True), send(numbers, plain, partial=True)
        one, other = (told(outcome) for outcome in outcomes)
        assert one == other
        stored = {key for block in outcomes[0].blocks for key in block.values[:, 0].tolist()}
        assert stored <= outcomes[0].blobs.keys()
    assert blobs.points == numbers.points
    assert {name: (c.last_step, len(c.attempts)) for name, c in blobs.state.counters.items()} == {
        name: (c.last_step, len(c.attempts)) for name, c in numbers.state.counters.items()
    }


def told(outcome: Outcome) -> Any:
    blocks = [(b.pos, b.steps.tolist(), b.values.tobytes(), b.tag_ids.tolist(), b.attempt) for b in outcome.blocks]
    receipt = outcome.receipt
    refused = [(r.block, r.row, r.step, r.reason) for r in receipt.refused]
    return blocks, receipt.accepted, receipt.stored, receipt.repeated, refused, receipt.counters


class TestCountersOfSingleTags:
    def test_each_tag_goes_its_own_way(self) -> None:
        run = Run()
        receipt = send(run, own("epoch/acc", [1, 2]), own("loss", [1000, 1001])).receipt
        assert (receipt.accepted, receipt.counters) == (4, {})
        assert send(run, own("epoch/acc", [3])).receipt.refused_count == 0
        with pytest.raises(RefusedError) as caught:
            send(run, own("loss", [3]))
        assert caught.value.refused[0].reason == "step_decreased"

    def test_a_tag_counts_on_one_counter_only(self) -> None:
        run = Run()
        send(run, own("loss", [5]), scalars([1], "acc"))
        for columns in (scalars([9], "loss"), own("acc", [9])):
            with pytest.raises(RefusedError) as caught:
                send(run, columns)
            assert caught.value.refused[0].reason == "tag_of_other_counter"

    def test_they_are_bounded_with_the_tags_not_with_the_counters(self) -> None:
        run = Run()
        many = limits.COUNTERS_PER_RUN_MAX + 50
        for begin in range(0, many, 350):
            send(run, *(own(f"t{i}", [1]) for i in range(begin, begin + 350)))
        assert len(run.state.counters) >= many
        send(run, *(scalars([1], f"x{i}", counter=f"c{i}") for i in range(limits.COUNTERS_PER_RUN_MAX)))
        with pytest.raises(RefusedError) as caught:
            send(run, scalars([1], "y", counter="one too many"))
        assert caught.value.refused[0].reason == "too_many_counters"
        send(run, own("one more", [1]))

    def test_counters_without_tags_are_bounded_too(self) -> None:
        run = Run()
        full = limits.COUNTERS_PER_RUN_MAX + limits.TAGS_PER_RUN_MAX
        counters = {f"tag:{i}": Counter(i + 1, f"tag:{i}") for i in range(full)}
        run.state = replace(run.state, counters=frozen(counters))
        with pytest.raises(LimitError):
            send(run, rewind=Rewind(next_steps={"tag:new": 0}))

    def test_all_go_back_at_once(self) -> None:
        run = Run()
        send(run, own("a", [1, 5, 9]), own("b", [2, 3]), scalars([7], "c"))
        receipt = send(run, rewind=Rewind(next_steps={"tag:*": 4})).receipt
        assert {name: (v.last_step, v.attempt) for name, v in receipt.counters.items()} == {"global_step": (7, 1)}
        assert receipt.not_rewound.keys() == {"global_step"}
        assert [values(run.state, name) for name in ("tag:a", "tag:b", "global_step")] == [(1, 2), (3, 2), (7, 1)]
        assert [step for step, _ in run.visible("a")] == [1]
        assert run.state.epoch == 1
        send(run, rewind=Rewind(next_steps={"tag:*": 4, "tag:b": 0}))
        assert [values(run.state, name) for name in ("tag:a", "tag:b")] == [(1, 3), (None, 3)]
        assert "tag:*" not in run.state.counters

    def test_all_are_handed_over_at_once(self) -> None:
        run = Run()
        send(run, own("a", [1]), own("b", [1]), scalars([1], "c"), producer="p", seq=1)
        taken = Open(take_over=("tag:*",))
        send(run, own("a", [2]), own("b", [2]), open=taken, producer="q", seq=1)
        writers = {name: counter.attempts[-1].writer for name, counter in run.state.counters.items()}
        assert writers == {"tag:a": "q", "tag:b": "q", "global_step": "p"}


def values(state: RunState, counter: str) -> tuple[int | None, int]:
    found = state.counters[counter]
    return found.last_step, len(found.attempts)

"""However the sender cuts what was logged into batches, the service ends up as if each call had been sent alone.

And what one client can know, it knows: it warns of exactly the reports that the step contract refuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.delivery import batching
from tallyboard.summaries.texts import METADATA, text_blob
from tallyboard.wire import MSGPACK, Batch, Columns, Rewind, decode_batch, encode_batch, summaries
from tallyboard_server.contract import apply, new_run
from tallyboard_server.model import Block, RunState
from tests.unit.client_kit import Recorded, recorded

Point = tuple[str, int, str, int, bytes]
"""counter, attempt, tag, step, bits of the value."""


@dataclass(frozen=True)
class Log:
    counter: str
    step: int
    scalars: dict[str, float]


@dataclass(frozen=True)
class Single:
    """One scalar of a tag that has a counter to itself."""

    tag: str
    step: int
    value: float


@dataclass(frozen=True)
class Text:
    """A point that is no scalar; without a counter, of a tag that has one to itself."""

    tag: str
    counter: str | None
    step: int
    text: str


@dataclass(frozen=True)
class Back:
    next_steps: dict[str, int]


@dataclass(frozen=True)
class Cut:
    """The sender comes by."""


COUNTERS = st.sampled_from(["global_step", "epoch"])
STEPS = st.integers(0, 6)
VALUES = st.sampled_from([0.0, -0.0, 1.0, float("nan")])
CALLS = st.one_of(
    st.builds(Log, COUNTERS, STEPS, st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1, max_size=3)),
    st.builds(Log, st.just("global_step"), STEPS, st.fixed_dictionaries({"a": VALUES})),
    st.builds(Single, st.sampled_from("xy"), STEPS, VALUES),
    st.builds(Text, st.sampled_from("at"), COUNTERS, STEPS, st.sampled_from(["one", "two"])),
    st.builds(Text, st.sampled_from("xy"), st.none(), STEPS, st.sampled_from(["one", "two"])),
    st.builds(Back, st.dictionaries(st.one_of(COUNTERS, st.sampled_from(["tag:*", "tag:x"])), STEPS, min_size=1)),
    st.just(Cut()),
)


class Service:
    """The step contract with a list in place of a store."""

    def __init__(self) -> None:
        self.state: RunState = new_run(1, "digits/try1", now=0.0)
        self.blocks: list[Block] = []
        self.refused = 0
        self.seq = 0

    def take(self, batch: Batch) -> None:
        self.seq += 1
        body = encode_batch(
            Batch(
                producer="p1", seq=self.seq, partial=True, open=batch.open, rewind=batch.rewind,
                columns=batch.columns, summary=batch.summary, status=batch.status,
            )
        )  # fmt: skip
        outcome = apply(
            self.state, decode_batch(body, MSGPACK, now=0.0), now=0.0, last_step_before=self._last_step_before
        )
        self.state = outcome.state
        self.blocks += outcome.blocks
        self.refused += outcome.receipt.refused_count

    def _last_step_before(self, counter_id: int, attempt: int, step: int) -> int | None:
        steps = [
            int(s)
            for block in self.blocks
            if (block.counter_id, block.attempt) == (counter_id, attempt)
            for s in block.steps
            if s < step
        ]
        return max(steps, default=None)

    def points(self) -> set[Point]:
        """All that is stored."""
        counters = {counter.id: name for name, counter in self.state.counters.items()}
        tags = {tag.id: name for name, tag in self.state.tags.items()}
        return {
            (counters[block.counter_id], block.attempt, tags[int(tag)], int(step), block.values[i, j].tobytes())
            for block in self.blocks
            for i, step in enumerate(block.steps)
            for j, tag in enumerate(block.tag_ids)
        }

    def last_steps(self) -> dict[str, int | None]:
        return {name: counter.last_step for name, counter in self.state.counters.items() if counter.attempts}


def alone(call: Log | Single | Text | Back) -> Batch:
    """A call as a batch of its own."""
    match call:
        case Back(next_steps):
            return Batch(rewind=Rewind(next_steps=next_steps))
        case Single(tag, step, value):
            return alone(Log(f"tag:{tag}", step, {tag: value}))
        case Text(tag, counter, step, text):
            blob = summaries.blob_of(text_blob(text).encode())
            name = counter or f"tag:{tag}"
            wall_times, keys = np.array([1.0]), summaries.keys_of([blob])
            columns = Columns(
                name, (tag,), np.array([step]), wall_times, keys, kind="text", metadata=METADATA, blobs=(blob,)
            )  # fmt: skip
            return Batch(columns=(columns,))
    columns = Columns(
        call.counter,
        tuple(call.scalars),
        np.array([call.step]),
        np.array([1.0]),
        np.array([list(call.scalars.values())]),
    )
    return Batch(columns=(columns,))


def deliver(mine: Recorded, service: Service) -> None:
    for section in mine.recorder.take():
        for batch in batching.batches(section):
            service.take(batch)


@settings(deadline=None, max_examples=400)
@given(st.lists(CALLS, max_size=40))
def test_batches_do_what_each_call_alone_would_do(calls: Sequence[Any]) -> None:
    one_by_one, merged, mine = Service(), Service(), recorded(counters={"[xy]": "tag:*"})
    for call in calls:
        match call:
            case Cut():
                deliver(mine, merged)
            case Back(next_steps):
                one_by_one.take(alone(call))
                mine.recorder.rewind(next_steps, "", {})
            case Log(counter, step, scalars):
                one_by_one.take(alone(call))
                mine.log(scalars, step, counter=counter)
            case Single(tag, step, value):
                one_by_one.take(alone(call))
                if not mine.recorder.log_single(tag, value, step):
                    mine.log({tag: value}, step)
            case Text(tag, counter, step, text):
                one_by_one.take(alone(call))
                mine.run.log_text(tag, text, step, counter=counter)
    deliver(mine, merged)
    assert merged.points() == one_by_one.points()
    assert merged.last_steps() == one_by_one.last_steps()
    assert merged.refused == one_by_one.refused
    assert mine.tally.stats().violations == merged.refused

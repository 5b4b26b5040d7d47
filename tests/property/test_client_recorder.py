"""However the sender cuts what was logged into batches, the service ends up as if each call had been sent alone.

And what one client can know, it knows: it warns of exactly the reports that the step contract refuses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.delivery import merge
from tallyboard.wire import MSGPACK, Batch, Columns, Rewind, decode_batch, encode_batch
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
    st.builds(Back, st.dictionaries(COUNTERS, STEPS, min_size=1)),
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


def alone(call: Log | Back) -> Batch:
    """A call as a batch of its own."""
    if isinstance(call, Back):
        return Batch(rewind=Rewind(next_steps=call.next_steps))
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
        for batch in merge.batches(section):
            service.take(batch)


@settings(deadline=None, max_examples=300)
@given(st.lists(CALLS, max_size=40))
def test_batches_do_what_each_call_alone_would_do(calls: Sequence[Any]) -> None:
    one_by_one, merged, mine = Service(), Service(), recorded()
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
    deliver(mine, merged)
    assert merged.points() == one_by_one.points()
    assert merged.last_steps() == one_by_one.last_steps()
    assert merged.refused == one_by_one.refused
    assert mine.tally.stats().violations == merged.refused

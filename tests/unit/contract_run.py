"""A run under the step contract that remembers its points as a store would; what the contract's tests speak to."""

import json
from typing import Any

import pytest

from tallyboard.wire import JSON, Batch, Receipt, decode_batch
from tallyboard_server.contract import Outcome, RefusedError, apply, new_run
from tallyboard_server.model import RunState

Point = tuple[str, int, str, int, float]
"""(counter, attempt, tag, step, value)"""


class Run:
    """A run that remembers the points it was given, as a store would."""

    def __init__(self) -> None:
        self.state: RunState = new_run(1, "mnist/try1", now=100.0)
        self.now = 100.0
        self.points: list[Point] = []
        self.seqs: dict[str, int] = {}

    def send(self, body: dict[str, Any], *, by: str | None = None, seq: int | None = None) -> Outcome:
        """Send one JSON body, in the stream of `by` if given."""
        self.now += 1.0
        if by is not None:
            body = {"producer": by, "seq": seq or self.seqs.get(by, 0) + 1, **body}
        batch = decode_batch(json.dumps(body).encode(), JSON, now=self.now)
        return self.apply(batch)

    def apply(self, batch: Batch) -> Outcome:
        """Apply a batch and keep what it stored."""
        outcome = apply(self.state, batch, now=self.now, last_step_before=self._last_step_before)
        self.state = outcome.state
        if batch.producer is not None and batch.seq is not None:
            self.seqs[batch.producer] = max(batch.seq, self.seqs.get(batch.producer, 0))
        counters = {counter.id: name for name, counter in self.state.counters.items()}
        tags = {tag.id: name for name, tag in self.state.tags.items()}
        for block in outcome.blocks:
            for row, step in enumerate(block.steps.tolist()):
                for j, tag_id in enumerate(block.tag_ids.tolist()):
                    value = float(block.values[row, j])
                    self.points.append((counters[block.counter_id], block.attempt, tags[tag_id], step, value))
        return outcome

    def report(self, step: int, counter: str = "global_step", by: str | None = None, **scalars: float) -> Receipt:
        """Send one report."""
        return self.send({"step": step, "counter": counter, "scalars": scalars}, by=by).receipt

    def rewind(self, by: str | None = None, id_: str | None = None, **next_steps: int) -> Receipt:
        """Send a rewind."""
        return self.send({"rewind": {"next_steps": next_steps, "id": id_}}, by=by).receipt

    def visible(self, tag: str) -> list[tuple[int, float]]:
        """(step, value) of a tag as charts show it."""
        found = []
        for counter, attempt, name, step, value in self.points:
            limit = self.state.counters[counter].limit(attempt)
            if name == tag and (limit is None or step < limit):
                found.append((step, value))
        return sorted(found)

    def value(self, counter: str = "global_step") -> int | None:
        """The counter's value."""
        return self.state.counters[counter].last_step

    def _last_step_before(self, counter_id: int, attempt: int, step: int) -> int | None:
        name = next(c.name for c in self.state.counters.values() if c.id == counter_id)
        steps = [p[3] for p in self.points if p[:2] == (name, attempt) and p[3] < step]
        return max(steps, default=None)


def refusals(run: Run, body: dict[str, Any], by: str | None = None) -> RefusedError:
    """Send what must be refused, and see that nothing changed."""
    before = run.state
    with pytest.raises(RefusedError) as caught:
        run.send(body, by=by)
    assert run.state is before
    return caught.value

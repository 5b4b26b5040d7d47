"""Histories in a real store beside a brute-force model, cells cut at random, and curves by their definition."""

import bisect
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tallyboard.wire import Columns, Float64, Int64
from tallyboard.wire.limits import STEP_MAX
from tallyboard_server.contract import Outcome
from tallyboard_server.model import AlertCount, Block
from tallyboard_server.store import envelope
from tallyboard_server.store.envelope import Cells
from tallyboard_server.store.protocol import Snapshot, Store
from tests.property.contract_model import Model, Point
from tests.property.test_contract_history import WRITERS, Act, Machine, likely_act, usual_bounds

Curve = list[tuple[int, Point, Any]]
"""(step, point, x) of a curve's points, ascending."""


class StoredMachine(Machine):
    """The machine of the contract's tests, with everything it accepts kept in a store.

    Wall times repeat and go back, and `at` is recorded of some reports only.
    """

    def __init__(self, store: Store, dice: random.Random) -> None:
        super().__init__(usual_bounds())
        self.store = store
        self.dice = dice
        self.unruly = dice.random() < 0.6
        with store.transaction() as transaction:
            transaction.save(self.state)

    def act(self) -> None:
        """Let something happen, and merge now and then."""
        self.play(likely_act(self.dice, self.dice.choice(WRITERS[:1] * 6 + WRITERS)))
        if self.dice.random() < 0.2:
            self.merge()

    def merge(self) -> None:
        """Merge some of what is there."""
        dice = self.dice
        up_to = dice.randint(0, self.state.pos)
        with self.store.snapshot() as view:
            places = view.mergeable(self.state.id, up_to_pos=up_to, min_blocks=dice.choice([1, 3]))
            sources = [
                view.whole_batches(self.state.id, *place, up_to_pos=up_to, rows_max=dice.choice([1, 5, 100]))
                for place in places
            ]
        for blocks in filter(None, sources):
            merge = self.store.prepare_merge(self.state.id, blocks)
            with self.store.transaction() as transaction:
                transaction.merge(merge)

    def _cut(self, counter: str, cut: str) -> int:
        return min(super()._cut(counter, cut), STEP_MAX)  # as the wire has it; long histories get that far

    def _columns(self, act: Act) -> tuple[Columns, ...]:
        made = super()._columns(act)
        if not self.unruly:
            return made
        return tuple(
            replace(columns, wall_times=np.array([wall + self.dice.choice((0, 0, 0, -1500, -150, -7, 3))
                                                  for wall in columns.wall_times.tolist()]))
            for columns in made
        )  # fmt: skip

    def _keep(self, outcome: Outcome) -> None:
        with self.store.transaction() as transaction:
            transaction.save(outcome.state, outcome.blocks, outcome.refused)


class CutAtRandom:
    """A snapshot whose cells are any that the protocol allows: of up to rows_max points each, cut at random."""

    def __init__(self, view: Snapshot, dice: random.Random) -> None:
        self._view = view
        self._dice = dice
        self.read_points = 0

    def cells(
        self, run_id: int, counter_id: int, attempt: int, tag_ids: Sequence[int], *, first_step: int = 0,
        last_step: int = 2**63 - 1, rows_max: int = 1, at: int | None = None,
    ) -> dict[int, Cells]:  # fmt: skip
        """See Snapshot.cells."""
        found = self._view.cells(
            run_id, counter_id, attempt, tag_ids, first_step=first_step, last_step=last_step, rows_max=1, at=at
        )
        if rows_max == 1:
            self.read_points += sum(map(len, found.values()))
            return found
        return {tag_id: envelope.grouped(cells, self._starts(len(cells), rows_max)) for tag_id, cells in found.items()}

    def points_at_most(
        self, run_id: int, counter_id: int, attempt: int, tag_ids: Sequence[int], *, first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> dict[int, int]:  # fmt: skip
        """See Snapshot.points_at_most: sometimes too many."""
        found = self._view.points_at_most(
            run_id, counter_id, attempt, tag_ids, first_step=first_step, last_step=last_step
        )
        return {tag_id: count + self._dice.choice((0, 0, 3, 300)) for tag_id, count in found.items()}

    def blocks(
        self, run_id: int, counter_id: int, attempt: int, *, tag_id: int | None = None, first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> Iterator[Block]:  # fmt: skip
        """See Snapshot.blocks."""
        return self._view.blocks(run_id, counter_id, attempt, tag_id=tag_id, first_step=first_step, last_step=last_step)

    def axes(
        self, run_id: int, counter_id: int, attempt: int, *, first_step: int = 0, last_step: int = 2**63 - 1
    ) -> Iterator[tuple[Int64, Float64]]:
        """See Snapshot.axes."""
        return self._view.axes(run_id, counter_id, attempt, first_step=first_step, last_step=last_step)

    def refused_count(self, run_id: int) -> int:
        """See Snapshot.refused_count."""
        return self._view.refused_count(run_id)

    def alert_count(self, run_id: int) -> AlertCount:
        """See Snapshot.alert_count."""
        return self._view.alert_count(run_id)

    def incident_kinds(self, run_id: int) -> list[str]:
        """See Snapshot.incident_kinds."""
        return self._view.incident_kinds(run_id)

    def _starts(self, n: int, rows_max: int) -> Any:
        starts, next_start = [], 0
        while next_start < n:
            starts.append(next_start)
            next_start += self._dice.randint(1, min(rows_max, 9))
        return np.array(starts, np.int64)


def until_attempt(model: Model, counter: str, attempt: int) -> Model:
    """The model as it would be had a counter no later attempt."""
    counters = dict(model.counters)
    counters[counter] = counters[counter][:attempt]
    points = {key: point for key, point in model.points.items() if key[0] != counter or key[1] <= attempt}
    return Model(model.bounds, counters, model.tags, points)


def curve(model: Model, tag: str, counter: str, x: str) -> Curve:
    """The visible points of a tag on a counter, by the definition of the axis."""
    shown = model.visible()
    points = sorted(
        ((key[3], point) for key, point in model.points.items() if key in shown and key[::2] == (counter, tag)),
        key=lambda item: item[0],
    )
    return [
        (step, point, place) for (step, point), place in zip(points, _along(model, counter, points, x), strict=True)
    ]


def superseded_curve(model: Model, tag: str, counter: str, attempt: int, x: str) -> Curve:
    """What later attempts hide of a tag's points in one attempt, where x was until then."""
    before = until_attempt(model, counter, attempt)
    axis = before if x in ("step", "wall_time", "relative", counter) else None
    hidden = {
        key[3]
        for key in model.points
        if key[:3] == (counter, attempt, tag) and not model.is_visible(counter, attempt, key[3])
    }
    found = curve(before, tag, counter, x if axis is not None else "step")
    if axis is None:
        points = [(step, point) for step, point, _ in found]
        places = _along(model, counter, points, x)
        found = [(step, point, place) for (step, point), place in zip(points, places, strict=True)]
    return [entry for entry in found if entry[0] in hidden]


def _running_max(numbers: list[Any]) -> list[Any]:
    return [max(numbers[: i + 1]) for i in range(len(numbers))]


def _along(model: Model, counter: str, points: list[tuple[int, Point]], x: str) -> list[Any]:
    if x in ("step", counter):
        return [step for step, _ in points]
    walls = _running_max([point.wall_time for _, point in points])
    if x == "wall_time":
        return walls
    if x == "relative":
        return [wall - walls[0] for wall in walls]
    shown = model.visible()
    rows = {(key[1], key[3], point.wall_time) for key, point in model.points.items() if key[0] == x and key in shown}
    ordered = sorted(rows, key=lambda row: (row[2], row[1]))
    times, reached = [row[2] for row in ordered], _running_max([row[1] for row in ordered])
    found = []
    for _, point in points:
        before = bisect.bisect_right(times, point.wall_time)
        found.append(point.at.get(x, reached[before - 1] if before else 0))
    return _running_max(found)

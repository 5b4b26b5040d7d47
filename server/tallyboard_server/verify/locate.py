"""Finds the very points in which an event file and the store differ, within stretches whose sums did not agree."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tallyboard_server.eventfiles.columns import Part, PointColumns
from tallyboard_server.eventfiles.reader import BlobPoint, SessionStart
from tallyboard_server.model import Block
from tallyboard_server.verify.ledger import Mismatch, as_float32, key_bits, value_bits

POINTS_MAX: Final = 200_000
"""Points of one suspect that are compared one by one; the rest of its stretch is left out."""

Point = tuple[float, int]
"""(wall time, value as the bits of a float32, or of a blob's key)."""


@dataclass(slots=True)
class Suspect:
    """A mismatch with its points, expected and found, by step. twice: steps found more than once.

    is_blob: the tag is no scalar.
    """

    mismatch: Mismatch
    tag: str
    is_blob: bool = False
    expected: dict[int, Point] = field(default_factory=dict)
    found: dict[int, Point] = field(default_factory=dict)
    twice: set[int] = field(default_factory=set)

    def expect(self, block: Block) -> None:
        """Points that should be in the file."""
        rows = block.between(self.mismatch.first, self.mismatch.last)
        for column in np.flatnonzero(rows.tag_ids == self.mismatch.tag_id).tolist():
            values = rows.values[:, column]
            bits = key_bits(values).tolist() if self.is_blob else value_bits(as_float32(values)).tolist()
            for step, wall_time, value in zip(rows.steps.tolist(), rows.wall_times.tolist(), bits, strict=True):
                if len(self.expected) < POINTS_MAX:
                    self.expected[step] = (wall_time, value)

    def find(self, part: PointColumns) -> None:
        """Points that are."""
        if self.tag not in part.tags:
            return
        rows = np.flatnonzero((part.steps >= self.mismatch.first) & (part.steps <= self.mismatch.last))
        bits = value_bits(part.values[rows, part.tags.index(self.tag)])
        for step, wall_time, value in zip(
            part.steps[rows].tolist(), part.wall_times[rows].tolist(), bits.tolist(), strict=True
        ):
            self._found(step, wall_time, value)

    def find_blob(self, point: BlobPoint) -> None:
        """A point of another kind that is."""
        if self.tag == point.tag and self.mismatch.first <= point.step <= self.mismatch.last:
            self._found(point.step, point.wall_time, int(key_bits(np.array([point.key]))[0]))

    def _found(self, step: int, wall_time: float, bits: int) -> None:
        if step in self.found:
            self.twice.add(step)
        elif len(self.found) < POINTS_MAX:
            self.found[step] = (wall_time, bits)

    def forget_found(self) -> None:
        """A session start took back what was found."""
        self.found.clear()
        self.twice.clear()

    def verdict(self) -> tuple[int, int, str] | None:
        """(first step, last step, what is amiss there); None if no point was seen to differ."""
        expected, found = self.expected, self.found
        missing = expected.keys() - found.keys()
        extra = found.keys() - expected.keys()
        changed = {step for step in expected.keys() & found.keys() if expected[step] != found[step]}
        steps = missing | extra | changed | self.twice
        if not steps:
            return None
        kinds = ((missing, "missing"), (extra, "that should not be there"), (changed, "changed"), (self.twice, "twice"))
        told = ", ".join(f"{len(steps):,} {what}" for steps, what in kinds if steps)
        return min(steps), max(steps), f"points of the event file: {told}"


def look_into(parts: Iterable[Part], suspects: list[Suspect]) -> None:
    """Collect the suspects' points from an event file's parts."""
    for part in parts:
        for suspect in suspects:
            if isinstance(part, SessionStart):
                suspect.forget_found()
            elif isinstance(part, PointColumns):
                suspect.find(part)
            elif isinstance(part, BlobPoint):
                suspect.find_blob(part)

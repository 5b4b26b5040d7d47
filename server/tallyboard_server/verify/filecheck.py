"""Compares a run's event file with what the store says that it should hold, and names what differs."""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from tallyboard.wire.limits import STEP_MAX
from tallyboard_server.eventfiles.columns import read_columns
from tallyboard_server.eventfiles.shelf import Shelf
from tallyboard_server.model import Block, Counter
from tallyboard_server.store.paging import Stretch as Range
from tallyboard_server.store.protocol import Generation
from tallyboard_server.verify.ledger import Mismatch
from tallyboard_server.verify.locate import Suspect, look_into
from tallyboard_server.verify.report import Difference
from tallyboard_server.verify.shown import FileReader
from tallyboard_server.verify.stored import Place, StoreReader, Subject, blob_tags

LOCATED_MAX: Final = 16
"""Mismatches that are looked into point by point; each is one tag in one page of an attempt."""


class FileCheck:
    """One event file against a store that was read already. `differences` and `in_file` are there after `steps()`."""

    def __init__(self, stored: StoreReader, subject: Subject, generation: Generation, shelf: Shelf) -> None:
        self._stored = stored
        self._subject = subject
        self._shelf = shelf
        self._where = shelf.where(subject.state.name, generation.file_name)
        self._file = FileReader(shelf, generation, subject.state, stored.ledger)
        self.differences: list[Difference] = []
        self.in_file: dict[Place, int] = {}

    def steps(self) -> Iterator[int]:
        """Read the file and compare; yields how many scalars each step read."""
        yield from self._file.read()
        for stretch in self._stored.ledger.stretches():
            place = stretch.counter_id, stretch.attempt
            self.in_file[place] = self.in_file.get(place, 0) + sum(cell.count for cell in stretch.found.values())
        faults = self._file.faults
        self.differences += [self._of_file(f"{self._where}: {fault}") for fault in faults]
        self.differences += [
            self._of_file(f"{self._where} holds a point that is none of the run's", tag=tag, step=step)
            for tag, step in self._file.strays
        ]
        if not faults:
            yield from self._mismatches()

    def _mismatches(self) -> Iterator[int]:
        """Every stretch and tag that differs; the first of them down to the point."""
        mismatches = self._stored.ledger.mismatches(STEP_MAX)
        names = {tag.id: name for name, tag in self._subject.state.tags.items()}
        counters = {counter.id: counter for counter in self._subject.state.counters.values()}
        blobs = blob_tags(self._subject.state)
        suspects = [
            Suspect(found, names.get(found.tag_id, "?"), found.tag_id in blobs)
            for found in islice(mismatches, LOCATED_MAX)
        ]
        if suspects:
            for suspect in suspects:
                yield from self._expect(suspect, counters[suspect.mismatch.stretch.counter_id])
            yield from self._find(suspects)
        for suspect in suspects:
            found = suspect.mismatch
            first, last, told = suspect.verdict() or (found.first, found.last, _sums(found))
            self.differences.append(self._of_points(found, suspect.tag, first, last, told, counters))
        for found in mismatches:
            tag = names.get(found.tag_id, "?")
            self.differences.append(self._of_points(found, tag, found.first, found.last, _sums(found), counters))

    def _expect(self, suspect: Suspect, counter: Counter) -> Iterator[int]:
        found = suspect.mismatch
        place = found.stretch.counter_id, found.stretch.attempt
        limit = counter.limit(found.stretch.attempt)
        last = min(found.last, self._subject.cuts[place] - 1)
        left = Range(self._subject.state.id, *place, found.first, last)
        while left.first <= left.last:
            blocks, next_first = self._stored.read(left)
            self._expect_blocks(suspect, blocks, limit)
            left = Range(left.run_id, *place, next_first, left.last)
            yield 0
        self._expect_blocks(suspect, self._subject.tails[place], limit)

    def _expect_blocks(self, suspect: Suspect, blocks: list[Block], limit: int | None) -> None:
        for block in blocks:
            if (rows := self._stored.in_file(block, limit)) is not None:
                suspect.expect(rows)

    def _find(self, suspects: list[Suspect]) -> Iterator[int]:
        with self._shelf.open(self._subject.state.name, self._file.generation) as (stream, _):
            for part in read_columns(stream, self._file.generation.length):
                look_into([part], suspects)
                yield 0

    def _of_file(self, detail: str, tag: str | None = None, step: int | None = None) -> Difference:
        return Difference(
            kind="event_file", detail=f"{detail}; {self._remedy()}", tag=tag, first_step=step, last_step=step
        )

    def _of_points(
        self, found: Mismatch, tag: str, first: int, last: int, told: str, counters: dict[int, Counter]
    ) -> Difference:
        return Difference(
            kind="event_file",
            detail=f"{told}; {self._remedy()}",
            counter=counters[found.stretch.counter_id].name,
            attempt=found.stretch.attempt,
            tag=tag,
            first_step=first,
            last_step=last,
        )

    def _remedy(self) -> str:
        return f"`tallyboard repair {self._subject.state.name}` writes it anew from the store"


def _sums(found: Mismatch) -> str:
    if found.expected == found.found:
        return f"some of {found.expected:,} points of the event file are not those stored"
    return f"the event file holds {found.found:,} of {found.expected:,} points"

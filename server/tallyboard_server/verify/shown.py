"""Reads a run's live event file anew, as far as it is known to be on disk, into the ledger of what it should hold."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np

from tallyboard_server.eventfiles.columns import PointColumns, read_columns
from tallyboard_server.eventfiles.encoder import file_head
from tallyboard_server.eventfiles.reader import BlobPoint, FileVersion, SessionStart
from tallyboard_server.eventfiles.shelf import Shelf
from tallyboard_server.eventfiles.summaries import VACANT_KEYS
from tallyboard_server.eventfiles.tfrecord import Damage
from tallyboard_server.model import Int32, RunState
from tallyboard_server.store.protocol import Generation
from tallyboard_server.verify.ledger import Ledger

_STRAYS_MAX = 100


@dataclass(slots=True)
class FileReader:
    """One event file against one state. faults: what is wrong with the file as such, in words.

    strays: points of tags that the run does not have, or before every attempt: (tag, step), bounded.
    """

    shelf: Shelf
    generation: Generation
    state: RunState
    ledger: Ledger
    faults: list[str] = field(default_factory=list)
    strays: list[tuple[str, int]] = field(default_factory=list)
    scalars: int = 0
    _groups: dict[tuple[str, ...], list[tuple[int, Int32, Int32]]] = field(default_factory=dict)

    def read(self) -> Iterator[int]:
        """Read the file; yields the number of scalars after each part."""
        try:
            with self.shelf.open(self.state.name, self.generation) as (stream, size):
                yield from self._read(stream, size)
        except FileNotFoundError:
            self.faults.append("it is missing")
        except OSError as error:
            self.faults.append(f"it can't be read: {error.strerror or error}")

    def _read(self, stream: BinaryIO, size: int) -> Iterator[int]:
        head = file_head(self.generation.seconds)
        if stream.read(len(head)) != head:
            self.faults.append("it begins with another header than ours")
            return
        if size < self.generation.length:
            self.faults.append(f"it has {size:,} of {self.generation.length:,} bytes")
        for part in read_columns(stream, min(size, self.generation.length) - len(head)):
            match part:
                case PointColumns():
                    self._take(part)
                    yield part.values.size
                case BlobPoint():
                    self._take_blob(part)
                    yield 1
                case SessionStart():
                    self._forget(part.step)
                case FileVersion():
                    self.faults.append("it holds a second header")
                case Damage(offset, reason, torn) if not (torn and self.faults):
                    self.faults.append(f"it is damaged at byte {offset + len(head):,}: {reason}")

    def _take(self, part: PointColumns) -> None:
        self.scalars += part.values.size
        for counter_id, tag_ids, columns in self._grouped(part.tags):
            values = part.values if len(columns) == len(part.tags) else part.values[:, columns]
            outside = self.ledger.find(counter_id, tag_ids, part.steps, part.wall_times, values)
            for row in outside[: _STRAYS_MAX - len(self.strays)].tolist():
                self.strays.append((part.tags[int(columns[0])], int(part.steps[row])))

    def _take_blob(self, point: BlobPoint) -> None:
        if point.key in VACANT_KEYS:
            return
        self.scalars += 1
        tag = self.state.tags.get(point.tag)
        counter_id, tag_id = (0, 0) if tag is None else (tag.counter_id, tag.id)
        outside = self.ledger.find_blob(counter_id, tag_id, point.step, point.wall_time, point.key)
        if outside and len(self.strays) < _STRAYS_MAX:
            self.strays.append((point.tag, point.step))

    def _grouped(self, tags: tuple[str, ...]) -> list[tuple[int, Int32, Int32]]:
        """The tags of a record by counter: (counter id, tag ids, their columns); unknown ones as counter 0."""
        known = self._groups.get(tags)
        if known is None:
            found: dict[int, tuple[list[int], list[int]]] = {}
            for column, name in enumerate(tags):
                tag = self.state.tags.get(name)
                ids, columns = found.setdefault(tag.counter_id if tag is not None else 0, ([], []))
                ids.append(tag.id if tag is not None else 0)
                columns.append(column)
            known = self._groups[tags] = [
                (counter_id, np.array(ids, np.int32), np.array(columns, np.int32))
                for counter_id, (ids, columns) in found.items()
            ]
        return known

    def _forget(self, step: int) -> None:
        """A session start takes back what came before it; ours do that from step 0 on."""
        if step:
            self.faults.append(f"it holds a session start at step {step}, which ours never do")
            return
        self.ledger.forget_found()
        self.strays.clear()
        self.scalars = 0

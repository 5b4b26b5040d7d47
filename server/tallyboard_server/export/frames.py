"""Points as MessagePack: columns as they come from the store, for programs; `tallyboard.read` takes these.

The stream is a sequence of MessagePack binaries, each of which holds one MessagePack map: {"run", "version"} first,
then blocks as reports travel in {"counter", "attempt", "superseded", "tags", "steps", "wall_times", "values"}, and if
it is asked for "x": where another counter stood; {"end": {"scalars"}} last, or {"failed"} with the reason. A stream
without its end is cut.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from tallyboard.wire import Int64
from tallyboard_server.export.pages import Page, Reader
from tallyboard_server.export.writer import Writer
from tallyboard_server.model import Block, Counter, RunState
from tallyboard_server.series.asof import Reached, read_reached
from tallyboard_server.series.reading import RunReader
from tallyboard_server.store.envelope import NOT_RECORDED
from tallyboard_server.store.protocol import Store

VERSION: Final = 1
VALUES_AT_ONCE: Final = 131_072
"""Values in one frame, unless a single report has more: a megabyte."""
_BIN32: Final = struct.Struct(">BI")


class FrameWriter(Writer):
    """Frames of columns: steps int64[n], wall_times float64[n], values float64[n * k], x int64[n], little-endian."""

    def __init__(self, reader: Reader, stood: "Stood | None" = None) -> None:
        self._reader = reader
        self._stood = stood
        self._scalars = 0

    def begin(self) -> Iterator[bytes]:
        """Whose points they are."""
        yield _frame({"run": self._reader.state.name, "version": VERSION})

    def page(self, page: Page) -> Iterator[bytes]:
        """A frame for each block."""
        for block in page.blocks:
            rows = max(1, VALUES_AT_ONCE // len(block.tag_ids))
            told = {
                "counter": page.counter,
                "attempt": page.attempt,
                "superseded": page.superseded,
                "tags": [self._reader.names[tag_id] for tag_id in block.tag_ids.tolist()],
            }
            for first in range(0, len(block.steps), rows):
                part = block.take(slice(first, first + rows))
                self._scalars += part.values.size
                columns = {"steps": part.steps, "wall_times": part.wall_times, "values": part.values}
                if self._stood is not None:
                    columns["x"] = self._stood.at(part)
                yield _frame(told | {name: _little(column) for name, column in columns.items()})

    def end(self) -> Iterator[bytes]:
        """How many scalars there were."""
        yield _frame({"end": {"scalars": self._scalars}})

    def failed(self, reason: str) -> Iterator[bytes]:
        """Why there is no end."""
        yield _frame({"failed": reason})


class Stood:
    """Where a counter of the run stood at each report: as recorded with it, else as of its time."""

    def __init__(self, store: Store, state: RunState, counter: Counter) -> None:
        self._store = store
        self._state = state
        self._counter = counter
        self._reached: Reached | None = None

    def at(self, block: Block) -> Int64:
        """int64[n] for the rows of a block. Raises PointsTooManyError if it takes too many reports to tell."""
        if block.counter_id == self._counter.id:
            return block.steps
        recorded = block.at.get(self._counter.id)
        missing = np.ones(len(block.steps), bool) if recorded is None else recorded == NOT_RECORDED
        if recorded is not None and not missing.any():
            return recorded
        by_time = self._read().at(block.wall_times)
        return by_time if recorded is None else np.where(missing, by_time, recorded)

    def _read(self) -> Reached:
        if self._reached is None:
            with RunReader(self._store.snapshot) as source:
                self._reached = read_reached(source, self._state.id, self._counter)
        return self._reached


def _frame(message: dict[str, Any]) -> bytes:
    data = msgspec.msgpack.encode(message)
    return _BIN32.pack(0xC6, len(data)) + data


def _little(column: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes()

"""Points as MessagePack: columns as they come from the store, for programs; `tallyboard.read` takes these.

The stream is a sequence of MessagePack binaries, each of which holds one MessagePack map: {"run", "version"} first,
then blocks as reports travel in {"counter", "attempt", "superseded", "tags", "steps", "wall_times", "values"},
{"end": {"scalars"}} last. A stream without its end is cut.
"""

import struct
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from tallyboard_server.export.pages import Page, Reader

VERSION: Final = 1
VALUES_AT_ONCE: Final = 131_072
"""Values in one frame, unless a single report has more: a megabyte."""
_BIN32: Final = struct.Struct(">BI")


class FrameWriter:
    """Frames of columns: steps int64[n], wall_times float64[n], values float64[n * k], little-endian."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
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
                yield _frame(
                    told
                    | {
                        "steps": _little(part.steps),
                        "wall_times": _little(part.wall_times),
                        "values": _little(part.values),
                    }
                )

    def end(self) -> Iterator[bytes]:
        """How many scalars there were."""
        yield _frame({"end": {"scalars": self._scalars}})


def _frame(message: dict[str, Any]) -> bytes:
    data = msgspec.msgpack.encode(message)
    return _BIN32.pack(0xC6, len(data)) + data


def _little(column: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes()

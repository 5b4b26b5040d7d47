"""Points as a Parquet file, written row group by row group; needs pyarrow (`pip install 'tallyboard[parquet]'`)."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from tallyboard_server.export.pages import Page, Reader, Scalars
from tallyboard_server.export.writer import Writer

ROWS_PER_GROUP: Final = 262_144
"""Some 10 MB before compression."""
_NAME: Final = pa.dictionary(pa.int32(), pa.string())


class ParquetWriter(Writer):
    """The columns of CSV: names as dictionaries, steps and attempts as int64, times and values as float64."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        fields = [
            ("run", _NAME), ("counter", _NAME), ("step", pa.int64()), ("wall_time", pa.float64()), ("tag", _NAME),
            ("value", pa.float64()),
        ]  # fmt: skip
        if reader.wanted.superseded:
            fields += [("attempt", pa.int64()), ("superseded", pa.bool_())]
        self._schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])
        self._sink = _Sink()
        self._file = parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        by_id = [reader.names.get(tag_id, "") for tag_id in range(max(reader.names, default=0) + 1)]
        self._tags = pa.array(by_id, pa.string())
        self._counters = list(reader.state.counters)
        self._waiting: list[Any] = []
        self._rows = 0

    def begin(self) -> Iterator[bytes]:
        """The magic number."""
        yield self._sink.taken()

    def page(self, page: Page) -> Iterator[bytes]:
        """The row groups that are full."""
        self._waiting.append(self._batch(page, self._reader.scalars(page)))
        self._rows += self._waiting[-1].num_rows
        if self._rows >= ROWS_PER_GROUP:
            yield from self._write()

    def end(self) -> Iterator[bytes]:
        """The last row group and the footer."""
        yield from self._write()
        self._file.close()
        yield self._sink.taken()

    def _write(self) -> Iterator[bytes]:
        if not self._waiting:
            return
        table = pa.Table.from_batches(self._waiting, self._schema).unify_dictionaries()
        self._waiting, self._rows = [], 0
        for first in range(0, table.num_rows, ROWS_PER_GROUP):
            self._file.write_table(table.slice(first, ROWS_PER_GROUP), row_group_size=ROWS_PER_GROUP)
            yield self._sink.taken()

    def _batch(self, page: Page, scalars: Scalars) -> Any:
        n = len(scalars)
        used, codes = np.unique(scalars.tag_ids, return_inverse=True)
        columns: dict[str, Any] = {
            "run": _repeated(self._reader.state.name, n),
            "counter": _repeated(page.counter, n),
            "step": pa.array(scalars.steps[scalars.reports]),
            "wall_time": pa.array(scalars.wall_times[scalars.reports]),
            "tag": pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), self._tags.take(pa.array(used))),
            "value": pa.array(scalars.values),
            "attempt": pa.array(np.full(n, page.attempt)),
            "superseded": pa.array(np.full(n, page.superseded)),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in self._schema.names], schema=self._schema)


def _repeated(name: str, n: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([name], pa.string()))


class _Sink:
    """A file that is only written to; what was written is taken out piece by piece."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._size += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

"""Rows of exports: every point of a long run in each format, and read back as columns, through HTTP."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np
from pyarrow import parquet

import tallyboard
from tallyboard.wire import MSGPACK, Batch, Columns, Float64, encode_batch
from tallyboard.wire.names import DEFAULT_COUNTER
from tallyboard_server.eventfiles.columns import PointColumns, read_columns
from tests.bench.plan import Bench
from tests.bench.result import Goal, Row
from tests.bench.service import Service, Span, serving
from tests.bench.streams import tags

_RUN: Final = "export/run"
_TAGS: Final = tags(10)
_ROWS_PER_REQUEST: Final = 10_000
_CHUNK_BYTES: Final = 1024 * 1024


def exports(bench: Bench) -> list[Row]:
    """One run in every format, and as columns."""
    reports = bench.sizes.export_reports
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        values = _fill(service, reports)
        rows = [_format(service, folder, form, values) for form in _COUNTED]
        rows.append(_read(service, values))
    return rows


def _fill(service: Service, reports: int) -> Float64:
    """Report noise; returns the values sent, float64[reports, 10]."""
    values = np.random.default_rng(0).normal(size=(reports, len(_TAGS)))
    for seq, first in enumerate(range(0, reports, _ROWS_PER_REQUEST), start=1):
        part = values[first : first + _ROWS_PER_REQUEST]
        steps = np.arange(first, first + len(part), dtype=np.int64)
        columns = Columns(DEFAULT_COUNTER, _TAGS, steps, 1.7e9 + steps / 1e3, part)
        response = service.pool.request(
            "POST", f"{service.url}/api/v1/scalars/{quote(_RUN)}",
            body=encode_batch(Batch(producer="bench", seq=seq, columns=(columns,))),
            headers={"Content-Type": MSGPACK},
        )  # fmt: skip
        if response.status != 200:
            raise RuntimeError(f"{response.status} {response.data[:300].decode(errors='replace')}")
    return values


def _format(service: Service, folder: Path, form: str, values: Float64) -> Row:
    path = folder / f"exported.{form}"
    before, begun = service.figures(), time.perf_counter()
    url = f"{service.url}/api/v1/export/{quote(_RUN)}?format={form}"
    with path.open("wb") as file:
        response = service.pool.request("GET", url, preload_content=False)
        for piece in response.stream(_CHUNK_BYTES):
            file.write(piece)
    ended = time.perf_counter()
    found, size = _COUNTED[form](path), path.stat().st_size
    path.unlink()
    row = _row(
        f"export-{form}", f"GET /export as {form}: {values.size:,} scalars, ten tags", values.size, ended - begun
    )
    row.goals.append(Goal("points exact", f"{found - values.size:+,}", found == values.size))
    row.usage = service.usage(Span(begun, ended, before, service.figures()))
    row.notes.append(f"{size / values.size:.1f} bytes a scalar")
    return row


def _read(service: Service, values: Float64) -> Row:
    before, begun = service.figures(), time.perf_counter()
    table = tallyboard.read(_RUN, url=service.url)
    ended = time.perf_counter()
    row = _row("export-read", f"tallyboard.read: {values.size:,} scalars as columns", values.size, ended - begun)
    same = np.array_equal(table["value"], values[:, np.argsort(_TAGS)].T.reshape(-1))
    row.goals.append(Goal("points exact", "same" if same else "others", same))
    row.usage = service.usage(Span(begun, ended, before, service.figures()))
    return row


def _row(name: str, what: str, scalars: int, seconds: float) -> Row:
    return Row(name, what, rate=scalars / seconds)


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(_CHUNK_BYTES), b""))


def _event_points(path: Path) -> int:
    with path.open("rb") as file:
        parts = read_columns(file, os.fstat(file.fileno()).st_size)
        return sum(part.values.size for part in parts if isinstance(part, PointColumns))


_COUNTED: Final[dict[str, Callable[[Path], int]]] = {
    "csv": lambda path: _lines(path) - 1,
    "jsonl": _lines,
    "parquet": lambda path: parquet.read_metadata(path).num_rows,
    "tfevents": _event_points,
}
"""By format, how many scalars a file holds."""

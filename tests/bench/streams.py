"""Requests that cost next to nothing to make: encoded once, with the numbers that differ patched in place."""

import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol
from urllib.parse import quote

import msgspec
import numpy as np

from tallyboard.wire import JSON, MSGPACK, Batch, Columns, encode_batch
from tallyboard.wire.names import DEFAULT_COUNTER

Form = Literal["msgpack", "json", "json-single"]

_SEQ_MARK: Final = 0x7EDC_BA98_7654_3210
"""A seq that MessagePack writes in nine bytes, as the real one will be."""
_SEQ: Final = struct.Struct(">Q")
_STEP_DIGITS: Final = 12
_STEP_SLOT: Final = b" " * (_STEP_DIGITS - 1) + b"0"


@dataclass(slots=True, frozen=True)
class Stream:
    """One writer's reports to one counter of one run: batches of `rows` reports with all `tags`, steps 1, 2, 3, ….

    form: MessagePack columns in batches numbered by `producer`, a JSON list of reports, or single JSON reports
    (rows is 1); JSON comes from nobody in particular, as from curl.
    """

    run: str
    tags: tuple[str, ...]
    rows: int
    form: Form = "msgpack"
    producer: str = "bench"
    counter: str = DEFAULT_COUNTER

    @property
    def scalars(self) -> int:
        """Scalars in one batch."""
        return self.rows * len(self.tags)


class Request(Protocol):
    """A POST that can be made again and again, each time with the next steps."""

    def advance(self) -> bytearray:
        """The next request, head and body; the same buffer every time."""
        ...


def tags(count: int) -> tuple[str, ...]:
    """Names such as trainings have."""
    kinds = ("loss", "accuracy", "grad_norm", "lr", "perplexity")
    return tuple(f"train/layer{i // len(kinds)}/{kinds[i % len(kinds)]}" for i in range(count))


def request(stream: Stream, host: str, seed: int) -> Request:
    """The request of a stream to a service at `host` (name:port)."""
    rng = np.random.default_rng(seed)
    return _Columnar(stream, host, rng) if stream.form == "msgpack" else _Textual(stream, host, rng)


def _with_head(stream: Stream, host: str, content_type: str, body: bytes) -> tuple[bytearray, int]:
    """Head and body as one buffer, and where the body begins."""
    head = (
        f"POST /api/v1/scalars/{quote(stream.run)} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    return bytearray(head + body), len(head)


class _Columnar:
    """A numbered MessagePack batch, as the Python client sends it."""

    def __init__(self, stream: Stream, host: str, rng: np.random.Generator) -> None:
        n, k = stream.rows, len(stream.tags)
        steps = np.arange(n, dtype=np.int64) + _SEQ_MARK
        walls = np.arange(n, dtype=np.float64) * 1e-3 + 1e9
        values = rng.normal(size=(n, k))
        columns = Columns(stream.counter, stream.tags, steps, walls, values)
        body = encode_batch(Batch(producer=stream.producer, seq=_SEQ_MARK, partial=True, columns=(columns,)))
        self._buffer, start = _with_head(stream, host, MSGPACK, body)
        self._seq_at = self._buffer.index(_SEQ.pack(_SEQ_MARK), start)
        self._steps = self._column(steps.tobytes(), "<i8")
        self._walls = self._column(walls.tobytes(), "<f8")
        self._values = self._column(values.tobytes(), "<f8")
        self._rows = np.arange(n, dtype=np.int64)
        self._offsets = self._rows * 1e-6
        self._values_then = values.ravel()
        self._shifts = rng.normal(size=4096).tolist()
        self._seq = 0

    def advance(self) -> bytearray:
        self._seq += 1
        _SEQ.pack_into(self._buffer, self._seq_at, self._seq)
        np.add(self._rows, (self._seq - 1) * len(self._rows) + 1, out=self._steps)
        np.add(self._offsets, time.time(), out=self._walls)
        # New digits in every value, so that merged columns compress no better than real ones.
        np.add(self._values_then, self._shifts[self._seq % len(self._shifts)], out=self._values)
        return self._buffer

    def _column(self, mark: bytes, dtype: str) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        at = self._buffer.index(mark)
        return np.frombuffer(self._buffer, dtype=dtype, offset=at, count=len(mark) // 8)


class _Textual:
    """A JSON body: one report, or a list of them with their wall times."""

    def __init__(self, stream: Stream, host: str, rng: np.random.Generator) -> None:
        reports = [self._report(stream, row, rng) for row in range(stream.rows)]
        single = stream.form == "json-single"
        body = reports[0] if single else b'{"reports": [' + b", ".join(reports) + b"]}"
        self._buffer, _ = _with_head(stream, host, JSON, body)
        self._slots = _places(self._buffer, _STEP_SLOT)
        self._step = 0

    def advance(self) -> bytearray:
        step = self._step
        for at in self._slots:
            step += 1
            self._buffer[at : at + _STEP_DIGITS] = b"%12d" % step
        self._step = step
        return self._buffer

    @staticmethod
    def _report(stream: Stream, row: int, rng: np.random.Generator) -> bytes:
        scalars = msgspec.json.encode(dict(zip(stream.tags, rng.normal(size=len(stream.tags)).tolist(), strict=True)))
        counter = msgspec.json.encode(stream.counter)
        wall = b"" if stream.form == "json-single" else b', "wall_time": %.6f' % (time.time() + 1e-3 * row)
        return b'{"step": ' + _STEP_SLOT + b', "counter": ' + counter + wall + b', "scalars": ' + scalars + b"}"


def _places(buffer: bytearray, mark: bytes) -> Sequence[int]:
    found = []
    at = buffer.find(mark)
    while at >= 0:
        found.append(at)
        at = buffer.find(mark, at + len(mark))
    return found

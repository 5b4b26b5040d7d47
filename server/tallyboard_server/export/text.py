"""Points as text, one scalar a line: CSV with a head line, or a JSON document a line.

Numbers are written so that reading them gives the same bits: steps as whole numbers, floats as the shortest decimals
that mean them, and what is not finite as NaN, Infinity, -Infinity (in JSON as strings, as everywhere in the API).
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from tallyboard_server.export.pages import Page, Reader, Scalars
from tallyboard_server.export.writer import Writer

LINES_AT_ONCE: Final = 16_384
"""About a megabyte of text."""
COLUMNS: Final = ("run", "counter", "step", "wall_time", "tag", "value")
COLUMNS_OF_ALL: Final = (*COLUMNS, "attempt", "superseded")
"""With superseded points."""
_TO_BE_QUOTED: Final = re.compile(r'[",\r\n]|^\s|\s$')
_NON_FINITE: Final = ("NaN", "Infinity", "-Infinity")


class _Shape(NamedTuple):
    """What stands around the numbers of a line: head step mid wall_time tag value tail."""

    head: str
    mid: str
    tag: str
    value: str
    tail: str


class CsvWriter(Writer):
    """Comma-separated values as RFC 4180 has them, but for lines, which end in a line feed."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._superseded = reader.wanted.superseded

    def begin(self) -> Iterator[bytes]:
        """The head line."""
        yield ",".join(COLUMNS_OF_ALL if self._superseded else COLUMNS).encode() + b"\n"

    def page(self, page: Page) -> Iterator[bytes]:
        """The lines of a page."""
        told = f",{page.attempt},{str(page.superseded).lower()}" if self._superseded else ""
        head = f"{_quoted(self._reader.state.name)},{_quoted(page.counter)},"
        yield from _lines(self._reader, page, _Shape(head, ",", ",", ",", f"{told}\n"), _quoted, _NON_FINITE)


class JsonLinesWriter(Writer):
    """One JSON object a line."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._superseded = reader.wanted.superseded

    def page(self, page: Page) -> Iterator[bytes]:
        """The lines of a page."""
        told = f',"attempt":{page.attempt},"superseded":{str(page.superseded).lower()}' if self._superseded else ""
        head = f'{{"run":{_json(self._reader.state.name)},"counter":{_json(page.counter)},"step":'
        shape = _Shape(head, ',"wall_time":', ',"tag":', ',"value":', f"{told}}}\n")
        yield from _lines(self._reader, page, shape, _json, tuple(map(_json, _NON_FINITE)))


def _lines(reader: Reader, page: Page, shape: _Shape, spelled: Any, non_finite: Sequence[str]) -> Iterator[bytes]:
    """Three pieces of text a scalar: its report with the end of the line before, its tag, its value."""
    scalars = reader.scalars(page)
    reports = [
        f"{shape.tail}{shape.head}{step}{shape.mid}{wall_time}{shape.tag}"
        for step, wall_time in zip(_numbers(scalars.steps), _numbers(scalars.wall_times), strict=True)
    ]
    tags = {tag_id: f"{spelled(reader.names[tag_id])}{shape.value}" for tag_id in np.unique(scalars.tag_ids).tolist()}
    for first in range(0, len(scalars), LINES_AT_ONCE):
        part = scalars.take(slice(first, first + LINES_AT_ONCE))
        pieces = [""] * (3 * len(part))
        pieces[0::3] = [reports[report] for report in part.reports.tolist()]
        pieces[1::3] = [tags[tag_id] for tag_id in part.tag_ids.tolist()]
        pieces[2::3] = _values(part, non_finite)
        yield ("".join(pieces)[len(shape.tail) :] + shape.tail).encode()


def _numbers(column: Any) -> list[str]:
    return msgspec.json.encode(column.tolist())[1:-1].decode().split(",")


def _values(part: Scalars, non_finite: Sequence[str]) -> list[str]:
    """Each value as text; non_finite: how NaN, Infinity and -Infinity are spelled."""
    texts = _numbers(part.values)
    for index in np.flatnonzero(~np.isfinite(part.values)).tolist():
        value = part.values[index]
        texts[index] = non_finite[0 if value != value else 1 if value > 0 else 2]
    return texts


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _TO_BE_QUOTED.search(text) else text

"""The order of rows: one key per row that sorts as asked, and travels in cursors."""

import math
from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import total_ordering
from typing import Any, Final

import msgspec

from tallyboard_server.runtable.parse import SortKey

TEXT_CHARS_MAX: Final = 200
"""Characters by which texts are ordered: keys travel in cursors."""


class Kind(IntEnum):
    """Kinds of values in ascending order; NAN and MISSING come last however the column is ordered."""

    NUMBER = 0
    TEXT = 1
    BOOLEAN = 2
    OTHER = 3
    NAN = 8
    MISSING = 9


Rank = tuple[int, Any]
"""A value's kind, and itself as far as it is ordered by."""

RowKey = tuple[Any, ...]
"""What rows are compared by: a (rank, value) pair for each column, then the name, so that no two are equal."""


@total_ordering
class _Descending:
    """A text that comes before those that are less."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and self.text == other.text

    def __lt__(self, other: "_Descending") -> bool:
        return self.text > other.text

    def __hash__(self) -> int:
        return hash(self.text)


def ranks(values: Mapping[str, Any], sort: Sequence[SortKey]) -> list[Rank]:
    """What of a run's values its place depends on; plain numbers and texts."""
    return [_rank(values[key.column.text]) for key in sort]


def row_key(ranked: Sequence[Rank], name: str, sort: Sequence[SortKey]) -> RowKey:
    """The key of a row: numbers come before texts, those before booleans, those before lists and objects.

    Then come NaN and what is missing, also in descending columns. Equals are ordered by name.
    """
    return (*(_directed(rank, key.descending) for rank, key in zip(ranked, sort, strict=True)), name)


def _rank(value: Any) -> Rank:
    if value is None:
        return Kind.MISSING, 0
    if isinstance(value, bool):
        return Kind.BOOLEAN, int(value)
    if isinstance(value, (int, float)):
        return (Kind.NAN, 0) if math.isnan(value) else (Kind.NUMBER, value)
    if isinstance(value, str):
        return Kind.TEXT, value[:TEXT_CHARS_MAX]
    return Kind.OTHER, msgspec.json.encode(value)[: 4 * TEXT_CHARS_MAX].decode(errors="ignore")[:TEXT_CHARS_MAX]


def _directed(rank: Rank, descending: bool) -> Rank:
    kind, value = rank
    if not descending or kind in (Kind.NAN, Kind.MISSING):
        return rank
    return -kind, _Descending(value) if isinstance(value, str) else -value

"""What many runs have together: which tags, counters and keys, in how many of them, and what the values are like."""

import math
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Any, Final, TypeVar

from tallyboard_server.runtable.columns import COUNTERS, Column
from tallyboard_server.runtable.facets import Facets, Sort, Value, facets_of
from tallyboard_server.store.perrun import KnownRuns
from tallyboard_server.store.protocol import RunVersion, Store

WEIGHT_MAX: Final = 500_000
"""Units of roughly 64 bytes held of all runs: 32 MB, which is 10,000 runs of 100 tags and ten keys."""
DISTINCT_MAX: Final = 1_000
"""Different values of a key that are told apart."""
VALUES_SHOWN_MAX: Final = 20
"""A key of more different values is not one to choose from."""

_T = TypeVar("_T")


@dataclass(slots=True)
class Key:
    """A key of a document. runs: how many have it. sorts: of its values, and in how many runs.

    distinct: how many different values, None beyond DISTINCT_MAX; values: all of them in order, if they are few and no
    lists or objects. least, greatest: of the finite numbers.
    """

    column: str
    runs: int
    sorts: Mapping[Sort, int]
    distinct: int | None
    values: list[float | str | bool]
    least: float | None
    greatest: float | None


@dataclass(slots=True)
class Columns:
    """What tables of these runs can show. tags, counters: in how many runs; totals: in how many one is known.

    truncated: there is more than this; what most runs have is kept.
    """

    runs: int
    config: list[Key]
    summary: list[Key]
    tags: list[tuple[str, int]]
    counters: list[tuple[str, int, int]]
    truncated: bool


@dataclass(slots=True)
class Tags:
    """What charts of these runs can show. scalars: by tag, in how many runs on each counter. kinds: of the tags that
    are no scalars, in how many runs each tag is. truncated: as in Columns."""

    runs: int
    scalars: dict[str, dict[str, int]]
    kinds: dict[str, dict[str, int]]
    truncated: bool


class Overview:
    """Answers for the runs of a store; of those that did not change since they were last read, nothing is read."""

    def __init__(self, store: Store, *, weight_max: int = WEIGHT_MAX) -> None:
        self._known: KnownRuns[Facets] = KnownRuns(store, facets_of, weight_max)

    def columns(self, heads: Iterable[RunVersion], most: int) -> Columns:
        """The columns of these runs, at most so many of a kind."""
        config, summary = _Keys(), _Keys()
        tags: Tally[str] = Tally()
        counters: Tally[str] = Tally()
        totals: Tally[str] = Tally()
        runs = 0
        for layout, alike in self._by_layout(heads).items():
            for _, tag in layout:
                tags[tag] += len(alike)
            for facets in alike:
                runs += 1
                config.add(facets.config)
                summary.add(facets.summary)
                for name, total in facets.counters:
                    counters[name] += 1
                    totals[name] += total is not None
        found = Columns(
            runs,
            config.most_common(most),
            summary.most_common(most),
            [(tag, tags[tag]) for tag in _most_common(tags, most)],
            [(name, counters[name], totals[name]) for name in _most_common(counters, most)],
            truncated=False,
        )
        found.truncated = max(len(config), len(summary), len(tags), len(counters)) > most
        return found

    def tags(self, heads: Iterable[RunVersion], most: int) -> Tags:
        """The tags of these runs: at most so many scalars."""
        scalars: dict[str, Tally[str]] = {}
        kinds: dict[str, Tally[str]] = {}
        runs = 0
        for layout, alike in self._by_layout(heads).items():
            runs += len(alike)
            for counter, tag in layout:
                scalars.setdefault(tag, Tally())[counter] += len(alike)
            for facets in alike:
                for kind, tag in facets.kinds:
                    kinds.setdefault(kind, Tally())[tag] += 1
        shown = _most_common({tag: by.total() for tag, by in scalars.items()}, most)
        return Tags(
            runs,
            {tag: dict(sorted(scalars[tag].items())) for tag in shown},
            {kind: dict(sorted(kinds[kind].items())) for kind in sorted(kinds)},
            truncated=len(scalars) > most,
        )

    def _by_layout(self, heads: Iterable[RunVersion]) -> Mapping[tuple[tuple[str, str], ...], list[Facets]]:
        """Runs of the same tags together: of a sweep, nearly all are alike."""
        found: dict[tuple[tuple[str, str], ...], list[Facets]] = {}
        for facets in self._known.of(heads):
            found.setdefault(facets.scalars, []).append(facets)
        return found


@dataclass(slots=True)
class _Key:
    runs: int = 0
    sorts: Tally[Sort] = field(default_factory=Tally)
    distinct: dict[tuple[Sort, Any], Value] = field(default_factory=dict)
    least: float | None = None
    greatest: float | None = None

    def add(self, value: Value) -> None:
        """One more run has it."""
        self.runs += 1
        self.sorts[value.sort] += 1
        plain = value.plain
        if value.sort == "number" and isinstance(plain, int | float):
            if isinstance(plain, int) or math.isfinite(plain):
                self.least = plain if self.least is None else min(self.least, plain)
                self.greatest = plain if self.greatest is None else max(self.greatest, plain)
            elif plain != plain:
                plain = "NaN"  # equals itself
        if len(self.distinct) <= DISTINCT_MAX:
            self.distinct.setdefault((value.sort, plain), value)

    def told(self, column: str) -> Key:
        """As it is answered."""
        many = len(self.distinct) > DISTINCT_MAX
        nested = any(sort in ("list", "object") for sort, _ in self.distinct)
        shown = [] if nested or len(self.distinct) > VALUES_SHOWN_MAX else sorted(self.distinct.values(), key=_order)
        return Key(
            column,
            self.runs,
            dict(self.sorts),
            None if many or nested else len(self.distinct),
            [value.plain for value in shown if value.plain is not None],
            self.least,
            self.greatest,
        )


class _Keys:
    """The keys of a document in many runs."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, values: Mapping[str, Value]) -> None:
        """One more run."""
        for column, value in values.items():
            if (key := self._keys.get(column)) is None:
                key = self._keys[column] = _Key()
            key.add(value)

    def most_common(self, most: int) -> list[Key]:
        """Those that most runs have, by their columns."""
        shown = _most_common({column: key.runs for column, key in self._keys.items()}, most)
        return [self._keys[column].told(column) for column in shown]


def counter_column(name: str) -> str:
    """A counter's column as one writes it."""
    return Column(COUNTERS, (name,)).text


def figure_column(tag: str) -> str:
    """The column of a tag's last value as one writes it."""
    return Column("last", (tag,)).text


def _most_common(counts: Mapping[str, int], most: int) -> Iterator[str]:
    """Names in order: those of the largest counts, of equal ones the first."""
    if len(counts) > most:
        return iter(sorted(nsmallest(most, counts, key=lambda name: (-counts[name], name))))
    return iter(sorted(counts))


def _order(value: Value) -> tuple[int, float, str]:
    """Numbers by size, NaN last of them; then texts, then false and true."""
    if value.sort == "number" and isinstance(value.plain, int | float):
        return (1, 0.0, "") if value.plain != value.plain else (0, value.plain, "")
    return (2, 0.0, str(value.plain)) if value.sort == "text" else (3, float(bool(value.plain)), "")

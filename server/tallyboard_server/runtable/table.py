"""Pages of a table of runs: read what is not known yet in short snapshots, filter, order, and say where to go on."""

import heapq
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Protocol

from tallyboard.wire.limits import MIB
from tallyboard_server.model import RunState
from tallyboard_server.runtable.cache import Known, ValueCache
from tallyboard_server.runtable.columns import Column
from tallyboard_server.runtable.cursor import Place, open_name, open_place, seal_name, seal_place
from tallyboard_server.runtable.ordering import Rank, RowKey, ranks, row_key
from tallyboard_server.runtable.parse import SortKey
from tallyboard_server.runtable.reading import Heard, live_value, pulse, read_values
from tallyboard_server.series.question import HistoryChangedError
from tallyboard_server.series.reading import HOLD_S, RunReader
from tallyboard_server.store.perrun import every_run, named_runs
from tallyboard_server.store.protocol import SNAPSHOT_S_MAX, RunVersion, Store

PAGE_BYTES_MAX: Final = 8 * MIB
SCANNED_MAX: Final = 10_000
"""Runs looked at for one page in the order of names; a filter that few runs pass takes several pages."""
SORTED_MAX: Final = 20_000
"""Runs that are put in order: all of them are looked at before the first is known."""
PAGE_S_MAX: Final = 10.0
"""Time for one page. In the order of names it ends there; in another, what was read is kept for the next attempt."""


class RunsTooManyError(ValueError):
    """More runs than can be put in order."""


class StillReadingError(Exception):
    """The figures of so many runs could not be read in time; those that were are kept."""


class Filter(Protocol):
    """What runs must be like."""

    @property
    def columns(self) -> Sequence[Column]:
        """What it asks for."""
        ...

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether a run with these values (by the columns' text) is wanted."""
        ...


@dataclass(slots=True, frozen=True)
class Row:
    """A run that is wanted: its id, and its values by the columns' text."""

    run_id: int
    values: Mapping[str, Any]


@dataclass(slots=True, frozen=True)
class Question:
    """Which runs (their names begin with `prefix`, every filter holds), which columns, and in which order.

    names: only runs that are called so; None: any. sort: none is the order of names. make: a row as it will be
    answered; None if the run is gone.
    """

    columns: Sequence[Column]
    make: Callable[[Row], bytes | None]
    limit: int
    prefix: str = ""
    names: Collection[str] | None = None
    filters: Sequence[Filter] = ()
    sort: Sequence[SortKey] = ()
    cursor: str | None = None


@dataclass(slots=True, frozen=True)
class Page:
    """Rows, and the cursor of those that follow; None: that was all."""

    rows: list[bytes]
    cursor: str | None


@dataclass(slots=True, frozen=True)
class _Wanted:
    """Columns, apart by how long their values last."""

    lasting: tuple[Column, ...]
    live: tuple[Column, ...]

    @classmethod
    def of(cls, columns: Iterable[Column]) -> "_Wanted":
        """Each of them once."""
        apart = dict.fromkeys(columns)
        return cls(tuple(c for c in apart if not c.is_live), tuple(c for c in apart if c.is_live))


@dataclass(slots=True, frozen=True)
class _Found:
    """A run in a table that is being put in order."""

    key: RowKey
    ranks: Sequence[Rank]
    head: RunVersion


@dataclass(slots=True)
class RunTable:
    """Answers questions about the runs of a store. heard: of a run or its pulse; clock: seconds since the epoch."""

    store: Store
    cache: ValueCache
    heard: Callable[[RunState], Heard]
    clock: Callable[[], float]
    elapsed: Callable[[], float] = time.monotonic

    def page(self, question: Question) -> Page:
        """One page. Raises CursorError, RunsTooManyError, StillReadingError, HistoryChangedError."""
        return self._sorted(question) if question.sort else self._by_name(question)

    def _heads(self, question: Question, after: str = "") -> Iterator[RunVersion]:
        """The runs to look at, in the order of their names, from behind one of them."""
        if question.names is None:
            return every_run(self.store, prefix=question.prefix, after=after)
        return named_runs(
            self.store, {name for name in question.names if name > after and name.startswith(question.prefix)}
        )

    def _by_name(self, question: Question) -> Page:
        """Rows are made as the runs go by."""
        after = "" if question.cursor is None else open_name(question.cursor)
        give_up = self.elapsed() + PAGE_S_MAX
        asked, shown = _asked(question), _Wanted.of(question.columns)
        page = _Growing(question, self.clock())
        for seen, head in enumerate(self._heads(question, after), 1):
            values = self._values(head, asked, page.now)
            if values is not None and _holds(question, values):
                page.add(head, self._values(head, shown, page.now))
            if page.full or seen >= SCANNED_MAX or self.elapsed() > give_up:
                return Page(page.rows, seal_name(head.name))
        return Page(page.rows, None)

    def _sorted(self, question: Question) -> Page:
        """All runs are looked at; rows are made of those that the page is to show, as they are then."""
        place = None if question.cursor is None else open_place(question.cursor, question.sort)
        page = _Growing(question, self.clock() if place is None else place.now)
        give_up = self.elapsed() + PAGE_S_MAX
        found = self._ordered(question, place, page.now, give_up)
        shown = _Wanted.of(question.columns)
        for place_of_row, row in enumerate(found, 1):
            page.add(row.head, self._values(row.head, shown, page.now))
            if place_of_row < len(found) and (page.full or place_of_row == question.limit or self.elapsed() > give_up):
                return Page(page.rows, seal_place(Place(row.ranks, row.head.name, page.now), question.sort))
        return Page(page.rows, None)

    def _ordered(self, question: Question, place: Place | None, now: float, give_up: float) -> list[_Found]:
        """The runs that follow a place, in order: those of the page and one more, if there is one."""
        asked = _asked(question)
        behind = None if place is None else row_key(place.ranks, place.name, question.sort)
        found: list[_Found] = []
        for seen, head in enumerate(self._heads(question)):
            if seen >= SORTED_MAX:
                raise RunsTooManyError(
                    f"more than {SORTED_MAX} runs to put in order; narrow them down with project, or leave out sort"
                )
            if self.elapsed() > give_up:
                raise StillReadingError(f"{seen} runs were read in {PAGE_S_MAX:g} s, and are known now; ask again")
            values = self._values(head, asked, now)
            if values is not None and _holds(question, values):
                ranked = ranks(values, question.sort)
                key = row_key(ranked, head.name, question.sort)
                if behind is None or key > behind:
                    found.append(_Found(key, ranked, head))
        return heapq.nsmallest(question.limit + 1, found, key=attrgetter("key"))

    def _values(self, head: RunVersion, wanted: _Wanted, now: float) -> Mapping[str, Any] | None:
        """What is wanted of a run, and perhaps more; None if the run is gone."""
        if not wanted.lasting and not wanted.live:
            return {}
        known = self._known(head, wanted.lasting)
        if known is None or not wanted.live:
            return None if known is None else known.values
        heard = self.heard(known.pulse)
        live = {column.text: live_value(column, known.pulse, heard, now) for column in wanted.live}
        return {**known.values, **live}

    def _known(self, head: RunVersion, columns: Sequence[Column]) -> Known | None:
        """What lasts as long as the run's version does, read if it is not known yet; None if the run is gone."""
        known = self.cache.get(head.run_id, head.version)
        if known is not None and all(column.text in known.values for column in columns):
            return known
        for hold_s in (HOLD_S, SNAPSHOT_S_MAX):  # what a single snapshot is enough for, no rewind disturbs
            with suppress(HistoryChangedError):
                return self._read(head.name, columns, hold_s)
        raise HistoryChangedError(f"run {head.name!r} is being pruned or rewound; ask again")

    def _read(self, name: str, columns: Sequence[Column], hold_s: float) -> Known | None:
        """What is not known yet of a run as it is now; None if it is gone. Raises HistoryChangedError."""
        with RunReader(self.store.snapshot, hold_s=hold_s) as reader:
            if (loaded := reader.load_version(name)) is None:
                return None
            state, version = loaded
            known = self.cache.get(state.id, version)
            missing = [column for column in columns if known is None or column.text not in known.values]
            return self.cache.put(state.id, version, pulse(state), read_values(reader, state, missing))


class _Growing:
    """A page as its rows are made."""

    def __init__(self, question: Question, now: float) -> None:
        self.now = now
        self.rows: list[bytes] = []
        self._question = question
        self._room = PAGE_BYTES_MAX

    @property
    def full(self) -> bool:
        """Whether it has as many rows as were asked for, or as many bytes as it may have."""
        return self._room <= 0 or len(self.rows) >= self._question.limit

    def add(self, head: RunVersion, values: Mapping[str, Any] | None) -> None:
        """Make a row of a run's values, unless it is gone."""
        made = None if values is None else self._question.make(Row(head.run_id, values))
        if made is not None:
            self.rows.append(made)
            self._room -= len(made)


def _asked(question: Question) -> _Wanted:
    """What it takes to tell whether a run is wanted, and where it belongs."""
    filtered = (column for part in question.filters for column in part.columns)
    return _Wanted.of((*filtered, *(key.column for key in question.sort)))


def _holds(question: Question, values: Mapping[str, Any]) -> bool:
    return all(part.holds(values) for part in question.filters)

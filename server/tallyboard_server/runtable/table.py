"""Pages of a table of runs: read what is not known yet in short snapshots, filter, order, and say where to go on."""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from tallyboard_server.store.protocol import RunVersion, Snapshot, Store, StoreError

PAGE_BYTES_MAX: Final = 8 * MIB
SCANNED_MAX: Final = 10_000
"""Runs looked at for one page in the order of names; a filter that few runs pass takes several pages."""
SORTED_MAX: Final = 20_000
"""Runs that are put in order: all of them are looked at before the first is known."""
PAGE_S_MAX: Final = 10.0
"""Time for one page. In the order of names it ends there; in another, what was read is kept for the next attempt."""
_SNAPSHOT_S: Final = 0.1
"""A snapshot may last 250 ms; the run that is being read is finished, and a new one begun."""
_SLICE: Final = 500
"""Runs listed at a time."""


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
    """A run that is wanted: its values by the columns' text, and its state, to be loaded while the view lasts."""

    head: RunVersion
    values: Mapping[str, Any]
    view: Snapshot

    @property
    def state(self) -> RunState:
        """The whole state of the run."""
        return _state(self.view, self.head)


@dataclass(slots=True, frozen=True)
class Question:
    """Which runs (their names begin with `prefix`, every filter holds), which columns, and in which order.

    sort: none is the order of names. make: a row as it will be answered.
    """

    columns: Sequence[Column]
    make: Callable[[Row], bytes]
    limit: int
    prefix: str = ""
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
        """One page. Raises CursorError, RunsTooManyError, StillReadingError."""
        return self._sorted(question) if question.sort else self._by_name(question)

    def _by_name(self, question: Question) -> Page:
        """Rows are made as the runs go by."""
        after = "" if question.cursor is None else open_name(question.cursor)
        now, give_up = self.clock(), self.elapsed() + PAGE_S_MAX
        asked, shown = _asked(question), _Wanted.of(question.columns)
        rows: list[bytes] = []
        seen = size = 0

        def visit(view: Snapshot, head: RunVersion) -> bool:
            nonlocal seen, size
            seen += 1
            if _holds(question, self._values(view, head, asked, now)):
                rows.append(question.make(Row(head, self._values(view, head, shown, now), view)))
                size += len(rows[-1])
            full = len(rows) >= question.limit or size >= PAGE_BYTES_MAX or seen >= SCANNED_MAX
            return not full and self.elapsed() < give_up

        stopped = self._walk(question.prefix, after, visit)
        return Page(rows, None if stopped is None else seal_name(stopped))

    def _sorted(self, question: Question) -> Page:
        """All runs are looked at; rows are made of those that the page is to show."""
        place = None if question.cursor is None else open_place(question.cursor, question.sort)
        now = self.clock() if place is None else place.now
        give_up = self.elapsed() + PAGE_S_MAX
        found = self._ordered(question, place, now, give_up)
        rows: list[bytes] = []
        size = done = 0
        for row in self._rows(found[: question.limit], _Wanted.of(question.columns), now):
            done += 1
            if row is not None:
                rows.append(question.make(row))
                size += len(rows[-1])
            if size >= PAGE_BYTES_MAX or self.elapsed() > give_up:
                break
        if done == len(found):
            return Page(rows, None)
        end = found[done - 1]
        return Page(rows, seal_place(Place(end.ranks, end.head.name, now), question.sort))

    def _ordered(self, question: Question, place: Place | None, now: float, give_up: float) -> list[_Found]:
        """The runs that follow a place, in order: those of the page and one more, if there is one."""
        asked = _asked(question)
        behind = None if place is None else row_key(place.ranks, place.name, question.sort)
        found: list[_Found] = []
        seen = 0

        def visit(view: Snapshot, head: RunVersion) -> bool:
            nonlocal seen
            seen += 1
            if seen > SORTED_MAX:
                raise RunsTooManyError(
                    f"more than {SORTED_MAX} runs to put in order; narrow them down with project, or leave out sort"
                )
            values = self._values(view, head, asked, now)
            if _holds(question, values):
                ranked = ranks(values, question.sort)
                key = row_key(ranked, head.name, question.sort)
                if behind is None or key > behind:
                    found.append(_Found(key, ranked, head))
            return self.elapsed() < give_up

        if self._walk(question.prefix, "", visit) is not None:
            raise StillReadingError(f"{seen} runs were read in {PAGE_S_MAX:g} s, and are known now; ask again")
        return heapq.nsmallest(question.limit + 1, found, key=attrgetter("key"))

    def _walk(self, prefix: str, after: str, visit: Callable[[Snapshot, RunVersion], bool]) -> str | None:
        """Visit runs in the order of their names until a visit says no; where that was, None if it was nowhere."""
        while True:
            with self.store.snapshot() as view:
                until = self.elapsed() + _SNAPSHOT_S
                heads = view.run_versions(prefix=prefix, after=after, limit=_SLICE)
                for head in heads:
                    after = head.name
                    if not visit(view, head):
                        return after
                    if self.elapsed() > until:
                        break
                else:
                    if len(heads) < _SLICE:
                        return None

    def _rows(self, found: Sequence[_Found], shown: _Wanted, now: float) -> Iterator[Row | None]:
        """Rows as the runs are now, None for one that is gone; whoever takes them must not stay long at any."""
        at = 0
        while at < len(found):
            with self.store.snapshot() as view:
                until = self.elapsed() + _SNAPSHOT_S
                while at < len(found) and self.elapsed() < until:
                    head = _again(view, found[at].head)
                    yield None if head is None else Row(head, self._values(view, head, shown, now), view)
                    at += 1

    def _values(self, view: Snapshot, head: RunVersion, wanted: _Wanted, now: float) -> Mapping[str, Any]:
        """What is wanted of a run, and perhaps more."""
        known = self._known(view, head, wanted.lasting)
        if not wanted.live:
            return known.values
        heard = self.heard(known.pulse)
        live = {column.text: live_value(column, known.pulse, heard, now) for column in wanted.live}
        return {**known.values, **live}

    def _known(self, view: Snapshot, head: RunVersion, columns: Sequence[Column]) -> Known:
        """What lasts as long as the run's version does, read if it is not known yet."""
        known = self.cache.get(head.run_id, head.version)
        missing = columns if known is None else [column for column in columns if column.text not in known.values]
        if known is not None and not missing:
            return known
        state = _state(view, head)
        return self.cache.put(head.run_id, head.version, pulse(state), read_values(view, state, missing))


def _state(view: Snapshot, head: RunVersion) -> RunState:
    """The state of a run that the same view has listed."""
    state = view.load_by_id(head.run_id)
    if state is None:
        raise StoreError(f"run {head.name!r} is in the list of runs, but has no state")
    return state


def _again(view: Snapshot, head: RunVersion) -> RunVersion | None:
    """A run at its version in this view; None if it was deleted."""
    found = view.run_versions(prefix=head.name, limit=1)
    return found[0] if found and found[0].run_id == head.run_id else None


def _asked(question: Question) -> _Wanted:
    """What it takes to tell whether a run is wanted, and where it belongs."""
    filtered = (column for part in question.filters for column in part.columns)
    return _Wanted.of((*filtered, *(key.column for key in question.sort)))


def _holds(question: Question, values: Mapping[str, Any]) -> bool:
    return all(part.holds(values) for part in question.filters)

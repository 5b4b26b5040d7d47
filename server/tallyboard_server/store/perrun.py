"""What is known of runs, kept as long as it holds: by run and version, bounded, least recently used first out."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, Generic, Protocol, TypeVar

from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import RunVersion, Snapshot, Store

_SLICE: Final = 1_000
"""Runs in one look at the store's list of them."""
_HOLD_S: Final = 0.1
"""A snapshot is left after so long."""

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


@dataclass(slots=True, frozen=True)
class _Known(Generic[_T]):
    version: int
    value: _T
    weight: int


class PerRun(Generic[_T]):
    """Values by run id, each of one version of the run's state. Any thread may call."""

    def __init__(self, weight_max: int) -> None:
        """weight_max: of all values together, in the units of `put`."""
        self._lock = threading.Lock()
        self._weight_max = weight_max
        self._weight = 0
        self._runs: OrderedDict[int, _Known[_T]] = OrderedDict()

    def get(self, run_id: int, version: int) -> _T | None:
        """The value at exactly this version."""
        with self._lock:
            known = self._runs.get(run_id)
            if known is None or known.version != version:
                return None
            self._runs.move_to_end(run_id)
            return known.value

    def put(self, run_id: int, version: int, value: _T, weight: int) -> None:
        """Keep a value in the place of the one of another version."""
        with self._lock:
            if (old := self._runs.pop(run_id, None)) is not None:
                self._weight -= old.weight
            self._runs[run_id] = _Known(version, value, weight)
            self._weight += weight
            while self._weight > self._weight_max and len(self._runs) > 1:
                self._weight -= self._runs.popitem(last=False)[1].weight

    def __len__(self) -> int:
        return len(self._runs)


def every_run(store: Store, *, prefix: str = "", after: str = "") -> Iterator[RunVersion]:
    """Runs in the order of their names, listed slice by slice; no snapshot is held between two of them."""
    while True:
        with store.snapshot() as view:
            heads = view.run_versions(prefix=prefix, after=after, limit=_SLICE)
        yield from heads
        if len(heads) < _SLICE:
            return
        after = heads[-1].name


def named_runs(store: Store, names: Iterable[str]) -> Iterator[RunVersion]:
    """Those of these names that are there, in order; no snapshot is held between two of them."""
    wanted = iter(sorted(names))
    while some := list(islice(wanted, _SLICE)):
        with store.snapshot() as view:
            found = [view.run_versions(prefix=name, limit=1) for name in some]
        yield from (heads[0] for name, heads in zip(some, found, strict=True) if heads and heads[0].name == name)


class Reading(Protocol[_T_co]):
    """What is made of a run's state, and what it weighs in the units of the bound."""

    def __call__(self, state: RunState, version: int, /) -> tuple[_T_co, int]:
        """Make it."""
        ...


class KnownRuns(Generic[_T]):
    """Something that follows from a run's state alone, for many runs: made anew only of those that have changed."""

    def __init__(
        self, store: Store, make: Reading[_T], weight_max: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._make = make
        self._clock = clock
        self._known: PerRun[_T] = PerRun(weight_max)

    def of(self, heads: Iterable[RunVersion]) -> Iterator[_T]:
        """In the order of these runs, without those that are gone; no snapshot is held between two of them."""
        rest = iter(heads)
        while some := list(islice(rest, _SLICE)):
            yield from self._slice(some)

    def _slice(self, heads: list[RunVersion]) -> Iterator[_T]:
        found = [self._known.get(head.run_id, head.version) for head in heads]
        missing = iter([place for place, known in enumerate(found) if known is None])
        place = next(missing, None)
        while place is not None:
            with self._store.snapshot() as view:
                until = self._clock() + _HOLD_S
                while place is not None and self._clock() < until:
                    found[place] = self._read(view, heads[place])
                    place = next(missing, None)
        return (known for known in found if known is not None)

    def _read(self, view: Snapshot, head: RunVersion) -> _T | None:
        """Of the run as it is now, which may be newer than `head`; then it is read again the next time."""
        state = view.load_by_id(head.run_id)
        if state is None:
            return None
        made, weight = self._make(state, head.version)
        self._known.put(head.run_id, head.version, made, weight)
        return made

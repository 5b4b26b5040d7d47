"""What the service knows of a run: immutable values that the step contract turns into new ones.

Everything here is data with the few questions that follow from it; nothing here does input or output.
A changed object is a new object, so "what must be saved" is "what is no longer the same object".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Alert, CounterValue, Float64, Int64, Level, Refusal, Status, is_implicit
from tallyboard.wire.summaries import SCALARS

ANONYMOUS: Final = "anonymous"
"""The writer of reports that carry no producer."""

STALLED_FROM: Final = 10
"""So many reports in a row that brought nothing new make a counter count as stalled: a job that says everything twice
(a figure it was given, or the last step again at its end) stays far below, and one that forgets to increment is there
within seconds."""

POSITION_MAX: Final = 2**32 - 2
"""The last position that a run's journal may have: the one after it still fits into the 32 bits that stores give it."""

Int32 = npt.NDArray[np.int32]
_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(slots=True, frozen=True)
class Attempt:
    """One writer's increasing sequence of steps on a counter.

    number: 1, 2, … within the counter. start: the least step it may hold. last_step: the largest step accepted,
    visible or not. last_visible: the largest accepted step that no later attempt hides. tail_tags and tail_values:
    the tags reported at last_step and their values (float64, compared bit for bit). reports, scalars: how many were
    accepted. unmoved: reports in a row, up to the newest, that came at last_step and brought nothing new: their scalars
    were there already, or they were refused as tag_repeated. checksum: of all scalars accepted (see `checksum`); None:
    the attempt is older than checksums. pruned_scalars, pruned_checksum: of those of them that retention has removed
    from the store since.
    """

    number: int
    writer: str
    start: int
    last_step: int | None
    last_visible: int | None
    tail_tags: Int32
    tail_values: Float64
    reports: int = 0
    scalars: int = 0
    unmoved: int = 0
    checksum: int | None = 0
    pruned_scalars: int = 0
    pruned_checksum: int = 0


@dataclass(slots=True, frozen=True)
class Counter:
    """A named step counter and its attempts, oldest first.

    Visible is, of each attempt, what lies before the start of every later one. So the visible stretches of the
    attempts are disjoint and ascending, and the last attempt is visible whole.
    """

    id: int
    name: str
    total: int | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def is_implicit(self) -> bool:
        """Whether it belongs to a single tag, and so is none of those that people have to do with."""
        return is_implicit(self.name)

    @property
    def current(self) -> Attempt | None:
        """The attempt that is being written; None before the first report."""
        return self.attempts[-1] if self.attempts else None

    def limit(self, number: int) -> int | None:
        """The least step that later attempts hide from attempt `number`; None: it is visible whole."""
        return min((attempt.start for attempt in self.attempts[number:]), default=None)

    def limits(self) -> dict[int, int | None]:
        """`limit` of every attempt by number, in one pass."""
        found: dict[int, int | None] = {}
        limit: int | None = None
        for attempt in reversed(self.attempts):
            found[attempt.number] = limit
            limit = attempt.start if limit is None else min(limit, attempt.start)
        return found

    @property
    def last_step(self) -> int | None:
        """The counter's value: its largest visible step; None if nothing is visible."""
        if not self.attempts:
            return None
        if (newest := self.attempts[-1].last_visible) is not None:
            return newest
        return max((a.last_visible for a in self.attempts if a.last_visible is not None), default=None)

    @property
    def stalled(self) -> bool:
        """Whether reports keep coming at one step and bring nothing new: is it being incremented?

        A tag's own counter never is: nobody increments it.
        """
        return not self.is_implicit and self.current is not None and self.current.unmoved >= STALLED_FROM

    def value(self) -> CounterValue:
        """As receipts show it."""
        return CounterValue(self.last_step, len(self.attempts))


def counter_values(counters: Mapping[str, Counter]) -> dict[str, CounterValue]:
    """Counters as receipts list them: those that were ever written, without those of single tags."""
    return {name: c.value() for name, c in counters.items() if c.attempts and not c.is_implicit}


@dataclass(slots=True, frozen=True)
class Tag:
    """A tag of a run and the counter that it is bound to.

    It is bound as long as it has a visible point: `first_step` is the least step that was visible when
    `attempts_then` attempts existed, so the point is visible still if no later attempt starts at or below it.
    counter_id 0: never bound (all its points were hidden when they came).

    kind, metadata: what its points are, and TensorBoard's SummaryMetadata (serialised), as first told; for good.
    Where a scalar has its value, a point of another kind has the key of its blob.
    """

    id: int
    name: str
    counter_id: int = 0
    first_step: int = 0
    attempts_then: int = 0
    kind: str = SCALARS
    metadata: bytes = b""

    @property
    def is_scalar(self) -> bool:
        """Whether its values are numbers."""
        return self.kind == SCALARS

    def is_bound(self, counter: Counter) -> bool:
        """Whether it still has a visible point; `counter` is the one named by counter_id."""
        limit = counter.limit(self.attempts_then)
        return limit is None or self.first_step < limit


@dataclass(slots=True, frozen=True)
class Producer:
    """A numbered stream of batches: the last seq applied, its receipt, and the checksums of the newest batches.

    checksums: of seq, seq - 1, … newest first, at most limits.REPLAY_WINDOW. receipt: JSON of the last receipt.
    origin: host, pid, user as its Open told them.
    """

    name: str
    seq: int = 0
    checksums: tuple[int, ...] = ()
    receipt: bytes = b""
    origin: Mapping[str, Any] = field(default_factory=dict)
    last_seen: float = 0.0


def frozen(mapping: Mapping[_K, _V] | None = None) -> Mapping[_K, _V]:
    """A read-only view of a mapping that nobody else holds."""
    return MappingProxyType(dict(mapping or {}))


@dataclass(slots=True, frozen=True)
class RunMeta:
    """What people say of a run; none of it takes part in the step contract. Times are seconds since the epoch."""

    created_at: float
    updated_at: float
    status: Status = "running"
    uid: str | None = None
    group: str | None = None
    display_name: str | None = None
    notes: str | None = None
    tags: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    archived: bool = False


@dataclass(slots=True, frozen=True)
class RunState:
    """All that the step contract needs to know of a run.

    id: never reused. pos: the position of its newest journal block (0: none). epoch: how often its visible history
    has changed otherwise than by growing at the end, which is when event files need a new generation.
    rewinds: ids of rewinds by hand, newest last, bounded.
    """

    id: int
    name: str
    meta: RunMeta
    pos: int = 0
    epoch: int = 0
    counters: Mapping[str, Counter] = field(default_factory=frozen)
    tags: Mapping[str, Tag] = field(default_factory=frozen)
    producers: Mapping[str, Producer] = field(default_factory=frozen)
    rewinds: tuple[str, ...] = ()

    def counter_by_id(self, counter_id: int) -> Counter | None:
        """The counter with that id; ids count 1, 2, … in order of creation."""
        return next((c for c in self.counters.values() if c.id == counter_id), None)

    @property
    def stalled(self) -> list[str]:
        """The counters that are stalled; none of a run that has ended."""
        return [c.name for c in self.counters.values() if c.stalled] if self.meta.status == "running" else []

    def visible_tags(self) -> Iterator[tuple[Tag, Counter]]:
        """Tags that have a visible point, and the counters that they belong to."""
        counters = {counter.id: (counter, counter.limits()) for counter in self.counters.values()}
        for tag in self.tags.values():
            if tag.counter_id in counters:
                counter, limits = counters[tag.counter_id]
                limit = limits.get(tag.attempts_then)
                if limit is None or tag.first_step < limit:  # as Tag.is_bound, which would look at every attempt again
                    yield tag, counter


@dataclass(slots=True, frozen=True)
class Block:
    """Accepted reports of one attempt with the same tags: the unit of the journal, and what readers get back.

    pos: position in the run's journal, gapless, in commit order. tag_ids int32[k]; steps int64[n], non-decreasing;
    wall_times float64[n]; values float64[n, k]; at: int64[n] by counter id. A block never spans attempts.
    """

    pos: int
    counter_id: int
    attempt: int
    tag_ids: Int32
    steps: Int64
    wall_times: Float64
    values: Float64
    at: Mapping[int, Int64] = field(default_factory=dict)

    def take(self, rows: slice | Int64) -> "Block":
        """Some of its rows, in the order given."""
        return Block(
            self.pos,
            self.counter_id,
            self.attempt,
            self.tag_ids,
            self.steps[rows],
            self.wall_times[rows],
            self.values[rows],
            {name: column[rows] for name, column in self.at.items()},
        )

    def between(self, low: int, high: int) -> "Block":
        """The rows with low ≤ step ≤ high."""
        begin = int(np.searchsorted(self.steps, low, side="left"))
        end = int(np.searchsorted(self.steps, high, side="right"))
        return self if begin == 0 and end == len(self.steps) else self.take(slice(begin, end))

    @property
    def nbytes(self) -> int:
        """Bytes of its columns."""
        return (
            self.steps.nbytes
            + self.wall_times.nbytes
            + self.values.nbytes
            + sum(column.nbytes for column in self.at.values())
        )


@dataclass(slots=True, frozen=True)
class KeptRefusal:
    """A refused report as it is kept for people to see."""

    at: float
    producer: str
    refusal: Refusal


@dataclass(slots=True, frozen=True)
class KeptAlert:
    """An alert as it is kept for people to see; `at` is when it came, by the server's clock."""

    at: float
    producer: str
    alert: Alert


@dataclass(slots=True, frozen=True)
class AlertCount:
    """How many alerts are kept of a run, and when the newest of them came (None: there is none)."""

    kept: int
    newest_at: float | None


@dataclass(slots=True, frozen=True)
class Incident:
    """Something that a watchdog found wrong with a run, and that is not over yet.

    kind: lost, stalled, nonfinite, …; subject: the counter, tag or reason that it is about, "" if the whole run is.
    opened_at: seconds since the epoch. told: whether an alert was raised; one of level info never is. times: how often
    it had ended and begun again shortly after.
    """

    run_id: int
    kind: str
    subject: str
    opened_at: float
    level: Level
    title: str
    text: str = ""
    told: bool = False
    times: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others of its run."""
        return self.kind, self.subject

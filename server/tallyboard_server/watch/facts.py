"""What is remembered of a running run: its signs of life, how its counters move, and what was bad lately."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tallyboard.wire import CounterValue, Refusal, is_implicit
from tallyboard.wire.names import SYSTEM_COUNTER
from tallyboard_server.model import RunState
from tallyboard_server.watch.cadence import Cadence

COUNTERS_MAX: Final = 64
"""Counters of a run whose cadence is learned: those that moved first."""
TAGS_MAX: Final = 100
"""Tags of a run that are remembered as bad, of each kind."""
EXCEPTION_CHARS_MAX: Final = 1_000
GOOD_POINTS: Final = 100
GOOD_S: Final = 600.0
"""A tag is well again after so many good points in a row, or if it had only good ones for so long."""
REFUSED_S: Final = 600.0
"""Reports are well again when none was refused for so long."""


@dataclass(slots=True)
class BadTag:
    """A tag with a value that should not be: the last of them, and what came after it.

    counter: "" if a former process found it: then value and place are not known. bound: "" for one that is not finite;
    else which bound it broke, in words.
    """

    value: float
    step: int
    counter: str
    counter_id: int
    attempt: int
    at: float
    bound: str = ""
    good: int = 0

    def is_over(self, now: float) -> bool:
        """Whether what came since tells that it is well again."""
        return self.good >= GOOD_POINTS or (self.good > 0 and now - self.at >= GOOD_S)


@dataclass(slots=True)
class Refused:
    """Reports that were refused for one reason: how many, when last, and what was said of the first."""

    count: int
    at: float
    detail: str

    def is_over(self, now: float) -> bool:
        """Whether it has been quiet for long enough."""
        return now - self.at >= REFUSED_S


@dataclass(slots=True)
class Facts:
    """A run as watchdogs know it. Times: seconds since the epoch, by the server's clock.

    reported_at: when a producer last sent a batch, None without producers. starting: a job has begun or taken the
    run up, and moved no counter yet; it may read its data for longer than a step takes. moves: of any counter.
    failed: whether that is to be told; exception: the end of what its job said of it. standing: counters that stand
    still since before this process began to look, "" if all do. bad: by (kind, tag).
    """

    id: int
    name: str
    moves: Cadence
    status: str = "running"
    producers: int = 0
    starting: bool = True
    reported_at: float | None = None
    unmoved: tuple[str, ...] = ()
    lost: bool = False
    failed: bool = False
    exception: str = ""
    counters: dict[str, Cadence] = field(default_factory=dict)
    values: dict[str, CounterValue] = field(default_factory=dict)
    standing: set[str] = field(default_factory=set)
    bad: dict[tuple[str, str], BadTag] = field(default_factory=dict)
    refused: dict[str, Refused] = field(default_factory=dict)

    @classmethod
    def of(cls, state: RunState, now: float) -> "Facts":
        """A run as it is looked at first: where its counters stand."""
        facts = cls(state.id, state.name, Cadence(now))
        facts.renew(state)
        for name, counter in state.counters.items():
            if counter.attempts and counts(name) and len(facts.counters) < COUNTERS_MAX:
                facts.counters[name] = Cadence(now)
                facts.values[name] = counter.value()
        return facts

    @property
    def places(self) -> dict[str, int]:
        """Where the counters stand."""
        return {name: value.last_step for name, value in self.values.items() if value.last_step is not None}

    def renew(self, state: RunState) -> None:
        """The run's state is this now."""
        self.name, self.status = state.name, state.meta.status
        self.unmoved = tuple(state.stalled)
        exception = state.meta.summary.get("exception")  # the last lines of a traceback, where the client puts them
        self.exception = exception[-EXCEPTION_CHARS_MAX:] if isinstance(exception, str) else ""
        if len(state.producers) != self.producers:
            self.producers, self.starting = len(state.producers), True
        self.reported_at = max((producer.last_seen for producer in state.producers.values()), default=None)
        hidden = [key for key, bad in self.bad.items() if _is_hidden(bad, state)]
        for key in hidden:  # a rewind to before it is a remedy
            del self.bad[key]

    def move(self, values: Mapping[str, CounterValue], now: float) -> None:
        """A receipt told where counters stand."""
        moved = False
        for name, value in values.items():
            if not counts(name) or value.last_step is None or self.values.get(name) == value:
                continue
            if name in self.counters:
                self._moved(self.counters[name], now)
            elif len(self.counters) < COUNTERS_MAX:
                self.counters[name] = Cadence(now)
            else:
                continue
            self.values[name] = value
            self.standing.discard(name)
            moved = True
        if moved:
            self._moved(self.moves, now)
            self.starting = False
            self.standing.discard("")

    def _moved(self, cadence: Cadence, now: float) -> None:
        """What passed until a job moved it first is none of its gaps."""
        if self.starting:
            cadence.resume(now)
        else:
            cadence.move(now)

    def resume(self, now: float) -> None:
        """It is heard of again: silence counts anew, that of a former process too."""
        self.standing.clear()
        for cadence in (self.moves, *self.counters.values()):
            cadence.resume(now)

    def refuse(self, refusals: Sequence[Refusal], count: int, now: float) -> None:
        """So many reports were refused, of which some are told."""
        reasons: dict[str, list[str]] = {}
        for refusal in refusals:
            reasons.setdefault(refusal.reason, []).append(refusal.detail)
        told = sum(map(len, reasons.values()))
        for number, (reason, details) in enumerate(reasons.items()):
            more = len(details) + (max(0, count - told) if number == 0 else 0)
            if (known := self.refused.get(reason)) is None:
                self.refused[reason] = Refused(more, now, details[0])
            else:
                known.count += more
                known.at = now

    def forget(self, now: float) -> None:
        """Let go of what is over."""
        self.bad = {key: bad for key, bad in self.bad.items() if not bad.is_over(now)}
        self.refused = {reason: refused for reason, refused in self.refused.items() if not refused.is_over(now)}


def counts(counter: str) -> bool:
    """Whether a counter is one whose standing still means something."""
    return counter != SYSTEM_COUNTER and not is_implicit(counter)


def _is_hidden(bad: BadTag, state: RunState) -> bool:
    counter = state.counter_by_id(bad.counter_id)
    limit = None if counter is None else counter.limit(bad.attempt)
    return limit is not None and bad.step >= limit

"""What a row of the benchmark found: figures, goals met or not, and whether everything sent was found again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from tallyboard.wire import Float64


@dataclass(slots=True, frozen=True)
class Goal:
    """A target, in words, what was reached, and whether that is enough."""

    text: str
    reached: str
    met: bool


@dataclass(slots=True, frozen=True)
class Latency:
    """How long single operations took."""

    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, seconds: "Float64 | Sequence[float]") -> "Latency | None":
        """Of measured durations in seconds; None if there are none."""
        found = np.asarray(seconds, dtype=np.float64) * 1e3
        if not len(found):
            return None
        p50, p99 = np.percentile(found, (50, 99)).tolist()
        return cls(len(found), p50, p99, float(found.max()))


@dataclass(slots=True, frozen=True)
class Usage:
    """What the service needed while it was measured.

    server_cpu, load_cpu: cores in use on average. disk_bytes_s: written by the service, its log, checkpoints and
    event files together. commits, requests: of the store, and acknowledged. event_syncs: of event files.
    rss_bytes, log_bytes (write-ahead log), descriptors: the largest seen in samples five times a second.
    event_files_after_s: from the last acknowledgement until all event files were complete and synced. gap_s: the
    longest time between two samples: if it is long, the machine stood still or was busy with something else.
    """

    seconds: float
    server_cpu: float
    load_cpu: float
    disk_bytes_s: float
    commits: int
    requests: int
    event_syncs: int
    rss_bytes: int
    log_bytes: int
    descriptors: int
    event_files_after_s: float
    gap_s: float

    @property
    def commits_per_request(self) -> float | None:
        """Well under one if groups form; None without requests."""
        return self.commits / self.requests if self.requests else None


@dataclass(slots=True, frozen=True)
class Cost:
    """What an acknowledged scalar cost until event files were complete and blocks merged.

    service_ns, database_ns: processor time of the services, and of the database's own processes. log_bytes: written to
    the store's write-ahead log. transactions: of the services, for each request. in_place: share of the changes of
    PostgreSQL's rows that left all indexes alone, by table.
    """

    service_ns: float
    database_ns: float
    log_bytes: float
    transactions: float
    in_place: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Stored:
    """What was sent and acknowledged, against what the service gives back.

    sent_scalars and stored_scalars are of all runs, as their counters tell; points were read through GET /scalars
    and compared step by step; event_reports were counted in the event files. faults: every difference found.
    """

    sent_scalars: int
    stored_scalars: int
    points: int
    event_reports: int
    faults: tuple[str, ...] = ()


@dataclass(slots=True)
class Row:
    """One line of the table. `rate` is in `unit`; `ratio` is against the baseline, if that is what the row is about.

    judged_by: what makes one try better than another. error: why the row has no result at all.
    """

    name: str
    what: str
    rate: float | None = None
    unit: str = "scalars/s"
    ratio: float | None = None
    goals: list[Goal] = field(default_factory=list)
    latency: Latency | None = None
    usage: Usage | None = None
    cost: Cost | None = None
    stored: Stored | None = None
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    judged_by: Literal["rate", "p99"] = "rate"
    error: str | None = None

    @property
    def merit(self) -> tuple[int, float]:
        """What a try is compared by: goals met, then rate or p99."""
        met = sum(goal.met for goal in self.goals)
        if self.judged_by == "p99":
            return met, -(self.latency.p99_ms if self.latency is not None else float("inf"))
        return met, self.rate or 0.0

    @property
    def failed(self) -> bool:
        """Whether the row is worth nothing: it broke off, or what was stored is not what was sent."""
        return self.error is not None or (self.stored is not None and bool(self.stored.faults))

    def goal_ratio(self, least: float) -> None:
        """The goal to be at least so many times as fast as the baseline."""
        ratio = self.ratio or 0.0
        self.goals.append(Goal(f"≥ {least:g}× baseline", f"{ratio:.0f}×", ratio >= least))


def better(one: Row, other: Row) -> Row:
    """The better of two tries at the same row; a failure is never hidden."""
    if one.failed or other.failed:
        return one if one.failed else other
    return max(one, other, key=lambda row: row.merit)

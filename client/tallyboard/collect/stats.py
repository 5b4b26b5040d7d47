"""Counts of what became of a run's reports: every one that was logged is in here somewhere."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tallyboard.collect.lanes import Packed, Section
from tallyboard.wire import Reason, Receipt, names


@dataclass(slots=True, frozen=True)
class CounterStats:
    """Reports, and scalars (or images, texts, …) in them, that were recorded against one counter."""

    reports: int = 0
    scalars: int = 0


@dataclass(slots=True, frozen=True)
class Stats:
    """What became of a run's reports so far.

    reports, scalars: recorded (and for the server to judge). Of these reports, accepted and refused count the
    server's answers, dropped_reports what was given up (no room, a batch that the server rejects, after finish; this
    includes reports that were never recorded), the rest waits. stored, repeated: scalars of the accepted reports.
    dropped_scalars: values that were no number. dropped_alerts: those that were too many at once, made no sense or came
    after finish. violations: reports that the client itself warned about. counters: by name, those that single tags
    have to themselves together as `tag:*`.
    """

    reports: int = 0
    scalars: int = 0
    accepted: int = 0
    refused: int = 0
    stored: int = 0
    repeated: int = 0
    dropped_reports: int = 0
    dropped_scalars: int = 0
    dropped_alerts: int = 0
    violations: int = 0
    waiting: int = 0
    counters: dict[str, CounterStats] = field(default_factory=dict)


class Tally:
    """The running counts behind Stats. Thread-safe, and reentrant for signal handlers.

    `recorded`, `answered` and `rejected` are the sender's alone, and take no lock: the thread that has it may have been
    interrupted by a handler that waits for the sender.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counters: dict[str, CounterStats] = {}
        self._sections = 0  # the number of the last that was counted
        self._accepted = self._refused = self._stored = self._repeated = 0
        self._settled = self._rejected = 0
        self._dropped_reports = self._dropped_scalars = self._dropped_alerts = self._violations = 0
        self._warned: set[tuple[str, Reason]] = set()
        self.unfetched: Callable[[int], Iterable[Packed]] = lambda _: ()
        """The rows of sections after that of a number, which the sender has yet to fetch."""

    def recorded(self, section: Section) -> None:
        """A section was fetched."""
        self._counters = _counted(self._counters, (*section.rows, *section.apart))
        self._sections = section.number

    def answered(self, reports: int, receipt: Receipt) -> None:
        """The server took a batch of so many reports."""
        self._settled += reports
        self._accepted += receipt.accepted
        self._refused += receipt.refused_count
        self._stored += receipt.stored
        self._repeated += receipt.repeated

    def rejected(self, reports: int) -> None:
        """The server took nothing of a batch of so many reports."""
        self._settled += reports
        self._rejected += reports

    def drop_reports(self, count: int) -> None:
        """Reports that were not recorded."""
        with self._lock:
            self._dropped_reports += count

    def drop_scalars(self, count: int) -> None:
        """Values that were left out of their report."""
        with self._lock:
            self._dropped_scalars += count

    def drop_alert(self) -> None:
        """An alert that was not recorded."""
        with self._lock:
            self._dropped_alerts += 1

    def violation(self, counter: str, reason: Reason) -> None:
        """The client warned of a report of that counter."""
        with self._lock:
            self._violations += 1
            self._warned.add((counter, reason))

    def warned(self, counter: str, reason: Reason) -> bool:
        """Whether the client warned of such a report, naming the line."""
        return (counter, reason) in self._warned

    def after_fork(self) -> None:
        """In a forked child, where the lock may be held by a thread that is not there."""
        self._lock = threading.RLock()

    def stats(self) -> Stats:
        """The counts as they are now."""
        with self._lock:
            counters = _counted(self._counters, self.unfetched(self._sections))
            reports = sum(counter.reports for counter in counters.values())
            return Stats(
                reports=reports,
                scalars=sum(counter.scalars for counter in counters.values()),
                accepted=self._accepted,
                refused=self._refused,
                stored=self._stored,
                repeated=self._repeated,
                dropped_reports=self._dropped_reports + self._rejected,
                dropped_scalars=self._dropped_scalars,
                dropped_alerts=self._dropped_alerts,
                violations=self._violations,
                waiting=reports - self._settled,
                counters=counters,
            )


def _counted(before: dict[str, CounterStats], rows: Iterable[Packed]) -> dict[str, CounterStats]:
    """The counts with some rows more."""
    counters = dict(before)
    for packed in rows:
        name, n = names.gathered(packed.counter), len(packed)
        seen = counters.get(name, CounterStats())
        counters[name] = CounterStats(seen.reports + n, seen.scalars + n * len(packed.tags))
    return counters

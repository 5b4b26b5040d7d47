"""Figures of the HTTP side for /metrics: requests by status, and how long reports took to be acknowledged."""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from tallyboard_server.api.prometheus import Sample

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histogram's buckets, in seconds."""


@dataclass(slots=True)
class Traffic:
    """Counts of one process. Written on the event loop only."""

    in_flight: int = 0
    by_status: dict[int, int] = field(default_factory=dict)
    ack_buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    ack_seconds: float = 0.0

    def answered(self, status: int) -> None:
        """A response of that status began."""
        self.by_status[status] = self.by_status.get(status, 0) + 1

    @contextmanager
    def set_aside(self) -> Iterator[None]:
        """A request that lasts as long as its reader likes, and does no work: it is in nobody's way."""
        self.in_flight -= 1
        try:
            yield
        finally:
            self.in_flight += 1

    def acknowledged(self, seconds: float) -> None:
        """A report was stored and answered."""
        self.ack_buckets[bisect_left(BOUNDS_S, seconds)] += 1
        self.ack_seconds += seconds

    def samples(self) -> Iterator[Sample]:
        """All figures, without prefix."""
        yield Sample("http_requests_in_flight", self.in_flight)
        for status, count in sorted(self.by_status.items()):
            yield Sample("http_requests_total", count, {"status": str(status)})
        total = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.ack_buckets, strict=True):
            total += count
            yield Sample("http_ack_seconds_bucket", total, {"le": bound})
        yield Sample("http_ack_seconds_count", total)
        yield Sample("http_ack_seconds_sum", self.ack_seconds)

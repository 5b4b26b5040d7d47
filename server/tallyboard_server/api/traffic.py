"""Figures of the HTTP side for /metrics: requests by route and status, and how long reports took to be acknowledged."""

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from tallyboard_server.api.prometheus import Sample

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the histogram's buckets, in seconds."""

Kind = Literal["report", "stream", "api", "operations", "tensorboard", "page"]
"""Which kind of route was asked: reports; GET /live; the rest of the API; what operators ask; the mounted TensorBoard;
the dashboard, logins, documentation, and whatever is not there."""

_OPERATIONS: Final = frozenset({"/healthz", "/readyz", "/metrics"})


def kind_of_path(path: str) -> Kind:
    """The kind of the route that a path below the service's own leads to; made for being asked often."""
    if path.startswith("/api/"):
        if path.startswith("/api/v1/scalars/"):
            return "report"
        return "stream" if path == "/api/v1/live" else "api"
    if path.startswith("/tensorboard"):
        return "tensorboard"
    return "operations" if path in _OPERATIONS else "page"


@dataclass(slots=True)
class Traffic:
    """Counts of one process. Written on the event loop only.

    draining: it was told to stop, and takes no new connections.
    """

    in_flight: int = 0
    draining: bool = False
    by_status: dict[tuple[Kind, int], int] = field(default_factory=dict)
    ack_buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    ack_seconds: float = 0.0

    def answered(self, kind: Kind, status: int) -> None:
        """A response of that status began."""
        key = kind, status
        self.by_status[key] = self.by_status.get(key, 0) + 1

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
        for (kind, status), count in sorted(self.by_status.items()):
            yield Sample("http_requests_total", count, {"kind": kind, "status": str(status)})
        yield Sample("http_unauthorized_total", self.with_status(401))
        yield Sample("http_forbidden_total", self.with_status(403))
        yield Sample("http_rate_limited_total", self.with_status(429))
        total = 0
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.ack_buckets, strict=True):
            total += count
            yield Sample("http_ack_seconds_bucket", total, {"le": bound})
        yield Sample("http_ack_seconds_count", total)
        yield Sample("http_ack_seconds_sum", self.ack_seconds)

    def with_status(self, status: int) -> int:
        """Responses of that status, of all kinds of routes."""
        return sum(count for (_, found), count in self.by_status.items() if found == status)

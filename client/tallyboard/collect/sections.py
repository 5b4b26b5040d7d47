"""What a run has recorded and the sender has not yet fetched, in sections that each fit into a batch."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from tallyboard.collect.blobs import PendingBlob
from tallyboard.collect.lanes import BlobLane, Lane, Section
from tallyboard.collect.stats import Tally
from tallyboard.errors import TallyboardError
from tallyboard.wire import CounterSpec, Open, Rewind, Status, limits

SECTION_COST_MAX: Final = 4 * limits.MIB
"""A section is closed beyond this: about 26,000 reports of ten scalars (160 bytes each), at most 47,000 of one.

With the blob that goes beyond it (limits.BLOB_BYTES_MAX) a section is still far from limits.BODY_BYTES_MAX.
"""
SECTION_LANES_MAX: Final = 900
"""Lanes of a section, below wire.limits.BLOCKS_PER_BATCH_MAX."""
BUFFER_BYTES_MAX: Final = 32 * limits.MIB
"""Closed sections that wait; beyond it nothing is added."""
SECTIONS_MAX: Final = 10_000
"""Closed sections, whatever their size: what stops a job that does nothing but rewind."""


class Sections:
    """Guarded by the recorder's lock, but for `full`, `waiting` and `fetch`.

    A signal handler may come in between anywhere, and finds it whole.
    """

    def __init__(self, tally: Tally, wake: Callable[[], None], bytes_max: int = BUFFER_BYTES_MAX) -> None:
        self._tally = tally
        self._wake = wake
        self._rows: list[Lane] = []
        self._apart: list[Lane] = []
        self._cost = 0
        self._open: Open | None = None
        self._rewind: Rewind | None = None
        self._summary: dict[str, Any] = {}
        self._closed: deque[Section] = deque()
        self._sealed_bytes = 0  # in all; counted by those who seal,
        self._fetched_bytes = 0  # and by who fetches: neither needs the other's lock
        self.bytes_max = bytes_max
        self.sealed = 0
        """Sections closed so far, in all."""

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing may be added."""
        return self._sealed_bytes - self._fetched_bytes >= self.bytes_max

    @property
    def waiting(self) -> bool:
        """Whether a closed section waits."""
        return bool(self._closed)

    def add(self, lane: Lane, row: bytes) -> bool:
        """Keep a row of a lane. Returns whether this closed the section."""
        lane.buffer += row
        self._cost += lane.cost
        crowded = self._cost >= SECTION_COST_MAX
        if not lane.dirty:
            lane.dirty = True
            (self._apart if lane.apart else self._rows).append(lane)
            crowded = crowded or len(self._rows) + len(self._apart) >= SECTION_LANES_MAX
        if not crowded:
            return False
        self.seal()
        return True

    def add_blob(self, lane: BlobLane, row: bytes, blob: PendingBlob) -> bool:
        """Keep a row of a lane with its blob. Returns whether this closed the section."""
        lane.pairs.append((row, blob))
        self._cost += blob.nbytes
        return self.add(lane, b"")

    def open(self, message: Open) -> None:
        """How the run begins, ahead of everything that is recorded later."""
        self.seal()
        self._open = message

    def amend(self, config: Mapping[str, Any], counters: Mapping[str, CounterSpec]) -> None:
        """Add to the config, and to what is known of counters."""
        if self._open is None:
            if self._rows or self._apart or self._rewind:
                self.seal()
            self._open = Open(resume="new")  # which, of a run that knows this producer, takes nothing over
        self._open.config.update(config)
        self._open.counters.update(counters)

    def take_over(self, counter: str) -> None:
        """Take a counter over from whoever writes it, before the reports of the section at hand."""
        if self._open is None:
            self._open = Open(resume="new")
        self._open.take_over = (*(self._open.take_over or ()), counter)

    def rewind(self, message: Rewind) -> None:
        """Go back, after what was recorded before. Raises TallyboardError if far too many of them wait."""
        if len(self._closed) >= SECTIONS_MAX:
            raise TallyboardError(f"{SECTIONS_MAX} rewinds and more wait to be sent; is the server away?")
        self.seal()
        self._rewind = message
        self.seal()

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set summary values."""
        self._summary.update(values)

    def seal(self, status: Status | None = None) -> None:
        """Close the section at hand, if it holds anything."""
        rows, self._rows = self._rows, []
        apart, self._apart = self._apart, []
        opening, self._open = self._open, None
        rewind, self._rewind = self._rewind, None
        summary, self._summary = self._summary, {}
        self._cost = 0
        if not (rows or apart or opening or rewind or summary or status):
            return
        packed, packed_apart = [lane.take() for lane in rows], [lane.take() for lane in apart]
        section = Section(opening, rewind, packed, packed_apart, summary, status)
        self._tally.recorded(section)
        self._closed.append(section)
        self._sealed_bytes += section.nbytes
        self.sealed += 1
        self._wake()

    def fetch(self) -> list[Section]:
        """The closed sections, in order; the caller's now. For the sender's thread alone."""
        fetched: list[Section] = []
        while self._closed:
            section = self._closed.popleft()
            self._fetched_bytes += section.nbytes
            fetched.append(section)
        return fetched


class Discarded(Sections):
    """Of a run that reports nothing: keeps nothing."""

    def add(self, lane: Lane, row: bytes) -> bool:
        """Keep no row."""
        return False

    def add_blob(self, lane: BlobLane, row: bytes, blob: PendingBlob) -> bool:
        """Keep no row."""
        return False

    def seal(self, status: Status | None = None) -> None:
        """Forget all parts."""
        self._open, self._rewind, self._summary = None, None, {}

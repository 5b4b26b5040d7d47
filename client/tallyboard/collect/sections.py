"""What a run has recorded and the sender has not yet fetched, in sections that each fit into a batch.

A signal handler may interrupt anything here at any line, and use it, or never come back. So each change takes effect in
one step: a row when it is put, a section when the next one is added behind it. What comes before such a step can be
done twice, or in vain; and the line that takes it looks once more whether it is still right.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tallyboard.collect.blobs import PendingBlob
from tallyboard.collect.lanes import BlobLane, Lane, Packed, Rows, Section
from tallyboard.collect.stats import Tally
from tallyboard.errors import TallyboardError
from tallyboard.wire import Alert, CounterSpec, Open, Rewind, Status, limits

SECTION_COST_MAX: Final = 4 * limits.MIB
"""A section is closed beyond this: about 26,000 reports of ten scalars (160 bytes each), at most 47,000 of one.

With the blob that goes beyond it (limits.BLOB_BYTES_MAX) a section is still far from limits.BODY_BYTES_MAX.
"""
SECTION_LANES_MAX: Final = 900
"""Lanes of a section, below wire.limits.BLOCKS_PER_BATCH_MAX."""
SECTION_ALERTS_MAX: Final = 64
"""Alerts of a section, the first; below wire.limits.ALERTS_PER_BATCH_MAX."""
ALERT_BYTES: Final = 1024
"""Counted for an alert on top of its text and title."""
BUFFER_BYTES_MAX: Final = 32 * limits.MIB
"""Closed sections that wait; beyond it nothing is added."""
SECTIONS_MAX: Final = 20_000
"""Closed sections, whatever their size: what stops a job that does nothing but rewind, which takes two each time."""


class Draft:
    """A section that may still grow. number: counts them. before: bytes of all the sections before it.

    config, counters, taken_over: what is added to `open`, or makes one.
    """

    __slots__ = (
        "alerts", "before", "config", "cost", "counters", "lanes", "number", "open", "rewind", "status", "summary",
        "taken_over",
    )  # fmt: skip

    def __init__(self, number: int, before: int, rewind: Rewind | None = None) -> None:
        self.number = number
        self.before = before
        self.lanes: dict[Lane, Rows] = {}
        self.cost = 0
        self.open: Open | None = None
        self.config: dict[str, Any] = {}
        self.counters: dict[str, CounterSpec] = {}
        self.taken_over: dict[str, None] = {}
        self.rewind = rewind
        self.alerts: list[Alert] = []
        self.summary: dict[str, Any] = {}
        self.status: Status | None = None

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it."""
        if self.open or self.config or self.counters or self.taken_over or self.rewind:
            return False
        if self.alerts or self.summary or self.status:
            return False
        return not self.has_rows

    @property
    def has_rows(self) -> bool:
        """Whether reports are in it."""
        # Not by any() or all(): what a handler raises while a generator that was left halfway is closed, gets lost.
        return False in [rows.empty for rows in list(self.lanes.values())]

    def follower(self, rewind: Rewind | None = None) -> "Draft":
        """The next one, which begins with a rewind or with nothing."""
        nbytes = 1024 + sum(rows.nbytes for rows in list(self.lanes.values()))
        nbytes += sum(ALERT_BYTES + len(alert.title) + len(alert.text) for alert in list(self.alerts))
        return Draft(self.number + 1, self.before + nbytes, rewind)

    def packed(self, *, apart: bool) -> list[Packed]:
        """The rows of its lanes, of one of the two kinds."""
        found = list(self.lanes.items())
        return [lane.packed(rows) for lane, rows in found if lane.apart is apart and not rows.empty]

    def section(self) -> Section:
        """What it has become, once it is closed."""
        rows, apart = self.packed(apart=False), self.packed(apart=True)
        return Section(self.number, self._opening(), self.rewind, rows, apart, self.summary, self.status, self.alerts)

    def _opening(self) -> Open | None:
        opening = self.open
        if opening is None and (self.config or self.counters or self.taken_over):
            opening = Open(resume="new")  # which takes nothing over from a run that knows its producer
        if opening is not None:
            opening.config.update(self.config)
            opening.counters.update(self.counters)
            if self.taken_over:
                opening.take_over = tuple(dict.fromkeys((*(opening.take_over or ()), *self.taken_over)))
        return opening

    def release(self) -> None:
        """Let go of rows that lanes still know."""
        for rows in self.lanes.values():
            rows.release()


class Sections:
    """Guarded by the recorder's lock, but for `full`, `waiting`, `fetch` and `unfetched`."""

    def __init__(self, tally: Tally, wake: Callable[[], None], bytes_max: int = BUFFER_BYTES_MAX) -> None:
        self._tally = tally
        self._wake = wake
        self._chain = deque([Draft(1, 0)])
        """Closed sections, oldest first, and at the end the one at hand: to add another is to close that."""
        self.bytes_max = bytes_max
        tally.unfetched = self.unfetched

    @property
    def sealed(self) -> int:
        """Sections closed so far, in all."""
        return self._chain[-1].number - 1

    @property
    def full(self) -> bool:
        """Whether so much waits that nothing may be added."""
        return self._chain[-1].before - self._chain[0].before >= self.bytes_max

    @property
    def waiting(self) -> bool:
        """Whether a closed section waits."""
        return len(self._chain) > 1

    def add(self, lane: Lane, row: bytes) -> bool:
        """Keep a row of a lane. Returns whether this closed the section."""
        while lane.rows.number != (draft := self._chain[-1]).number or lane.rows.put(row):
            lane.rows = draft.lanes.setdefault(lane, lane.rows_of(draft.number))
        draft.cost += lane.cost
        if draft.cost < SECTION_COST_MAX and len(draft.lanes) < SECTION_LANES_MAX:
            return False
        self.seal()
        return True

    def add_blob(self, lane: BlobLane, row: bytes, blob: PendingBlob) -> bool:
        """Keep a row of a lane with its blob. Returns whether this closed the section."""
        pair = row, blob
        kept = False
        while not kept:
            draft = self._chain[-1]
            lane.rows = draft.lanes.setdefault(lane, lane.rows_of(draft.number))
            draft.cost += lane.cost + blob.nbytes  # ahead: a section may become too small in vain, but never too large
            kept = self._chain[-1] is draft and lane.rows.number == draft.number and lane.rows.put(pair) is None
        if draft.cost < SECTION_COST_MAX and len(draft.lanes) < SECTION_LANES_MAX:
            return False
        self.seal()
        return True

    def open(self, message: Open) -> None:
        """How the run begins, ahead of everything that is recorded later."""
        self.seal()
        self._chain[-1].open = message

    def amend(self, config: Mapping[str, Any], counters: Mapping[str, CounterSpec]) -> None:
        """Add to the config, and to what is known of counters."""
        if self._chain[-1].has_rows:
            self.seal()
        more_config, more_counters = dict(config), dict(counters)
        self._chain[-1].config.update(more_config)
        self._chain[-1].counters.update(more_counters)

    def take_over(self, counter: str) -> None:
        """Take a counter over from whoever writes it, before the reports of the section at hand."""
        self._chain[-1].taken_over[counter] = None

    def rewind(self, message: Rewind) -> None:
        """Go back, after what was recorded before. Raises TallyboardError if far too many of them wait."""
        if len(self._chain) > SECTIONS_MAX:
            raise TallyboardError(f"{SECTIONS_MAX // 2:,} rewinds wait to be sent; is the server away?")
        while not self._close(draft := self._chain[-1], draft.follower(message)):
            pass  # it was closed meanwhile: again, behind what came then
        self.seal()

    def alert(self, alert: Alert) -> bool:
        """Keep an alert. Returns whether there was room for it."""
        if self.full or len(self._chain[-1].alerts) >= SECTION_ALERTS_MAX:
            return False
        self._chain[-1].alerts.append(alert)
        return True

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set summary values."""
        changes = dict(values)
        self._chain[-1].summary.update(changes)

    def seal(self, status: Status | None = None) -> None:
        """Close the section at hand, if it holds anything."""
        if status is not None:
            self._chain[-1].status = status
        draft = self._chain[-1]
        if not draft.empty and self._close(draft, draft.follower()):
            self._wake()

    def fetch(self) -> list[Section]:
        """The closed sections, in order; the caller's now. For the sender's thread alone."""
        fetched: list[Section] = []
        while len(self._chain) > 1:
            draft = self._chain[0]
            section = draft.section()
            self._tally.recorded(section)
            if not draft.empty:
                fetched.append(section)
            self._chain.popleft()
            draft.release()
        return fetched

    def unfetched(self, number: int) -> Iterator[Packed]:
        """The rows of sections after the so-and-so-manieth."""
        for draft in list(self._chain):
            if draft.number > number:
                yield from draft.packed(apart=False)
                yield from draft.packed(apart=True)

    def _close(self, draft: Draft, follower: Draft) -> bool:
        """Add the next section behind the one at hand; returns False if that is another one by now."""
        return self._chain[-1] is draft and self._chain.append(follower) is None  # type: ignore[func-returns-value]


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
        self._chain[-1] = Draft(1, 0)

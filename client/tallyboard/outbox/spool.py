"""The ordered queue of batches between merge and transmit: in memory, and on disk when the service is away."""

import os
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from tallyboard.notices import Notices
from tallyboard.outbox import frames
from tallyboard.outbox.cursor import Progress
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.locks import SUPPORTED
from tallyboard.outbox.parcel import Parcel
from tallyboard.outbox.stream import Stream
from tallyboard.wire import Receipt, limits

Policy = Literal["spill", "always", "off"]
"""When batches go to disk: when the service is away or slow; before they are sent; never."""

MEMORY_BYTES_MAX: Final = 32 * limits.MIB
"""Batches that wait in memory, beside the recorder's own 32 MiB; more are not taken out of the recorder."""
DISK_BYTES_MAX: Final = 1024 * limits.MIB
FREE_BYTES_MIN: Final = 256 * limits.MIB
"""Free disk space that is left to others."""
SPILL_AFTER_S: Final = 2.0
"""Batches that waited in memory for so long go to disk: what a killed job can lose of those it had frozen."""
SPILL_BYTES: Final = 16 * limits.MIB
CALM_S: Final = 30.0
"""How long batches go by the disk after it was last needed, so that a flapping service makes no folder each time."""
SYNC_EVERY_S: Final = 1.0
"""How old what is in the files may get before it is synced to the disk itself: what a power cut can take."""
DISK_RETRY_S: Final = 10.0


class Outbox(Protocol):
    """Where batches wait to be sent, and what is kept of their stream. For one thread."""

    stream: Stream
    progress: Progress

    def head(self) -> Parcel | None:
        """The oldest, which stays until it is taken or passed; None if there is none."""
        ...

    def taken(self, parcel: Parcel, receipt: Receipt) -> None:
        """The service took the oldest, which is this."""
        ...

    def passed(self, parcel: Parcel) -> None:
        """The oldest, which is this, is given up; its number is free still."""
        ...

    def restart(self) -> None:
        """Keep a new producer with its `reopening` (in `stream`), and that it counts from 1 again (in `progress`)."""
        ...

    def settle(self) -> None:
        """Keep what was settled: the run's name, the end of a `reopening`, that the stream is held."""
        ...


@dataclass(slots=True, frozen=True)
class Place:
    """Where and when batches go to disk. sends: the job sends them itself (it does not when offline)."""

    root: Path | None = None
    policy: Policy = "spill"
    bytes_max: int = DISK_BYTES_MAX
    sends: bool = True
    memory_bytes_max: int = MEMORY_BYTES_MAX
    free_bytes_min: int = FREE_BYTES_MIN


class Spool:
    """A job's outbox: the oldest batches on disk, if there are any, and the newest in memory.

    Thread-safe in nothing; its methods raise nothing. `clock` counts seconds.
    """

    def __init__(self, stream: Stream, place: Place, notices: Notices, clock: Callable[[], float]) -> None:
        self.stream = stream
        self.progress = Progress()
        self._place = place
        self._notices = notices
        self._clock = clock
        self._memory: deque[tuple[Parcel, float]] = deque()
        self._memory_bytes = 0
        self._disk: DiskSpool | None = None
        self._needed_at = 0.0
        self._synced_at = 0.0
        self._retry_at = 0.0

    @property
    def path(self) -> Path | None:
        """The folder on disk, if there is one now."""
        return None if self._disk is None else self._disk.path

    @property
    def in_memory(self) -> int:
        """How many batches are in memory only."""
        return len(self._memory)

    @property
    def reports_in_memory(self) -> int:
        """How many reports they hold."""
        return sum(parcel.reports for parcel, _ in self._memory)

    # ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────

    def has_room(self) -> bool:
        """Whether another section may be put in.

        Judged before it goes in, so that the bound is exceeded by less than what one take brings.
        """
        return self._memory_bytes < self._place.memory_bytes_max

    def reports_on(self, counters: Iterable[str]) -> None:
        """The job reports on these counters."""
        if new := set(counters).difference(self.stream.counters):
            self.stream.counters.extend(sorted(new))
            if self._place.sends:  # else the header is another's, once it is written
                self.settle()

    def append(self, parcel: Parcel) -> None:
        """Put one at the end; it goes to disk in the next `tend`, if it has to."""
        self._memory.append((parcel, self._clock()))
        self._memory_bytes += frames.size(parcel)

    def head(self) -> Parcel | None:
        """The oldest; None also if it is on a disk that can't be read now."""
        if self._disk is not None:
            try:
                parcel = self._disk.head()
            except OSError as error:
                self._trouble("read", error)
                return None
            if parcel is not None:
                return parcel
        return self._memory[0][0] if self._memory else None

    def taken(self, parcel: Parcel, receipt: Receipt) -> None:
        """The service took the oldest."""
        self._pop(self.progress.taken(parcel, receipt))

    def passed(self, parcel: Parcel) -> None:
        """The oldest is given up."""
        self._pop(self.progress.passed(parcel))

    def restart(self) -> None:
        """Keep a new producer."""
        if self._disk is not None:
            self._disk.progress = self.progress
            self._guarded("write to", self._disk.restart)

    def settle(self) -> None:
        """Keep what was settled of the stream."""
        if self._disk is not None:
            self._disk.progress = self.progress
            self._guarded("write to", self._disk.settle)

    # ── disk ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def tend(self) -> None:
        """Move to disk, sync, or remove from there what it is time for."""
        now = self._clock()
        if self._memory and self._must_spill(now):
            self._spill(now, self._has_disk_room)
        disk = self._disk
        if disk is None:
            return
        if now >= self._synced_at + SYNC_EVERY_S:
            self._synced_at = now
            self._guarded("write to", disk.sync)
        if not self._place.sends:
            return
        if self._memory or self.head() is not None:
            self._needed_at = now
        elif self._place.policy != "always" and now >= self._needed_at + CALM_S:
            self._disk = None
            self._guarded("remove from", disk.remove)

    def put_away(self) -> bool:
        """Have everything that waits on the disk itself, whatever room it takes. Returns whether it is."""
        if self._memory and self._place.policy != "off":
            self._spill(self._clock(), lambda _: True)
        if self._disk is not None:
            self._guarded("write to", self._disk.sync)
        return not self._memory

    def close(self) -> None:
        """Let go of the disk, where what is delivered whole is removed."""
        disk, self._disk = self._disk, None
        if disk is None:
            return
        try:
            if self._place.sends and disk.head() is None:
                disk.remove()
            else:
                disk.close()
        except OSError as error:
            self._trouble("remove from", error)

    def abandon(self) -> None:
        """In a forked child: forget what is the parent's."""
        disk, self._disk = self._disk, None
        self._memory.clear()
        if disk is not None:
            disk.close()

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _pop(self, progress: Progress) -> None:
        self.progress = progress
        disk = self._disk
        try:
            if disk is not None and disk.head() is not None:
                disk.pop(progress)
                return
            parcel, _ = self._memory.popleft()
            self._memory_bytes -= frames.size(parcel)
            if disk is not None:
                disk.note(progress)
        except OSError as error:  # the batch is behind us; whoever reads the files next may send it again
            self._trouble("write to", error)

    def _must_spill(self, now: float) -> bool:
        if self._place.policy == "off" or self._place.root is None or not SUPPORTED or now < self._retry_at:
            return False
        if self._disk is not None or self._place.policy == "always" or not self._place.sends:
            return True
        return now >= self._memory[0][1] + SPILL_AFTER_S or self._memory_bytes >= SPILL_BYTES

    def _spill(self, now: float, has_room: Callable[[DiskSpool], bool]) -> None:
        root = self._place.root
        if root is None or not SUPPORTED:
            return
        try:
            if self._disk is None:
                self._disk = DiskSpool.create(root, self.stream, self.progress, sends=self._place.sends)
            while self._memory and has_room(self._disk):
                parcel, _ = self._memory[0]
                self._disk.append(parcel)
                self._memory.popleft()
                self._memory_bytes -= frames.size(parcel)
        except OSError as error:
            self._retry_at = now + DISK_RETRY_S
            self._trouble("write to", error)

    def _has_disk_room(self, disk: DiskSpool) -> bool:
        found = os.statvfs(disk.path)
        if disk.nbytes() >= self._place.bytes_max:
            why = f"it holds {self._place.bytes_max / limits.MIB:,.0f} MiB, as much as it may"
        elif found.f_bavail * found.f_frsize < self._place.free_bytes_min:
            why = f"less than {self._place.free_bytes_min / limits.MIB:,.0f} MiB of its disk are free"
        else:
            return True
        self._notices.warn_once(("spool full",), f"{disk.path} takes no more batches: {why}. {_WAIT}")
        return False

    def _guarded(self, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._trouble(what, error)

    def _trouble(self, what: str, error: OSError) -> None:
        where = self._place.root if self._disk is None else self._disk.path
        self._notices.warn_once(
            ("spool", what, error.errno), f"can't {what} {where}: {error.strerror or error}. {_WAIT}"
        )


_WAIT: Final = (
    "Training goes on; reports wait in memory, up to about 64 MiB, and beyond that the newest are dropped and counted"
)

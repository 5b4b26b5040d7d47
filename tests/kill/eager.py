"""`tallyboard` with its background work made constant, so that kills hit it; and a fuse, to kill at one very point.

`python -m tests.kill.eager serve …`. FUSE="<place>:<n>" ends the process with SIGKILL at the n-th time it comes to
that place; see PLACES.
"""

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from tallyboard_server.cli import main
from tallyboard_server.eventfiles import opening, tools
from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.ingest import merger
from tallyboard_server.store.sql import merging
from tallyboard_server.store.sqlite import store
from tallyboard_server.store.sqlite.store import SqliteStore


def make_eager() -> None:
    """Merge from two blocks and two groups on, build openings of a few rows at a time, trim the log all the time."""
    for module, name, value in (
        (merger.Merger.__init__, "min_blocks", 2), (merger.Merger.__init__, "slice_rows", 64),
        (merger.Merger.__init__, "interval_s", 0.02), (merger.Merger.__init__, "fan_in", 2),
        (SqliteStore.__init__, "checkpoint_bytes", 64 * 1024), (SqliteStore.__init__, "truncate_bytes", 256 * 1024),
    ):  # fmt: skip
        defaults = module.__kwdefaults__
        assert defaults is not None
        assert name in defaults
        defaults[name] = value
    opening.SLICE_BYTES = 4096  # type: ignore[misc]
    tools.ExportSettings.__init__.__defaults__ = (0.05, 0.1, 0.1, 0.3, 0.5, 4)
    store.VACUUM_EVERY_S = 0.05  # type: ignore[misc]
    store.FREE_BYTES_KEPT = 0  # type: ignore[misc]


def die() -> None:
    """End here, as by a power cut of this process alone."""
    os.kill(os.getpid(), signal.SIGKILL)


def _before(holder: Any, name: str) -> Callable[[Callable[[], None]], None]:
    """Blow the fuse on the way into a function."""

    def arm(blow: Callable[[], None]) -> None:
        real = getattr(holder, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            blow()
            return real(*arguments, **options)

        setattr(holder, name, wrapped)

    return arm


def _after(holder: Any, name: str) -> Callable[[Callable[[], None]], None]:
    """Blow the fuse on the way out of a function."""

    def arm(blow: Callable[[], None]) -> None:
        real = getattr(holder, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            result = real(*arguments, **options)
            blow()
            return result

        setattr(holder, name, wrapped)

    return arm


def _within_merge(of_groups: bool) -> Callable[[Callable[[], None]], None]:
    """Blow the fuse when the sources of a merge (blocks, or groups) are deleted and its rows not yet inserted."""

    def arm(blow: Callable[[], None]) -> None:
        applying: list[merging.PackedMerge] = []
        apply, insert = merging.apply_merge, merging.insert_rows

        def apply_merge(connection: Any, merge: merging.PackedMerge) -> bool:
            applying[:] = [merge]
            return apply(connection, merge)

        def insert_rows(connection: Any, rows: Any) -> None:
            if bool(applying[0].groups) == of_groups:
                blow()
            insert(connection, rows)

        merging.apply_merge = apply_merge
        merging.insert_rows = insert_rows

    return arm


def _after_compaction(blow: Callable[[], None]) -> None:
    """Blow the fuse when a compaction is written and not yet committed."""
    real = merging.apply_merge

    def apply_merge(connection: Any, merge: merging.PackedMerge) -> bool:
        found = real(connection, merge)
        if merge.groups:
            blow()
        return found

    merging.apply_merge = apply_merge


def _within_write(blow: Callable[[], None]) -> None:
    """Blow the fuse when half of a write to an event file is done."""
    real = Disk.write

    def write(self: Disk, fd: int, data: bytes, offset: int) -> None:
        half = len(data) // 2
        real(self, fd, data[:half], offset)
        blow()
        real(self, fd, data[half:], offset + half)

    Disk.write = write  # type: ignore[method-assign]


PLACES: dict[str, Callable[[Callable[[], None]], None]] = {
    "before commit": _before(SqliteStore, "_commit"),
    "after commit": _after(SqliteStore, "_commit"),
    "before merge": _before(merging, "apply_merge"),
    "within merge": _within_merge(of_groups=False),
    "after merge": _after(merging, "apply_merge"),
    "within compaction": _within_merge(of_groups=True),
    "after compaction": _after_compaction,
    "checkpoint": _before(SqliteStore, "_checkpoint"),
    "after checkpoint": _after(SqliteStore, "_checkpoint"),
    "snapshot begun": _after(Disk, "create"),
    "within write": _within_write,
    "snapshot before rename": _before(Disk, "rename"),
    "snapshot after rename": _after(Disk, "rename"),
    "before sync": _before(Disk, "sync"),
    "old file removed": _after(Disk, "remove"),
}


def arm(fuse: str) -> None:
    """Lay the fuse `<place>:<n>`."""
    place, _, count = fuse.rpartition(":")
    times = itertools.count(1)

    def blow() -> None:
        if next(times) == int(count):
            die()

    PLACES[place](blow)


if __name__ == "__main__":
    make_eager()
    if fuse := os.environ.pop("FUSE", None):
        arm(fuse)
    main()

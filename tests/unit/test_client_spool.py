"""When batches go to disk, and what happens if the disk will not have them."""

import errno
import os
from pathlib import Path

import pytest

from tallyboard.outbox import locks
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.parcel import Parcel
from tallyboard.outbox.spool import (
    CALM_S,
    DISK_RETRY_S,
    FREE_BYTES_MIN,
    SPILL_AFTER_S,
    SPILL_BYTES,
    SYNC_EVERY_S,
    Place,
    Policy,
    Spool,
)
from tallyboard.outbox.spooldir import SpoolDir
from tallyboard.wire import Receipt
from tests.unit.client_kit import Clock, Ears, a_stream

TAKEN = Receipt(run="digits/try1", accepted=1)


class Case:
    """A spool on a clock that stands still."""

    def __init__(self, root: Path, policy: Policy = "spill", **place: int | bool) -> None:
        self.root = root
        self.clock, self.ears = Clock(), Ears()
        self.spool = Spool(a_stream(), Place(root, policy, **place), self.ears, self.clock)  # type: ignore[arg-type]
        self.made = 0

    def put(self, count: int = 1, nbytes: int = 100) -> None:
        for _ in range(count):
            self.made += 1
            self.spool.append(Parcel(b"\x81".ljust(nbytes, b"x"), reports=1, closes=self.made))

    def take(self, count: int = 1) -> list[int]:
        found = []
        for _ in range(count):
            if (head := self.spool.head()) is not None:
                found.append(head.closes)
                self.spool.taken(head, TAKEN)
        return found

    @property
    def on_disk(self) -> int:
        """Batches in its folder, as another process finds them."""
        folder = SpoolDir(self.root / "u1")
        return DiskSpool(folder, a_stream(), None, None).survey().batches if folder.path.is_dir() else 0  # type: ignore[arg-type]


def test_while_the_service_answers_nothing_touches_the_disk(tmp_path: Path) -> None:
    case = Case(tmp_path / "spool")
    for _ in range(50):
        case.put()
        case.spool.tend()
        assert case.take() == [case.made]
        case.clock.advance(1.0)
    assert not (tmp_path / "spool").exists()


def test_what_waited_too_long_goes_to_disk_in_order(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put(3)
    case.clock.advance(SPILL_AFTER_S - 0.1)
    case.spool.tend()
    assert case.on_disk == 0
    case.put(2)
    case.clock.advance(0.1)
    case.spool.tend()
    assert case.on_disk == 5
    case.put(2)  # from now on at once
    case.spool.tend()
    assert case.on_disk == 7
    assert case.take(10) == [1, 2, 3, 4, 5, 6, 7]


def test_so_does_what_is_too_much_for_memory(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put(1, nbytes=SPILL_BYTES)
    case.spool.tend()
    assert case.on_disk == 1


def test_a_batch_under_way_that_is_spilled_keeps_its_place_and_number(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put(4)
    assert case.take(2) == [1, 2]
    under_way = case.spool.head()
    assert under_way is not None
    case.clock.advance(SPILL_AFTER_S)
    case.spool.tend()
    case.spool.taken(under_way, TAKEN)
    assert case.spool.progress.seq == 3
    case.spool.close()
    again = DiskSpool.take(SpoolDir(tmp_path / "u1"))
    assert again is not None
    assert (again.progress.seq, again.survey().batches) == (3, 1)
    again.close()


def test_when_it_was_calm_for_long_the_folder_goes(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.put()
    case.clock.advance(SPILL_AFTER_S)
    case.spool.tend()
    assert case.take() == [1]
    case.clock.advance(CALM_S - 1.0)
    case.spool.tend()
    assert case.spool.path == tmp_path / "u1"
    case.clock.advance(1.0)
    case.spool.tend()
    assert list(tmp_path.iterdir()) == []
    case.put()
    case.clock.advance(SPILL_AFTER_S)
    case.spool.tend()
    assert case.on_disk == 1
    assert case.take() == [2]
    case.spool.close()
    assert list(tmp_path.iterdir()) == []


def test_always_means_before_it_is_sent(tmp_path: Path) -> None:
    case = Case(tmp_path, "always")
    case.put()
    case.spool.tend()
    assert case.on_disk == 1
    assert case.take() == [1]
    case.clock.advance(10 * CALM_S)
    case.spool.tend()
    assert case.spool.path is not None
    case.spool.close()
    assert list(tmp_path.iterdir()) == []


def test_off_means_never(tmp_path: Path) -> None:
    case = Case(tmp_path, "off")
    case.put()
    case.clock.advance(1_000.0)
    case.spool.tend()
    assert not case.spool.put_away()
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_locks_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard.outbox.spool.SUPPORTED", False)
    assert locks.SUPPORTED
    case = Case(tmp_path, "always")
    case.put()
    case.spool.tend()
    assert not case.spool.put_away()
    assert list(tmp_path.iterdir()) == []


def test_at_the_end_all_goes_to_disk_whatever_room_it_takes(tmp_path: Path) -> None:
    case = Case(tmp_path, bytes_max=150)
    case.put(5)
    assert case.spool.put_away()
    assert case.on_disk == 5
    case.spool.close()
    assert case.on_disk == 5


def test_what_is_added_is_synced_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    case = Case(tmp_path, "always")
    for _ in range(10):
        case.put()
        case.spool.tend()
        case.clock.advance(SYNC_EVERY_S / 4)
    assert 2 <= len(synced) <= 3
    case.clock.advance(SYNC_EVERY_S)
    case.spool.tend()
    count = len(synced)
    case.clock.advance(SYNC_EVERY_S)
    case.spool.tend()
    assert len(synced) == count  # nothing new


# ── bounds, and disks in trouble ─────────────────────────────────────────────────────────────────────────────────


def test_a_spool_that_is_full_says_so_and_memory_takes_a_bounded_rest(tmp_path: Path) -> None:
    case = Case(tmp_path, "always", bytes_max=1_000, memory_bytes_max=500)
    for _ in range(30):
        if case.spool.has_room():
            case.put()
        case.spool.tend()
    assert 8 <= case.on_disk <= 9
    assert case.spool.in_memory == 5
    (said,) = case.ears.heard
    assert "takes no more batches" in said
    assert "the newest are dropped and counted" in said
    assert case.take(100) == list(range(1, case.made + 1))


def test_free_space_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, "always", free_bytes_min=1 << 60)
    case.put()
    case.spool.tend()
    assert (case.on_disk, case.spool.in_memory) == (0, 1)
    assert "of its disk are free" in case.ears.heard[0]
    assert FREE_BYTES_MIN == 256 * 1024 * 1024


def test_a_disk_that_fills_up_costs_nothing_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, "always")
    case.put(2)
    case.spool.tend()
    real = os.pwritev

    def full(descriptor: int, buffers: list[bytes], offset: int) -> int:
        real(descriptor, [buffers[0]], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwritev", full)
    case.put(2)
    case.spool.tend()
    case.clock.advance(DISK_RETRY_S / 2)
    case.spool.tend()
    (said,) = case.ears.heard
    assert "No space left on device" in said
    assert (case.on_disk, case.spool.in_memory) == (2, 2)
    monkeypatch.setattr(os, "pwritev", real)
    case.clock.advance(DISK_RETRY_S)
    case.spool.tend()
    assert (case.on_disk, case.spool.in_memory) == (4, 0)
    assert case.take(10) == [1, 2, 3, 4]


def test_what_waits_behind_a_full_disk_goes_from_memory_once_the_disk_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path, "always")
    case.put(2)
    case.spool.tend()
    monkeypatch.setattr(os, "pwritev", _no_space)
    case.put(2)
    case.spool.tend()
    assert case.take(3) == [1, 2, 3]
    monkeypatch.undo()
    case.clock.advance(DISK_RETRY_S)
    case.spool.tend()
    case.spool.close()
    again = DiskSpool.take(SpoolDir(tmp_path / "u1"))
    assert again is not None
    head = again.head()
    assert head is not None
    assert (head.closes, again.progress.seq) == (4, 3)
    again.close()


def _no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_place_that_is_no_folder_is_said_and_reports_wait_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    case = Case(tmp_path / "file" / "spool", "always")
    case.put()
    case.spool.tend()
    case.clock.advance(DISK_RETRY_S)
    case.spool.tend()
    (said,) = case.ears.heard
    assert "can't write to" in said
    assert "Not a directory" in said
    assert case.take() == [1]
    case.put()
    assert case.spool.put_away() is False


def test_a_disk_that_cant_be_read_now_keeps_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, "always")
    case.put(2)
    case.spool.tend()
    assert case.take(1) == [1]

    def broken(*_: object) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = os.pread
    monkeypatch.setattr(os, "pread", broken)
    case.spool._disk._reader._next = None  # type: ignore[union-attr] # as if it had not been read ahead
    assert case.spool.head() is None
    assert "Input/output error" in case.ears.heard[0]
    monkeypatch.setattr(os, "pread", real)
    assert case.take() == [2]


def test_a_cursor_that_cant_be_written_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path, "always")
    case.put(3)
    case.spool.tend()
    monkeypatch.setattr(os, "pwrite", _no_space)
    assert case.take(3) == [1, 2, 3]
    assert case.spool.progress.seq == 3
    assert len(case.ears.heard) == 1

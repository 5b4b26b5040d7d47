"""Batches on disk: in order, once, and whole, whatever the process that wrote them came to."""

import errno
import os
from pathlib import Path

import pytest

from tallyboard.outbox.cursor import Position, Progress
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.frames import OVERHEAD_BYTES
from tallyboard.outbox.parcel import Parcel, freeze
from tallyboard.outbox.spooldir import CURSOR, HEADER, NoSpoolError, SpoolDir, stream_dirs
from tallyboard.wire import Batch, Open, Receipt, Rewind
from tests.unit.client_kit import a_stream

BODY_BYTES = 100
FRAME_BYTES = OVERHEAD_BYTES + BODY_BYTES


def parcel(number: int, **about: bool) -> Parcel:
    return Parcel(b"\x81" + number.to_bytes(2, "big") + b"x" * (BODY_BYTES - 3), reports=1, closes=number, **about)


def numbers(spool: DiskSpool) -> list[int]:
    """All that waits, taken."""
    found = []
    while (head := spool.head()) is not None:
        found.append(head.closes)
        spool.taken(head, Receipt(run="r", accepted=1))
    return found


def made(root: Path, count: int = 0, *, segment_bytes_max: int = 3 * FRAME_BYTES, **options: bool) -> DiskSpool:
    """A spool of so many batches, three to a segment."""
    spool = DiskSpool.create(root, a_stream(), Progress(), segment_bytes_max=segment_bytes_max, **options)
    for number in range(1, count + 1):
        spool.append(parcel(number))
    return spool


def taken(root: Path) -> DiskSpool:
    spool = DiskSpool.take(SpoolDir(root / "u1"))
    assert spool is not None
    return spool


def test_first_in_first_out(tmp_path: Path) -> None:
    spool = made(tmp_path, 4)
    head = spool.head()
    assert head == parcel(1)
    assert spool.head() is head
    spool.append(parcel(5))
    assert numbers(spool) == [1, 2, 3, 4, 5]
    spool.append(parcel(6))
    assert numbers(spool) == [6]
    spool.close()


def test_delivered_segments_are_removed_and_the_rest_stays_bounded(tmp_path: Path) -> None:
    spool = made(tmp_path, 10)
    assert spool.folder.segments() == [1, 2, 3, 4]
    assert spool.nbytes() == 10 * FRAME_BYTES
    for _ in range(7):
        head = spool.head()
        assert head is not None
        spool.taken(head, Receipt(run="r", accepted=1))
    assert spool.folder.segments() == [3, 4]
    spool.close()


def test_another_process_goes_on_where_the_last_one_was_killed(tmp_path: Path) -> None:
    first = made(tmp_path, 8)
    for number in range(1, 5):
        head = first.head()
        assert head is not None
        assert head.closes == number
        first.taken(head, Receipt(run="r", accepted=1))
    first.close()  # what the kernel does for a process that is killed
    second = taken(tmp_path)
    assert second.is_abandoned()
    assert second.progress == Progress(seq=4, batches=4, reports=4, accepted=4)
    assert numbers(second) == [5, 6, 7, 8]
    second.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", range(1, FRAME_BYTES))
def test_a_torn_end_is_left_out(tmp_path: Path, cut: int) -> None:
    made(tmp_path, 5).close()
    last = tmp_path / "u1" / "00000002.seg"
    os.truncate(last, last.stat().st_size - cut)
    spool = taken(tmp_path)
    assert spool.is_abandoned()
    assert numbers(spool) == [1, 2, 3, 4]
    assert spool.survey().nbytes == FRAME_BYTES - cut
    assert spool.damaged_bytes == 0
    spool.close()


def test_a_damaged_batch_is_passed_over_and_counted(tmp_path: Path) -> None:
    made(tmp_path, 7).close()
    first = tmp_path / "u1" / "00000001.seg"
    data = bytearray(first.read_bytes())
    data[FRAME_BYTES + OVERHEAD_BYTES + 5] ^= 1  # in the body of the second
    first.write_bytes(bytes(data))
    spool = taken(tmp_path)
    assert numbers(spool) == [1, 3, 4, 5, 6, 7]
    assert spool.damaged_bytes == FRAME_BYTES
    spool.close()


def test_a_length_that_cant_be_takes_the_rest_of_its_segment_with_it(tmp_path: Path) -> None:
    made(tmp_path, 7).close()
    first = tmp_path / "u1" / "00000001.seg"
    data = bytearray(first.read_bytes())
    data[FRAME_BYTES : FRAME_BYTES + 4] = b"\xff\xff\xff\xff"
    first.write_bytes(bytes(data))
    spool = taken(tmp_path)
    assert numbers(spool) == [1, 4, 5, 6, 7]
    assert spool.damaged_bytes == 2 * FRAME_BYTES
    spool.close()


def test_a_batch_that_does_not_fit_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = made(tmp_path, 1)
    whole = os.pwritev

    def half(descriptor: int, buffers: list[bytes], offset: int) -> int:
        return whole(descriptor, [b"".join(buffers)[:50]], offset)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as filling:
        filling.setattr(os, "pwritev", half)
        filling.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            spool.append(parcel(2))
    assert spool.nbytes() == FRAME_BYTES
    spool.append(parcel(3))
    assert numbers(spool) == [1, 3]
    spool.close()


# ── who may do what ──────────────────────────────────────────────────────────────────────────────────────────────


def test_while_the_job_sends_nobody_else_can(tmp_path: Path) -> None:
    job = made(tmp_path, 3)
    assert DiskSpool.take(SpoolDir(tmp_path / "u1")) is None
    with pytest.raises(BlockingIOError):
        made(tmp_path)
    job.close()
    first = taken(tmp_path)
    assert DiskSpool.take(SpoolDir(tmp_path / "u1")) is None
    first.close()
    taken(tmp_path).close()


def test_what_an_offline_job_writes_can_be_sent_while_it_writes(tmp_path: Path) -> None:
    job = made(tmp_path, 4, sends=False)
    sender = taken(tmp_path)
    assert numbers(sender) == [1, 2, 3, 4]
    assert not sender.is_abandoned()
    for number in range(5, 9):
        job.append(parcel(number))
    assert numbers(sender) == [5, 6, 7, 8]
    job.append(parcel(9))
    segment = tmp_path / "u1" / "00000003.seg"
    whole = segment.read_bytes()
    segment.write_bytes(whole[:-10])  # as another machine may see it over the network
    assert sender.head() is None
    segment.write_bytes(whole[:-10] + bytes(10))
    assert sender.head() is None
    assert sender.damaged_bytes == 0
    segment.write_bytes(whole)
    job.close()
    assert sender.is_abandoned()
    assert numbers(sender) == [9]
    sender.remove()


def test_a_lock_on_a_folder_that_was_removed_is_none(tmp_path: Path) -> None:
    made(tmp_path, 1).close()
    late = SpoolDir(tmp_path / "u1")
    taken(tmp_path).remove()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        late.sender_lock.acquire()


def test_a_sender_that_is_no_writer_adds_nothing(tmp_path: Path) -> None:
    made(tmp_path, 1).close()
    spool = taken(tmp_path)
    with pytest.raises(PermissionError, match="another process"):
        spool.append(parcel(2))
    spool.close()


# ── what is kept beside the batches ──────────────────────────────────────────────────────────────────────────────


def test_only_the_user_can_read_it(tmp_path: Path) -> None:
    spool = made(tmp_path / "spool", 1)
    for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    spool.close()


def test_what_is_settled_is_known_to_the_next(tmp_path: Path) -> None:
    spool = made(tmp_path, 1)
    spool.stream.run = "digits/try1-2"
    spool.settle()
    spool.stream.producer = "p2"
    spool.stream.reopening = Open(uid="u1", take_over=("epoch",))
    spool.progress = spool.progress.renumbered(0)
    spool.restart()
    spool.close()
    again = taken(tmp_path)
    assert (again.stream.asked, again.stream.run, again.stream.producer) == ("digits/try1", "digits/try1-2", "p2")
    assert again.stream.reopening == Open(uid="u1", take_over=("epoch",))
    again.close()


def test_a_survey_tells_what_waits_and_what_it_claims(tmp_path: Path) -> None:
    spool = made(tmp_path)
    for batch in (
        Batch(open=Open(uid="u1", take_over=())),
        Batch(open=Open(resume="new", take_over=("epoch",))),
        Batch(rewind=Rewind(next_steps={"global_step": 3, "eval": 0})),
    ):
        spool.append(freeze(batch))
    survey = spool.survey()
    assert (survey.batches, survey.reports, survey.nbytes) == (3, 0, spool.nbytes())
    assert survey.claims == {"epoch", "global_step", "eval"}
    for _ in range(2):
        head = spool.head()
        assert head is not None
        spool.passed(head)
    assert spool.survey().claims == {"global_step", "eval"}
    spool.close()


def test_without_a_cursor_it_begins_at_the_oldest_segment(tmp_path: Path) -> None:
    spool = made(tmp_path, 8)
    for _ in range(4):
        head = spool.head()
        assert head is not None
        spool.taken(head, Receipt(run="r", accepted=1))
    spool.close()
    (tmp_path / "u1" / CURSOR).write_bytes(b"\0" * 1024)
    again = taken(tmp_path)
    assert again.progress == Progress()
    assert again._reader.position == Position(2, 0)
    again.close()


@pytest.mark.parametrize(
    ("header", "says"),
    [(b"", "can't be read"), (b"{", "can't be read"), (b'{"uid": 3}', "can't be read"), (b"\xff\xfe", "can't be read")],
)
def test_a_header_that_is_none_is_said(tmp_path: Path, header: bytes, says: str) -> None:
    made(tmp_path, 1).close()
    (tmp_path / "u1" / HEADER).write_bytes(header)
    with pytest.raises(NoSpoolError, match=says):
        DiskSpool.take(SpoolDir(tmp_path / "u1"))
    (tmp_path / "u1" / HEADER).unlink()
    with pytest.raises(NoSpoolError, match="holds no"):
        SpoolDir(tmp_path / "u1").load()


def test_another_versions_spool_is_left_alone(tmp_path: Path) -> None:
    spool = made(tmp_path, 1)
    spool.stream.format = 2
    spool.folder.save(spool.stream)
    spool.close()
    with pytest.raises(NoSpoolError, match="another version"):
        DiskSpool.take(SpoolDir(tmp_path / "u1"))


def test_streams_are_found_in_a_spool_dir_or_by_themselves(tmp_path: Path) -> None:
    made(tmp_path, 1).close()
    (tmp_path / "not a stream").mkdir()
    (tmp_path / "a file").write_text("")
    assert [found.path for found in stream_dirs(tmp_path)] == [tmp_path / "u1"]
    assert [found.path for found in stream_dirs(tmp_path / "u1")] == [tmp_path / "u1"]
    assert list(stream_dirs(tmp_path / "absent")) == []

"""Frames and cursors: whatever a crash leaves of them, nothing wrong is ever read."""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tallyboard.outbox import frames
from tallyboard.outbox.cursor import CursorFile, Position, Progress
from tallyboard.outbox.parcel import Parcel, freeze, numbered
from tallyboard.wire import MSGPACK, Batch, Open, Receipt, Rewind, decode_batch

FIRST = Parcel(b"\x82 a body", reports=7, closes=3, opens=True)
SECOND = Parcel(b"\x81 another", reports=0, closes=0, claims=True)
DATA = b"".join([*frames.pack(FIRST), *frames.pack(SECOND)])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "segment", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def write(descriptor: int, data: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)


def read_all(descriptor: int) -> tuple[list[Parcel], str]:
    """The parcels that are whole, and what stopped the reading."""
    found: list[Parcel] = []
    offset = 0
    try:
        while (frame := frames.read(descriptor, offset)) is not None:
            found.append(frame.parcel)
            offset = frame.end
    except frames.TornFrameError:
        return found, "torn"
    except frames.DamagedFrameError:
        return found, "damaged"
    return found, "end"


def test_what_was_packed_is_read(file: int) -> None:
    write(file, DATA)
    assert read_all(file) == ([FIRST, SECOND], "end")
    assert frames.size(FIRST) + frames.size(SECOND) == len(DATA)


def test_a_file_cut_anywhere_gives_the_whole_frames_and_says_that_it_is_torn(file: int) -> None:
    first = frames.size(FIRST)
    for length in range(len(DATA)):
        write(file, DATA[:length])
        expected = [FIRST] if length >= first else []
        assert read_all(file) == (expected, "end" if length in (0, first) else "torn")


def test_no_flipped_bit_goes_unnoticed(file: int) -> None:
    first = frames.size(FIRST)
    for at in range(first):
        for bit in range(8):
            data = bytearray(DATA)
            data[at] ^= 1 << bit
            write(file, bytes(data))
            found, why = read_all(file)
            assert found == []
            assert why in ("damaged", "torn")


def test_an_outline_tells_what_waits_without_the_body(file: int) -> None:
    write(file, DATA)
    first = frames.outline(file, 0)
    assert first == frames.Outline(reports=7, claims=False, end=frames.size(FIRST))
    assert frames.outline(file, frames.size(FIRST)) == frames.Outline(reports=0, claims=True, end=len(DATA))
    assert frames.outline(file, len(DATA)) is None
    write(file, DATA[:-1])
    assert frames.outline(file, frames.size(FIRST)) is None


def test_a_parcel_knows_what_its_batch_is() -> None:
    assert freeze(Batch(open=Open(uid="u1")), closes=4) == Parcel(
        freeze(Batch(open=Open(uid="u1"))).body, closes=4, opens=True, claims=True
    )
    plain = freeze(Batch(open=Open(resume="new", config={"lr": 0.1})))
    assert (plain.opens, plain.claims) == (False, False)
    assert freeze(Batch(open=Open(take_over=()))).claims is False
    assert freeze(Batch(open=Open(resume="new", take_over=("epoch",)))).claims is True
    assert freeze(Batch(rewind=Rewind(next_steps={"epoch": 1}))).claims is True


@pytest.mark.parametrize("seq", [1, 127, 128, 70_000, 2**40])
def test_a_number_changes_nothing_else(seq: int) -> None:
    batch = Batch(partial=True, open=Open(uid="u1"), summary={"a": 1}, status="failed")
    body = numbered(freeze(batch).body, "p1", seq)
    assert body == numbered(freeze(batch).body, "p1", seq)
    decoded = decode_batch(body, MSGPACK, now=0.0)
    assert (decoded.producer, decoded.seq, decoded.partial, decoded.status) == ("p1", seq, True, "failed")
    assert (decoded.open, decoded.summary) == (batch.open, batch.summary)


def test_only_a_batch_without_a_number_gets_one() -> None:
    for body in (b"\xdf\x00\x00\x00\x01", b"\xde\x00\x00", b"\xde\xff\xff", b"\x80", b"\x8e", b"\xa1a"):
        with pytest.raises(ValueError, match="without a number"):
            numbered(body, "p1", 1)


@pytest.mark.parametrize("body", [b"\x81\xa7partial\xc3", b"\xde\x00\x01\xa7partial\xc3"])
def test_either_head_of_a_map_is_counted_up(body: bytes) -> None:
    """A spool may hold batches of a version whose messages had fewer fields, and so the short head."""
    assert msgspec.msgpack.decode(numbered(body, "p1", 7)) == {"producer": "p1", "seq": 7, "partial": True}


# ── cursor ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cursor_says_what_was_saved_last(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path / "cursor")
    assert cursor.load() is None
    for seq in range(1, 6):
        cursor.save(Position(2, 100 * seq), Progress(seq=seq, batches=seq))
    cursor.close()
    cursor.close()
    again = CursorFile(tmp_path / "cursor")
    assert again.load() == (Position(2, 500), Progress(seq=5, batches=5))
    again.save(Position(3, 0), Progress(seq=6))
    again.close()
    assert reloaded(tmp_path) == (Position(3, 0), Progress(seq=6))


def test_a_torn_update_leaves_the_one_before(tmp_path: Path) -> None:
    cursor = CursorFile(tmp_path / "cursor")
    for seq in (1, 2):
        cursor.save(Position(1, seq), Progress(seq=seq))
    before = (tmp_path / "cursor").read_bytes()
    cursor.save(Position(1, 3), Progress(seq=3), sync=True)
    cursor.close()
    after = (tmp_path / "cursor").read_bytes()
    changed = [at for at in range(len(after)) if at >= len(before) or before[at] != after[at]]
    for end in changed[1:]:  # as many bytes of the update as reached the disk
        (tmp_path / "cursor").write_bytes(after[:end] + before[end:])
        found = reloaded(tmp_path)
        assert found in ((Position(1, 2), Progress(seq=2)), (Position(1, 3), Progress(seq=3)))
        if end < changed[-1]:
            assert found == (Position(1, 2), Progress(seq=2))


def reloaded(folder: Path) -> tuple[Position, Progress] | None:
    cursor = CursorFile(folder / "cursor")
    try:
        return cursor.load()
    finally:
        cursor.close()


def test_progress_accounts_for_every_report() -> None:
    progress = Progress()
    progress = progress.taken(Parcel(b"", reports=5), Receipt(run="r", accepted=4, refused_count=1))
    progress = progress.passed(Parcel(b"", reports=3))
    assert progress == Progress(seq=1, batches=2, reports=8, accepted=4, refused=1, rejected=3)
    progress = progress.taken(Parcel(b"", reports=2), Receipt(run="r", accepted=2, replayed=True))
    progress = progress.taken(Parcel(b"", reports=6), Receipt(run="r", replayed=True))  # long ago: no counts
    assert (progress.accepted, progress.replayed, progress.balanced) == (6, 6, True)
    progress = progress.taken(Parcel(b"", reports=6), Receipt(run="r", accepted=5))
    assert not progress.balanced

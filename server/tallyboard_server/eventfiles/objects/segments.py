"""How a generation grows: the journal's new blocks become an object, recorded before it exists and once it does."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from tallyboard_server.eventfiles.encoder import encode_header
from tallyboard_server.eventfiles.objects.bucket import Bucket
from tallyboard_server.eventfiles.objects.keys import segment_name
from tallyboard_server.eventfiles.objects.runobjects import RunObjects
from tallyboard_server.eventfiles.reading import BLOCK_BYTES_GUESS, Tail, read_tail
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, Segment, Snapshot, Transaction

logger = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 1024 * 1024
"""With so many bytes of journal waiting, a segment goes out before its interval is over."""


@dataclass(slots=True)
class _Piece:
    """A tail on its way: `segment` is None if none of its rows is visible, and so nothing is written."""

    tail: Tail[RunObjects]
    segment: Segment | None
    data: bytes
    error: BaseException | None = None


class Segments:
    """Publishes the tails of runs. Nothing is ever unsynced: what is published stays."""

    def __init__(self, tools: Tools, bucket: Bucket, troubles: Troubles, *, bytes_at_once: float) -> None:
        """bytes_at_once: see Growth."""
        self._tools = tools
        self._bucket = bucket
        self._troubles = troubles
        self.next_sync_at = float("inf")
        self.bytes_total = 0
        self.syncs_total = 0
        self.sync_seconds_total = 0.0
        self.mean_block_bytes = BLOCK_BYTES_GUESS
        self.bytes_at_once = bytes_at_once

    @property
    def unsynced(self) -> int:
        """See Growth.unsynced."""
        return 0

    def read(self, view: Snapshot, files: RunObjects, state: RunState, names: TagNames) -> Tail[RunObjects] | None:
        """See Growth.read. A segment that was recorded and perhaps written is the same again."""
        pending = files.pending
        return read_tail(view, files, state, names, last_pos=None if pending is None else pending.last_pos)

    def write(
        self, tails: list[Tail[RunObjects]], rest: Callable[[], None]
    ) -> Iterator[tuple[Tail[RunObjects], bool | None]]:
        """See Growth.write. All together: one transaction before, one after, and the objects at the same time."""
        pieces: list[_Piece] = []
        for tail in tails:
            with self._troubles.kept_to(tail.files.run_id, tail.files.name) as attempt:
                pieces.append(self._piece(tail))
            if attempt.failed:
                yield tail, None
            rest()
        self._record_begun(pieces)
        self._put(pieces)
        self._record_published([piece for piece in pieces if piece.error is None])
        for piece in pieces:
            yield piece.tail, self._outcome(piece)

    def sync(self) -> list[RunObjects]:
        """See Growth.sync."""
        return []

    def forget(self, files: RunObjects) -> None:
        """See Growth.forget."""

    def _piece(self, tail: Tail[RunObjects]) -> _Piece:
        files = tail.files
        live = _live(files)
        data = tail.encode(self._tools.encoder)
        if files.pending is None and not data:
            return _Piece(tail, None, b"")
        segment = files.pending or Segment(
            run_id=files.run_id,
            generation=live.number,
            number=files.segments + 1,
            first_pos=files.written_pos + 1,
            last_pos=tail.blocks[-1].pos,
            nbytes=0,
            published=False,
            changed_at=self._tools.wall(),
        )
        return _Piece(tail, segment, segment_header(live) + data)

    def _record_begun(self, pieces: list[_Piece]) -> None:
        new = [(p.tail.files, p.segment) for p in pieces if p.segment is not None and p.tail.files.pending is None]
        if not new:
            return

        def work(transaction: Transaction) -> None:
            for _, segment in new:
                transaction.save_segment(segment)

        self._tools.record(work)  # should it fail: nothing was written yet, so the range may be another one
        for files, segment in new:
            files.pending = segment

    def _put(self, pieces: list[_Piece]) -> None:
        written = [piece for piece in pieces if piece.segment is not None]
        errors = self._bucket.each([partial(self._put_one, piece) for piece in written])
        for piece, error in zip(written, errors, strict=True):
            piece.error = error

    def _put_one(self, piece: _Piece) -> None:
        files, segment = piece.tail.files, piece.segment
        if segment is None:
            raise ValueError("there is nothing to write")
        live = _live(files)
        if not files.checked:
            if (found := self._bucket.size(files.object(live, 0))) != files.opening_bytes:
                files.damage = f"its first object {'is missing' if found is None else f'has {found} bytes'}"
                return
            files.checked = True
        self._bucket.put(f"{files.key}/{segment_name(live.file_name, segment.number)}", piece.data)

    def _record_published(self, pieces: list[_Piece]) -> None:
        done = [piece for piece in pieces if piece.tail.files.damage is None]
        if not done:
            return
        generations = {piece.tail.files.run_id: self._grown(piece) for piece in done}
        now = self._tools.wall()

        def work(transaction: Transaction) -> None:
            for piece in done:
                if piece.segment is not None:
                    size = len(piece.data)
                    transaction.save_segment(replace(piece.segment, nbytes=size, published=True, changed_at=now))
                transaction.save_generation(generations[piece.tail.files.run_id])

        self._tools.record(work)
        self.syncs_total += 1
        for piece in done:
            self._advance(piece, generations[piece.tail.files.run_id])

    def _grown(self, piece: _Piece) -> Generation:
        live = _live(piece.tail.files)
        records = max(0, len(piece.data) - header_bytes(live))
        return replace(live, exported_pos=piece.tail.blocks[-1].pos, length=live.length + records)

    def _advance(self, piece: _Piece, live: Generation) -> None:
        files = piece.tail.files
        files.live = live
        files.written_pos, files.written_length = live.exported_pos, live.length
        files.pending = None
        if piece.segment is not None:
            files.segments = piece.segment.number
            files.segment_bytes += len(piece.data)
        self.bytes_total += len(piece.data)
        self.mean_block_bytes = piece.tail.mean_block_bytes(self.mean_block_bytes)

    def _outcome(self, piece: _Piece) -> bool | None:
        files = piece.tail.files
        if piece.error is not None:
            self._troubles.note(files.run_id, files.name, piece.error)
            return None
        return files.damage is None


def segment_header(generation: Generation) -> bytes:
    """What every segment but the opening begins with, besides its records: any event file begins so. No session
    start: that would take back what came before it."""
    return encode_header(float(generation.seconds))


def header_bytes(generation: Generation) -> int:
    """Its length, which a generation's length leaves out."""
    return len(segment_header(generation))


def _live(files: RunObjects) -> Generation:
    if files.live is None:
        raise ValueError(f"run {files.name} has no live generation")
    return files.live

"""The opening of an event file: everything visible of a run at one journal position, read in short, bounded slices.

What is visible at that position never changes underneath: blocks are immutable, later ones have later positions
(a merged block has the position of its first source, and nothing beyond this position is merged while the file is
being built), and what a later rewind hides stays in the store.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from tallyboard_server.eventfiles.blobpages import BlobStretches
from tallyboard_server.eventfiles.encoder import (
    Encoder,
    encode_eraser,
    encode_placeholders,
    encode_session_start,
    file_head,
)
from tallyboard_server.eventfiles.ordering import Rows, encode_pieces, rows_of
from tallyboard_server.eventfiles.summaries import Series, encode_empty, encode_erasers, encode_vacant, series_of
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.model import RunState, Tag
from tallyboard_server.store.paging import read_page, visible_stretches
from tallyboard_server.store.protocol import Snapshot

SLICE_BYTES: Final = 4 * 1024 * 1024
"""Columns read in one slice."""
_TAGS_PER_RECORD: Final = 1_000
_SERIES_PER_RECORD: Final = 64
"""Each with its metadata, which may be 64 KiB."""

_T = TypeVar("_T")


class Opening:
    """Reads and encodes what was visible of a run in a given state."""

    def __init__(
        self, encoder: Encoder, state: RunState, names: TagNames, *, seconds: int, has_predecessor: bool
    ) -> None:
        """seconds: the file's header time. has_predecessor: readers may hold points from earlier files."""
        self._encoder = encoder
        self._state = state
        self._names = names
        self._seconds = seconds
        self._has_predecessor = has_predecessor
        scalars = {tag.counter_id for tag in state.tags.values() if tag.is_scalar}
        self._left = deque(
            stretch for c in state.counters.values() if c.id in scalars for stretch in visible_stretches(state.id, c)
        )
        self._blobs = BlobStretches(state)

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return not self._left and self._blobs.done

    def head(self) -> bytes:
        """The records before the points: header, START, and what makes running readers forget earlier files.

        START does that in the Python reader. The Rust reader has no such thing: each tag's points go when a record
        at a lower step comes, so an eraser at step 0 goes first. It makes a tag known to the Python reader, which
        answers with an error for tags that it knows and has no point of: tags without a visible point get a
        placeholder there that another START takes away. A few kinds must keep a point (encode_vacant).
        """
        wall_time = float(self._seconds)
        head = file_head(self._seconds)
        if not self._has_predecessor:
            return head
        counters = {counter.id: counter for counter in self._state.counters.values()}
        bound = [tag for tag in self._state.tags.values() if tag.counter_id]
        empty = [tag for tag in bound if not tag.is_bound(counters[tag.counter_id])]
        if empty:
            head += _each(empty, partial(encode_placeholders, wall_time), partial(encode_empty, wall_time))
            head += encode_session_start(wall_time)
        head += _each(bound, partial(encode_eraser, wall_time), partial(encode_erasers, wall_time))
        return head + encode_vacant(wall_time, (series_of(tag) for tag in empty if not tag.is_scalar))

    def read(self, view: Snapshot, is_over: Callable[[], bool]) -> list[list[Rows]]:
        """The next slice, as pieces by attempt: until is_over(), about SLICE_BYTES, or everything is read."""
        slices: list[list[Rows]] = []
        size = 0
        while self._left and size < SLICE_BYTES and not (slices and is_over()):
            pieces = self._read_stretch(view, SLICE_BYTES - size, is_over)
            size += sum(rows.nbytes for rows in pieces)
            slices.append(pieces)
        while not self._left and not self._blobs.done and size < SLICE_BYTES and not (slices and is_over()):
            rows = self._blobs.read(view, self._names, SLICE_BYTES - size)
            size += rows.nbytes
            slices.append([rows] if len(rows) else [])
        return slices

    def encode(self, slices: list[list[Rows]]) -> bytes:
        """The records of a slice."""
        return b"".join(data for pieces in slices for data in encode_pieces(self._encoder, pieces))

    def _read_stretch(self, view: Snapshot, bytes_max: int, is_over: Callable[[], bool]) -> list[Rows]:
        """Rows of the stretch in front, and move the stretch's beginning behind them."""
        stretch = self._left[0]
        blocks, cut = read_page(view, stretch, bytes_max=bytes_max, is_over=is_over, up_to_pos=self._state.pos)
        if cut > stretch.last:
            self._left.popleft()
        else:
            self._left[0] = replace(stretch, first=cut)
        return [rows_of(block, self._names) for block in blocks if self._names.series_of(block) is None]


def _each(tags: list[Tag], scalars: Callable[[list[str]], bytes], others: Callable[[list[Series]], bytes]) -> bytes:
    """Records for tags, some tags a record: those of scalars by their names, others by what they are."""
    names = _parts([tag.name for tag in tags if tag.is_scalar], _TAGS_PER_RECORD)
    series = _parts([series_of(tag) for tag in tags if not tag.is_scalar], _SERIES_PER_RECORD)
    return b"".join([*map(scalars, names), *map(others, series)])


def _parts(items: list[_T], count: int) -> Iterator[list[_T]]:
    return (items[i : i + count] for i in range(0, len(items), count))

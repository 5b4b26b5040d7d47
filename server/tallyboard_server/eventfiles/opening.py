"""The opening of an event file: everything visible of a run at one journal position, read in short, bounded slices.

What is visible at that position never changes underneath: blocks are immutable, later ones have later positions
(a merged block has the position of its first source, and nothing beyond this position is merged while the file is
being built), and what a later rewind hides stays in the store.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from tallyboard_server.eventfiles.encoder import (
    Encoder,
    encode_eraser,
    encode_header,
    encode_placeholders,
    encode_session_start,
)
from tallyboard_server.eventfiles.ordering import Rows, TagNames, encode_pieces
from tallyboard_server.model import RunState
from tallyboard_server.store.paging import Stretch, read_page
from tallyboard_server.store.protocol import Snapshot

SLICE_BYTES: Final = 4 * 1024 * 1024
"""Columns read in one slice."""
_TAGS_PER_RECORD: Final = 1_000


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
        self._left = deque(
            Stretch(state.id, counter.id, attempt.number, attempt.start, attempt.last_visible)
            for counter in state.counters.values()
            for attempt in counter.attempts
            if attempt.last_visible is not None
        )

    @property
    def done(self) -> bool:
        """Whether everything has been read."""
        return not self._left

    def head(self) -> bytes:
        """The records before the points: header, START, and what makes running readers forget earlier files.

        START does that in the Python reader. The Rust reader has no such thing: each tag's points go when a record
        at a lower step comes, so an eraser at step 0 goes first. It makes a tag known to the Python reader, which
        answers with an error for tags that it knows and has no point of: tags without a visible point get a
        placeholder there that another START takes away.
        """
        wall_time = float(self._seconds)
        head = file_head(self._seconds)
        if not self._has_predecessor:
            return head
        counters = {counter.id: counter for counter in self._state.counters.values()}
        bound = [tag for tag in self._state.tags.values() if tag.counter_id]
        empty = [tag.name for tag in bound if not tag.is_bound(counters[tag.counter_id])]
        if empty:
            head += b"".join(encode_placeholders(wall_time, part) for part in _parts(empty))
            head += encode_session_start(wall_time)
        return head + b"".join(encode_eraser(wall_time, part) for part in _parts([tag.name for tag in bound]))

    def read(self, view: Snapshot, is_over: Callable[[], bool]) -> list[list[Rows]]:
        """The next slice, as pieces by attempt: until is_over(), about SLICE_BYTES, or everything is read."""
        slices: list[list[Rows]] = []
        size = 0
        while self._left and size < SLICE_BYTES and not (slices and is_over()):
            pieces = self._read_stretch(view, SLICE_BYTES - size, is_over)
            size += sum(rows.nbytes for rows in pieces)
            slices.append(pieces)
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
        return [Rows(self._names.of(block), block.steps, block.wall_times, block.values) for block in blocks]


def file_head(seconds: int) -> bytes:
    """The records that every event file of ours begins with; `seconds` is the time in its name."""
    return encode_header(float(seconds)) + encode_session_start(float(seconds))


def _parts(names: list[str]) -> Iterator[list[str]]:
    return (names[i : i + _TAGS_PER_RECORD] for i in range(0, len(names), _TAGS_PER_RECORD))

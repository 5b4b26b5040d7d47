"""The next piece of a run's journal, with all that is needed to turn it into records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from tallyboard_server.eventfiles.encoder import Encoder
from tallyboard_server.eventfiles.ordering import Blobs, Limits, encode_blocks, keys_of
from tallyboard_server.eventfiles.runfiles import RunFiles
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.model import Block, RunState
from tallyboard_server.store.protocol import NO_BLOBS, Snapshot

READ_BYTES: Final = 4 * 1024 * 1024
"""Journal read of one run at a time; more only if one batch is longer."""
BLOCK_BYTES_GUESS: Final = 4096.0
_FEWER: Final = 8
"""A tail of large blobs is read again with so many times fewer bytes of columns, until it is small enough."""
_MEAN_WEIGHT: Final = 0.05

_F = TypeVar("_F", bound=RunFiles)


@dataclass(slots=True, frozen=True)
class Tail(Generic[_F]):
    """What to write next for a run: blocks, the blobs they stand for, and the journal's end (position, epoch) when they
    were read."""

    files: _F
    blocks: list[Block]
    names: TagNames
    limits: Limits
    end: tuple[int, int]
    blobs: Blobs

    @property
    def nbytes(self) -> int:
        """Bytes of the columns and blobs."""
        return sum(block.nbytes for block in self.blocks) + sum(len(blob.data) for blob in self.blobs.values())

    def encode(self, encoder: Encoder) -> bytes:
        """Its records."""
        return encode_blocks(encoder, self.blocks, self.names, self.limits, self.blobs)

    def mean_block_bytes(self, so_far: float) -> float:
        """A running mean of the bytes of a block, this tail's included."""
        weight = 1.0 - (1.0 - _MEAN_WEIGHT) ** len(self.blocks)
        return so_far + (self.nbytes / len(self.blocks) - so_far) * weight


def read_tail(
    view: Snapshot, files: _F, state: RunState, names: TagNames, *, last_pos: int | None = None
) -> Tail[_F] | None:
    """The next blocks for a live generation that is behind, about READ_BYTES with their blobs, or one batch.

    last_pos: read exactly up to there instead. None if the journal no longer holds them.
    """
    blocks, blobs = _next(view, files, names) if last_pos is None else _up_to(view, files, names, last_pos)
    if not blocks or blocks[0].pos != files.written_pos + 1:
        return None
    touched = {block.counter_id for block in blocks}
    limits = {
        (counter.id, number): limit
        for counter in state.counters.values()
        if counter.id in touched
        for number, limit in counter.limits().items()
    }
    return Tail(files, blocks, names, limits, (state.pos, state.epoch), blobs)


def _next(view: Snapshot, files: RunFiles, names: TagNames) -> tuple[list[Block], Blobs]:
    """The next blocks of a run and their blobs, together about READ_BYTES, or one batch."""
    bytes_max = READ_BYTES
    while True:
        blocks = view.journal(files.run_id, after_pos=files.written_pos, bytes_max=bytes_max)
        keys = keys_of(blocks, names)
        if not keys:
            return blocks, NO_BLOBS
        sizes = view.blob_sizes(files.run_id, keys)
        if bytes_max == 1 or sum(sizes.get(key, 0) for key in keys) <= READ_BYTES:
            return blocks, view.blobs(files.run_id, list(sizes))
        bytes_max = max(1, bytes_max // _FEWER)


def _up_to(view: Snapshot, files: RunFiles, names: TagNames, last_pos: int) -> tuple[list[Block], Blobs]:
    """The blocks up to a position at which an earlier read ended."""
    found: list[Block] = []
    after = files.written_pos
    while after < last_pos:
        blocks = [b for b in view.journal(files.run_id, after_pos=after, bytes_max=READ_BYTES) if b.pos <= last_pos]
        if not blocks:
            return [], NO_BLOBS
        found += blocks
        after = blocks[-1].pos
    keys: Sequence[float] = keys_of(found, names)
    return found, view.blobs(files.run_id, list(view.blob_sizes(files.run_id, keys))) if keys else NO_BLOBS

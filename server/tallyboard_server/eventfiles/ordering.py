"""From journal blocks to the bytes of an event file: clipped to what is visible, merged by step where they overlap.

The Rust reader deletes what it kept of a tag at or beyond each new step of it, so a file must hold each tag's points
in ascending order. Blocks of one batch may overlap in steps or come in any order: their records are interleaved,
in a stable order of steps. Steps never decrease from batch to batch of an attempt, so the same journal gives the same
bytes, wherever calls begin and end, as long as that is between batches.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np

from tallyboard.wire import Blob, Float64, Int64
from tallyboard_server.eventfiles.encoder import Data, Encoder
from tallyboard_server.eventfiles.summaries import Series, encode_points
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.model import Block
from tallyboard_server.store.protocol import NO_BLOBS

Limits = Mapping[tuple[int, int], int | None]
"""(counter id, attempt) → the least step that later attempts hide; None: visible whole."""

Blobs = Mapping[float, Blob]
"""By their keys."""


@dataclass(slots=True, frozen=True)
class Rows:
    """Reports of the same tags, ready to be encoded: steps int64[n], wall_times float64[n], values float64[n, k].

    Of a tag that is no scalar there are `blobs` in the place of values, and `series` says what it is.
    """

    tags: tuple[str, ...]
    steps: Int64
    wall_times: Float64
    values: Float64
    series: Series | None = None
    blobs: tuple[bytes, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def nbytes(self) -> int:
        """Bytes of its columns."""
        columns = self.steps.nbytes + self.wall_times.nbytes + self.values.nbytes
        return columns + sum(map(len, self.blobs))


def attempt_of(block: Block) -> tuple[int, int]:
    """(counter id, attempt)."""
    return block.counter_id, block.attempt


def overlapping(pieces: Sequence[Rows]) -> Iterator[Sequence[Rows]]:
    """Neighbours whose steps overlap, together; every other piece alone. In order; none may be empty.

    A cut between two pieces is one that no step crosses: all before it are ≤ all after it.
    """
    least_after = [*accumulate((int(p.steps[0]) for p in reversed(pieces)), min)][::-1]
    begin = 0
    largest = 0
    for end, piece in enumerate(pieces, start=1):
        largest = max(largest, int(piece.steps[-1]))
        if end == len(pieces) or largest <= least_after[end]:
            yield pieces[begin:end]
            begin = end


def keys_of(blocks: Sequence[Block], names: TagNames) -> list[float]:
    """The keys of the blobs that blocks stand for, each as often as it occurs."""
    return [key for block in blocks if names.series_of(block) is not None for key in block.values[:, 0].tolist()]


def encode_blocks(
    encoder: Encoder, blocks: Sequence[Block], names: TagNames, limits: Limits, blobs: Blobs = NO_BLOBS
) -> bytes:
    """The records of all visible rows of whole batches of journal blocks; `blobs` by their keys."""
    encoded: list[Data] = []
    for _, stretch in groupby(blocks, attempt_of):
        encoded += encode_pieces(encoder, [rows for block in stretch if len(rows := clip(block, names, limits, blobs))])
    return b"".join(encoded)


def encode_pieces(encoder: Encoder, pieces: Sequence[Rows]) -> list[Data]:
    """The records of one attempt's pieces, ascending by step; at equal steps the earlier piece comes first."""
    encoded: list[Data] = []
    singles: list[Rows] = []
    for group in overlapping(pieces):
        if len(group) == 1:
            singles.append(group[0])
        else:
            encoded += _encode_in_turn(encoder, singles)
            encoded += _encode_merged(encoder, group)
            singles = []
    encoded += _encode_in_turn(encoder, singles)
    return encoded


def clip(block: Block, names: TagNames, limits: Limits, blobs: Blobs = NO_BLOBS) -> Rows:
    """The visible rows of a block, which are its first ones. KeyError if the run has no such attempt."""
    limit = limits[attempt_of(block)]
    end = len(block.steps)
    if limit is not None and block.steps[-1] >= limit:
        end = int(np.searchsorted(block.steps, limit, side="left"))
    return rows_of(block.take(slice(0, end)), names, blobs)


def rows_of(block: Block, names: TagNames, blobs: Blobs = NO_BLOBS) -> Rows:
    """A block's rows. LookupError if a blob is not among `blobs`."""
    series = names.series_of(block)
    if series is None:
        return Rows(names.of(block), block.steps, block.wall_times, block.values)
    missing = next((key for key in block.values[:, 0].tolist() if key not in blobs), None)
    if missing is not None:
        raise LookupError(f"a value of tag {series.tag!r} is gone from the store (key {missing!r}); verify the run")
    data = tuple(blobs[key].data for key in block.values[:, 0].tolist())
    return Rows(names.of(block), block.steps, block.wall_times, block.values, series, data)


def _encode_merged(encoder: Encoder, pieces: Sequence[Rows]) -> Iterator[Data]:
    """The records of each piece, interleaved by step."""
    encoded, lengths = [], []
    for p in pieces:
        if p.series is None:
            encoded.append(encoder.encode_reports(p.tags, p.steps, p.wall_times, p.values))
            lengths.append(encoder.record_sizes(p.tags, p.steps))
        else:
            records = encode_points(p.series, p.steps, p.wall_times, p.blobs)
            encoded.append(b"".join(records))
            lengths.append(np.array([len(record) for record in records], np.int64))
    data, sizes = b"".join(encoded), np.concatenate(lengths)
    ends = np.cumsum(sizes)
    order = np.argsort(np.concatenate([p.steps for p in pieces]), kind="stable")
    # Neighbours that stay neighbours move as one slice.
    cuts = np.flatnonzero(np.diff(order) != 1) + 1
    firsts = order[np.concatenate(([0], cuts))]
    lasts = order[np.concatenate((cuts, [len(order)])) - 1]
    view = memoryview(data)
    starts = (ends - sizes)[firsts].tolist()
    return (view[start:end] for start, end in zip(starts, ends[lasts].tolist(), strict=True))


def _encode_in_turn(encoder: Encoder, pieces: Sequence[Rows]) -> Iterator[Data]:
    """One call for each stretch of pieces with the same tags: many small blocks cost little more than one."""
    for tags, stretch in groupby(pieces, lambda rows: rows.tags):
        rows = list(stretch)
        if (series := rows[0].series) is not None:
            for piece in rows:
                yield from encode_points(series, piece.steps, piece.wall_times, piece.blobs)
        elif len(rows) == 1:
            yield from encoder.encode(tags, rows[0].steps, rows[0].wall_times, rows[0].values)
        else:
            yield from encoder.encode(
                tags,
                np.concatenate([r.steps for r in rows]),
                np.concatenate([r.wall_times for r in rows]),
                np.concatenate([r.values for r in rows]),
            )

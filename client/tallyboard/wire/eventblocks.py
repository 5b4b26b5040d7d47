"""Blocks of points that are no scalars: from the message to checked columns, and back."""

from collections.abc import Iterator, Sequence

import numpy as np

from tallyboard.wire import names, summaries
from tallyboard.wire.checks import InvalidBatchError, at_columns, check_columns, float_column, int_column, named, view
from tallyboard.wire.columns import Columns
from tallyboard.wire.messages import EventBlock
from tallyboard.wire.protos import MalformedError


def from_event_blocks(blocks: Sequence[EventBlock], now: float, first_block: int) -> Iterator[Columns]:
    """The columns of each block; as blocks of the request they count on from `first_block`.

    Raises InvalidBatchError. What is inside the values is not looked at.
    """
    for index, block in enumerate(blocks):
        path = f"$.events[{index}]"
        named(f"{path}.tag", names.check_tag, block.tag)
        named(f"{path}.counter", names.check_counter_of, block.counter, (block.tag,))
        steps = int_column(block.steps, f"{path}.steps")
        if len(steps) == 0 or len(block.values) != len(steps):
            raise InvalidBatchError(f"{path}.values", f"{len(block.values)} values for {len(steps)} steps")
        if block.wall_times is None:
            wall_times = np.full(len(steps), now)
        else:
            wall_times = float_column(block.wall_times, f"{path}.wall_times")
        blobs = tuple(summaries.blob_of(value) for value in block.values)
        columns = Columns(
            block.counter,
            (block.tag,),
            steps,
            wall_times,
            summaries.keys_of(blobs),
            at_columns(block.at, path),
            block=first_block + index,
            kind=_kind(block, path),
            metadata=block.metadata,
            blobs=blobs,
        )
        check_columns(columns, path)
        yield columns


def to_event_block(columns: Columns) -> EventBlock:
    """The block that from_event_blocks makes such columns of."""
    return EventBlock(
        counter=columns.counter,
        tag=columns.tags[0],
        steps=view(columns.steps, "<i8"),
        values=[blob.data for blob in columns.blobs],
        metadata=columns.metadata,
        wall_times=view(columns.wall_times, "<f8"),
        at={name: view(column, "<i8") for name, column in columns.at.items()},
    )


def _kind(block: EventBlock, path: str) -> str:
    """The kind of a block's tag, which all its values must have."""
    try:
        metadata = summaries.read_metadata(block.metadata)
    except MalformedError as error:
        raise InvalidBatchError(f"{path}.metadata", str(error)) from error
    if metadata.is_scalar:
        raise InvalidBatchError(f"{path}.metadata", "the tag is a scalar; its values go into blocks")
    kind = ""
    for row, blob in enumerate(block.values):
        try:
            own = summaries.kind_of(metadata, summaries.blob_field(blob))
        except MalformedError as error:
            raise InvalidBatchError(f"{path}.values[{row}]", str(error)) from error
        if kind and own != kind:
            raise InvalidBatchError(f"{path}.values[{row}]", f"{own} in a block of {kind}; send two blocks")
        kind = own
    return kind

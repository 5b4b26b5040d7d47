"""The short way of a counter's reports that nothing can be said against: what nearly every batch is.

It must decide exactly as the long way (screening, judge, landing) would; it only never looks at single rows. That the
two are equal is held by tests/property/test_contract_history.py: `test_long_histories_agree_with_the_model` sends every
batch both ways, and compares them with each other and with a model that knows of neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tallyboard.wire import Columns
from tallyboard_server.checksum import grown
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.screening import held_attempt
from tallyboard_server.contract.segments import Segment
from tallyboard_server.model import Attempt, Block, Counter, Int32, Tag


def land_whole(draft: Draft, name: str, segments: Sequence[Segment], writer: str) -> bool:
    """Store one counter's segments whole, or return False, having changed nothing, if they must be judged.

    They need no judgement if the writer holds the current attempt, each is a request block of its own with
    strictly increasing steps above the last one, and no tag is in two of them, new, or not bound here.
    Raises LimitError if the run is full of blocks.
    """
    counter = draft.counters.get(name)
    attempt = held_attempt(counter, writer)
    if counter is None or attempt is None or attempt is not counter.attempts[-1]:
        return False
    if len(segments) > 1 and not _are_apart(segments):
        return False
    tag_ids: list[Int32] = []
    for segment in segments:
        if not _is_above(segment, attempt) or not all(at in draft.counters for at in segment.columns.at):
            return False
        ids = _bound_ids(draft.tags, segment.columns, counter)
        if ids is None:
            return False
        tag_ids.append(ids)
    blocks = [_stored(draft, segment, counter, attempt, ids) for segment, ids in zip(segments, tag_ids, strict=True)]
    moved = _moved(attempt, segments, tag_ids, blocks)
    draft.put_counter(replace(counter, attempts=(*counter.attempts[:-1], moved)))
    return True


def _are_apart(segments: Sequence[Segment]) -> bool:
    """Whether no two segments share a tag or a request block, so that no order among them matters."""
    blocks = {segment.columns.block for segment in segments}
    tags = {tag for segment in segments for tag in segment.columns.tags}
    return len(blocks) == len(segments) and len(tags) == sum(len(s.columns.tags) for s in segments)


def _is_above(segment: Segment, attempt: Attempt) -> bool:
    steps = segment.columns.steps
    if attempt.last_step is None:
        if steps[0] < attempt.start:
            return False
    elif steps[0] <= attempt.last_step:
        return False
    return len(steps) == 1 or bool((steps[1:] > steps[:-1]).all())


def _bound_ids(tags: Mapping[str, Tag], columns: Columns, counter: Counter) -> Int32 | None:
    """The ids of tags that are all bound to a counter and of the kind reported; None if one of them is not."""
    ids: list[int] = []
    attempts = len(counter.attempts)
    cuts: Mapping[int, int | None] | None = None
    kind = columns.kind
    for name in columns.tags:
        tag = tags.get(name)
        if tag is None or tag.counter_id != counter.id or tag.kind != kind:
            return None
        if tag.attempts_then != attempts:  # what Tag.is_bound says, with the cuts found once for all tags
            cuts = cuts or counter.limits()
            cut = cuts[tag.attempts_then]
            if cut is not None and tag.first_step >= cut:
                return None
        ids.append(tag.id)
    return np.array(ids, np.int32)


def _stored(draft: Draft, segment: Segment, counter: Counter, attempt: Attempt, tag_ids: Int32) -> Block:
    columns = segment.columns
    segment.attempt, segment.stored = attempt.number, columns.values.size
    block = Block(
        draft.next_pos(),
        counter.id,
        attempt.number,
        tag_ids,
        columns.steps,
        columns.wall_times,
        columns.values,
        {draft.counters[name].id: column for name, column in columns.at.items()},
    )
    draft.blocks.append(block)
    return block


def _moved(attempt: Attempt, segments: Sequence[Segment], tag_ids: Sequence[Int32], blocks: Sequence[Block]) -> Attempt:
    """The attempt with the segments at its end; the tail is a copy, which keeps no request body alive."""
    ends = [int(segment.columns.steps[-1]) for segment in segments]
    last_step = max(ends)
    tail = [index for index, end in enumerate(ends) if end == last_step]
    values = [segments[index].columns.values[-1] for index in tail]
    return replace(
        attempt,
        last_step=last_step,
        last_visible=last_step,
        tail_tags=tag_ids[tail[0]] if len(tail) == 1 else np.concatenate([tag_ids[i] for i in tail]),
        tail_values=values[0].copy() if len(tail) == 1 else np.concatenate(values),
        reports=attempt.reports + sum(len(segment.columns) for segment in segments),
        scalars=attempt.scalars + sum(segment.stored for segment in segments),
        unmoved=0,
        checksum=grown(attempt.checksum, blocks),
    )

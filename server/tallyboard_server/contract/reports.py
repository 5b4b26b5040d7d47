"""The reports of a batch, counter by counter: screened, judged, landed; a short way for the usual case."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from tallyboard.wire import Columns
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.judge import judge
from tallyboard_server.contract.landing import Landing
from tallyboard_server.contract.rewind import new_attempt
from tallyboard_server.contract.screening import held_attempt, screen
from tallyboard_server.contract.segments import Segment
from tallyboard_server.model import Attempt, Block, Counter, Int32, Tag


def apply_reports(draft: Draft, columns: Sequence[Columns], writer: str, now: float) -> list[Segment]:
    """Apply a batch's reports, counters in order of first appearance; returns verdicts in request order."""
    segments = [Segment(stretch) for stretch in columns]
    by_counter: dict[str, list[Segment]] = {}
    for segment in segments:
        by_counter.setdefault(segment.columns.counter, []).append(segment)
    for name, mine in by_counter.items():
        if len(mine) > 1 or not _land_whole(draft, mine[0], writer):
            _apply_counter(draft, name, mine, writer, now)
    return segments


def _land_whole(draft: Draft, segment: Segment, writer: str) -> bool:
    """Store a segment that nothing can be said against, or return False if it must be judged.

    That is: a counter's only one in the batch, its steps above the last one and strictly increasing, of tags that
    are all bound to this counter, to an attempt that no later one supersedes. What nearly every batch is.
    """
    columns = segment.columns
    counter = draft.counters.get(columns.counter)
    if counter is None or (attempt := held_attempt(counter, writer)) is None:
        return False
    steps = columns.steps
    least = attempt.start if attempt.last_step is None else attempt.last_step + 1
    if attempt is not counter.attempts[-1] or steps[0] < least:
        return False
    if len(steps) > 1 and not (steps[1:] > steps[:-1]).all():
        return False
    tag_ids = _bound_ids(draft.tags, columns.tags, counter)
    if tag_ids is None or not all(name in draft.counters for name in columns.at):
        return False
    _store_whole(draft, segment, counter, attempt, tag_ids)
    return True


def _bound_ids(tags: Mapping[str, Tag], names: Sequence[str], counter: Counter) -> Int32 | None:
    """The ids of tags that are all bound to a counter; None if one of them is not."""
    ids: list[int] = []
    attempts = len(counter.attempts)
    for name in names:
        tag = tags.get(name)
        if tag is None or tag.counter_id != counter.id:
            return None
        if tag.attempts_then != attempts and not tag.is_bound(counter):
            return None
        ids.append(tag.id)
    return np.array(ids, np.int32)


def _store_whole(draft: Draft, segment: Segment, counter: Counter, attempt: Attempt, tag_ids: Int32) -> None:
    columns = segment.columns
    segment.attempt, segment.stored = attempt.number, columns.values.size
    draft.pos += 1
    draft.blocks.append(
        Block(
            draft.pos,
            counter.id,
            attempt.number,
            tag_ids,
            columns.steps,
            columns.wall_times,
            columns.values,
            {draft.counters[name].id: column for name, column in columns.at.items()},
        )
    )
    last_step = int(columns.steps[-1])
    moved = replace(
        attempt,
        last_step=last_step,
        last_visible=last_step,
        tail_tags=tag_ids,
        tail_values=columns.values[-1].copy(),
        reports=attempt.reports + len(columns),
        scalars=attempt.scalars + segment.stored,
        refused_in_a_row=0,
    )
    draft.put_counter(replace(counter, attempts=(*counter.attempts[:-1], moved)))


def _apply_counter(draft: Draft, name: str, segments: Sequence[Segment], writer: str, now: float) -> None:
    attempt = screen(draft, name, segments, writer, now)
    passed = [segment for segment in segments if segment.whole is None]
    if not passed:
        return
    counter = draft.counters.get(name)
    target = attempt or new_attempt(1, writer, 0)
    refused_in_a_row = judge(passed, target, draft.tags)
    if any(segment.accepted for segment in passed):
        if counter is None or attempt is None:
            counter = _first_attempt(draft, name, target)
        Landing(draft, counter, target).land(passed, refused_in_a_row)
    elif counter is not None and attempt is not None and refused_in_a_row != attempt.refused_in_a_row:
        hinted = Landing(draft, counter, attempt)
        hinted.land([], refused_in_a_row)


def _first_attempt(draft: Draft, name: str, attempt: Attempt) -> Counter:
    known = draft.add_counter(name)
    counter = Counter(known.id, name, known.total, (attempt,))
    draft.put_counter(counter)
    return counter

"""What accepted reports do to a run: journal blocks, the attempt's new end, tags bound to their counter."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from tallyboard.wire import Columns, Float64, Int64
from tallyboard_server.checksum import grown
from tallyboard_server.contract import texts
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.segments import Segment
from tallyboard_server.model import Attempt, Block, Counter, Int32, Tag


class Landing:
    """Accepted reports of one attempt on their way into the draft; used once."""

    def __init__(self, draft: Draft, counter: Counter, attempt: Attempt) -> None:
        self.draft = draft
        self.counter = counter
        self.attempt = attempt
        self.limit = counter.limit(attempt.number)
        self.is_late = attempt.number < len(counter.attempts)
        self.last_step = attempt.last_step
        self.last_visible = attempt.last_visible
        self.reports = 0
        self.scalars = 0
        self.blocks: list[Block] = []
        self.shown = False
        """Whether a point was stored that is visible."""
        self.beyond = 0
        """Reports stored that are hidden from the start."""

    def land(self, segments: Sequence[Segment], unmoved: int) -> None:
        """Store the accepted rows of the segments, in request order, and move the attempt's end."""
        rows = [segment.accepted_rows() for segment in segments]
        for segment, accepted in zip(segments, rows, strict=True):
            if len(accepted):
                self._land_segment(segment, accepted)
        tail_tags, tail_values = self._tail(segments, rows)
        attempt = replace(
            self.attempt,
            last_step=self.last_step,
            last_visible=self.last_visible,
            tail_tags=tail_tags,
            tail_values=tail_values,
            reports=self.attempt.reports + self.reports,
            scalars=self.attempt.scalars + self.scalars,
            unmoved=unmoved,
            checksum=grown(self.attempt.checksum, self.blocks),
        )
        self.put(attempt)

    def put(self, attempt: Attempt) -> None:
        """Put the attempt in its new form into the draft, with what follows from late reports."""
        counter = self.counter
        attempts = (*counter.attempts[: attempt.number - 1], attempt, *counter.attempts[attempt.number :])
        self.draft.put_counter(Counter(counter.id, counter.name, counter.total, attempts))
        if self.is_late and self.shown:
            self.draft.epoch += 1
        if self.beyond and self.limit is not None:
            later = next(a.number for a in counter.attempts[attempt.number :] if a.start == self.limit)
            self.draft.warnings.append(texts.beyond_cut(counter.name, self.beyond, self.limit, attempt.number, later))

    def _land_segment(self, segment: Segment, accepted: Int64) -> None:
        columns, keep = segment.columns, segment.keep
        steps = columns.steps[accepted]
        self._move_on(steps)
        self.reports += len(accepted)
        if keep is None:
            segment.stored = len(accepted) * len(columns.tags)
            is_stored = None
        else:
            segment.stored = int(np.count_nonzero(keep))
            is_stored = np.logical_or.reduce(keep[accepted], axis=1)
        self.scalars += segment.stored
        if not segment.stored:
            return
        stored_steps = steps if is_stored is None else steps[is_stored]
        if self.limit is None or stored_steps[0] < self.limit:
            self.shown = True
        if self.limit is not None:
            self.beyond += int(np.count_nonzero(stored_steps >= self.limit))
        tag_ids = self._bind(segment, accepted)
        for name in columns.at:
            self.draft.add_counter(name)
        for rows, picked in _pieces(segment, accepted):
            self._emit(segment, tag_ids, rows, picked)

    def _move_on(self, steps: Int64) -> None:
        last = int(steps[-1])
        self.last_step = last if self.last_step is None else max(self.last_step, last)
        if self.limit is not None:
            below = int(np.searchsorted(steps, self.limit))
            if not below:
                return
            last = int(steps[below - 1])
        self.last_visible = last if self.last_visible is None else max(self.last_visible, last)

    def _bind(self, segment: Segment, accepted: Int64) -> Int32:
        """Ids of the segment's tags (0 where no scalar is stored), created and bound as their points show."""
        columns, keep = segment.columns, segment.keep
        steps = columns.steps[accepted]
        below = len(steps) if self.limit is None else int(np.searchsorted(steps, self.limit))
        ids = np.zeros(len(columns.tags), np.int32)
        stored = None if keep is None else keep[accepted]
        for j, name in enumerate(columns.tags):
            if stored is None:
                first = int(steps[0]) if below else None
            else:
                if not stored[:, j].any():
                    continue
                shown = np.flatnonzero(stored[:below, j])
                first = int(steps[shown[0]]) if len(shown) else None
            ids[j] = bind(self.draft, name, columns, self.counter, first)
        return ids

    def _emit(self, segment: Segment, tag_ids: Int32, rows: Int64 | slice, picked: Int64 | None) -> None:
        columns, draft = segment.columns, self.draft
        values = columns.values[rows]
        block = Block(
            draft.next_pos(),
            self.counter.id,
            self.attempt.number,
            tag_ids if picked is None else tag_ids[picked],
            columns.steps[rows],
            columns.wall_times[rows],
            values if picked is None else np.ascontiguousarray(values[:, picked]),
            {draft.counters[name].id: column[rows] for name, column in columns.at.items()},
        )
        self.blocks.append(block)
        draft.blocks.append(block)

    def _tail(self, segments: Sequence[Segment], rows: Sequence[Int64]) -> tuple[Int32, Float64]:
        """The tags stored at the last step and their values: copies, which keep no request body alive."""
        tag_ids, values = [], []
        last_step = -1 if self.last_step is None else self.last_step
        if self.last_step == self.attempt.last_step:
            tag_ids.append(self.attempt.tail_tags)
            values.append(self.attempt.tail_values)
        for segment, accepted in zip(segments, rows, strict=True):
            columns, keep = segment.columns, segment.keep
            first = int(np.searchsorted(columns.steps[accepted], last_step))
            last = accepted[first:]
            if not len(last):
                continue
            kept = np.ones((len(last), len(columns.tags)), np.bool_) if keep is None else keep[last]
            row, column = np.nonzero(kept)
            ids = [self.draft.tags[columns.tags[j]].id for j in column.tolist()]
            tag_ids.append(np.array(ids, np.int32))
            values.append(columns.values[last[row], column])
        return np.concatenate(tag_ids), np.concatenate(values)


def bind(draft: Draft, name: str, columns: Columns, counter: Counter, first_step: int | None) -> int:
    """Bind a tag to a counter by its visible point at first_step (None: it has none); returns its id.

    columns: where it was reported, which says what kind of tag it is if it is new.
    """
    tag = draft.tags.get(name)
    if tag is None:
        tag = Tag(len(draft.tags) + 1, name, kind=columns.kind, metadata=columns.metadata)
        draft.put_tag(tag)
    if first_step is None:
        return tag.id
    if tag.counter_id == counter.id and first_step >= tag.first_step and tag.is_bound(counter):
        return tag.id
    bound = replace(tag, counter_id=counter.id, first_step=first_step, attempts_then=len(counter.attempts))
    draft.put_tag(bound)
    return tag.id


def _pieces(segment: Segment, accepted: Int64) -> Iterator[tuple[Int64 | slice, Int64 | None]]:
    """The rows to store, grouped by which of their scalars are stored: (rows, columns or None for all)."""
    keep = segment.keep
    if keep is None:
        yield (accepted if len(accepted) < len(segment.columns) else slice(None)), None
        return
    whole = keep[accepted].all(axis=1)
    if whole.any():
        yield accepted[whole], None
    rest = accepted[~whole]
    rest = rest[keep[rest].any(axis=1)]
    if len(rest):
        patterns, group = np.unique(keep[rest], axis=0, return_inverse=True)
        group = group.ravel()
        ordered = rest[np.argsort(group, kind="stable")]
        ends = np.cumsum(np.bincount(group))[:-1]
        for pattern, rows in zip(patterns, np.split(ordered, ends), strict=True):
            yield rows, np.flatnonzero(pattern)

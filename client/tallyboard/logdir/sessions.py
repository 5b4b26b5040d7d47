"""Which steps going back are a restart, and what of a file becomes a batch: the rules of import and watch.

A *session* begins with each file and with each SessionLog START in it. The first report of a counter in a session that
does not lie above all that the counter has is a restart: the counter is rewound to it. A START takes back, besides,
what any counter holds from its step on. Within a session a step that goes back is put in order as far as the reading
reaches ahead; what comes later still is the service's to refuse.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tallyboard.logdir import cuts
from tallyboard.logdir.chunk import Chunk, tell
from tallyboard.logdir.mends import Mends
from tallyboard.logdir.tags import Tag, Tags
from tallyboard.wire import Blob, Columns, Int64, is_implicit, summaries


@dataclass(slots=True)
class Draft:
    """What becomes one batch, or several if a single record is too large for one.

    end: the record after the last one that it covers. next_steps: counters that are rewound before it. columns: the
    batches' blocks. config: hyperparameters found.
    """

    end: int
    next_steps: dict[str, int] = field(default_factory=dict)
    columns: list[list[Columns]] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    points: int = 0


class Session:
    """What a file has reported since its session began: the counters."""

    def __init__(self) -> None:
        self.seen: set[str] = set()


class Timeline:
    """Where the counters of a run stand, and what follows from it for what is read next."""

    def __init__(self, tags: Tags, mends: Mends) -> None:
        self.last: dict[str, int] = {}
        """The largest visible step of each counter."""
        self.sure: set[str] | None = None
        """Counters whose attempt is known not to start beyond the step after `last`; None: all are."""
        self._tags = tags
        self._mends = mends
        self._tag_last: dict[str, int] = {}

    def drafts(self, chunk: Chunk, session: Session, limit: int, where: str, *, force: bool) -> Iterator[Draft]:
        """Divide the records before `limit` into drafts, in order. where: the file, for what is told.

        What may yet be put in order with what follows `limit` is left; force: unless nothing else is there.
        All that a draft changes here is taken as done when the next one is asked for.
        """
        mixed = cuts.mixed_up(chunk, np.array(self._tags.counter_ids, np.int64))
        lo = 0
        while lo < limit:
            end = _cut(chunk, mixed, lo, limit)
            if end == limit and mixed[end] and (lo or not force):
                return
            draft = self._draft(chunk, session, lo, end)
            tell((t for t in chunk.troubles if lo <= t.record < draft.end), self._mends, where)
            lo = draft.end
            yield draft

    def replay(self, chunk: Chunk, session: Session) -> None:
        """Take in what was sent by an earlier process: which counters the session has seen."""
        if chunk.starts:
            session.seen.clear()
        first = chunk.starts[-1].record if chunk.starts else 0
        rows = chunk.rows(first, len(chunk))
        for index in np.unique(chunk.tags[rows]).tolist():
            tag = self._tags.tags[index]
            session.seen.add(tag.counter)
            own = chunk.steps[rows][chunk.tags[rows] == index]
            self._tag_last[tag.name] = int(own.max())

    def _draft(self, chunk: Chunk, session: Session, lo: int, hi: int) -> Draft:
        draft = Draft(hi)
        for start in chunk.starts:
            if start.record == lo:
                self._start(session, start.step, draft)
        for config in chunk.configs:
            if lo <= config.record < hi:
                draft.config |= config.config
        rows = chunk.rows(lo, hi)
        draft.points = rows.stop - rows.start
        by_tag = list(_columns(chunk, rows, self._tags.tags, self._mends))
        self._restart(session, by_tag, draft)
        for columns in by_tag:
            top = int(columns.steps[-1])
            self.last[columns.counter] = max(top, self.last.get(columns.counter, top))
            self._tag_last[columns.tags[0]] = max(top, self._tag_last.get(columns.tags[0], top))
        draft.columns = _batches(by_tag)
        return draft

    def _start(self, session: Session, step: int, draft: Draft) -> None:
        """A session begins; what counters hold at its step and later is taken back."""
        session.seen.clear()
        for counter in [counter for counter, last in self.last.items() if last >= step]:
            self._rewind(counter, step, draft)

    def _restart(self, session: Session, by_tag: Sequence[Columns], draft: Draft) -> None:
        """Rewind the counters that begin in this session where they have been already."""
        lowest: dict[str, int] = {}
        for columns in by_tag:
            if columns.counter not in session.seen:
                low = int(columns.steps[0])
                lowest[columns.counter] = min(low, lowest.get(columns.counter, low))
        for counter, low in lowest.items():
            last = self.last.get(counter)
            if last is None or low > last:
                if self.sure is not None and counter not in self.sure:
                    # what lies before an attempt's start would not be taken
                    draft.next_steps.setdefault(counter, low)
                continue
            if low < last or is_implicit(counter) or self._is_taken(counter, low, by_tag):
                self._rewind(counter, low, draft)
        session.seen |= lowest.keys()
        if self.sure is not None:
            self.sure |= lowest.keys()

    def _is_taken(self, counter: str, step: int, by_tag: Sequence[Columns]) -> bool:
        """Whether a tag that has a value at a step of the shared counter comes with one again."""
        mine = [c for c in by_tag if c.counter == counter and c.steps[0] == step]
        return any(self._tag_last.get(c.tags[0]) == step for c in mine)

    def _rewind(self, counter: str, step: int, draft: Draft) -> None:
        last = self.last[counter]
        self._mends.add("restarted", 1, f"{counter} went back from {last} to {step}")
        draft.next_steps[counter] = step
        if step:
            self.last[counter] = step - 1
        else:
            del self.last[counter]


def _cut(chunk: Chunk, mixed: cuts.Bool, lo: int, limit: int) -> int:
    """Where a draft that begins with record lo ends: before the next session, and if it can, where nothing is mixed."""
    hi = next((start.record for start in chunk.starts if lo < start.record < limit), limit)
    is_session_end = hi < limit
    end = cuts.fitting(chunk, lo, hi)
    if end == hi and is_session_end:
        return hi
    clean = np.flatnonzero(~mixed[lo + 1 : end + 1])
    return lo + 1 + int(clean[-1]) if len(clean) else end


def _columns(chunk: Chunk, rows: slice, tags: Sequence[Tag], mends: Mends) -> Iterator[Columns]:
    """The points of some rows, tag by tag in order of appearance, each in order of steps."""
    indices = chunk.tags[rows]
    if not len(indices):
        return
    order = cuts.stable_order(indices)
    begins = np.flatnonzero(np.diff(indices[order], prepend=-1))
    pieces = np.split(order + rows.start, begins[1:])
    for block, place in enumerate(np.argsort(order[begins]).tolist()):
        tag, mine = tags[int(indices[order[begins[place]]])], pieces[place]
        steps = chunk.steps[mine]
        if (steps[1:] < steps[:-1]).any():
            behind = int(np.count_nonzero(steps < np.maximum.accumulate(steps)))
            mends.add("reordered", behind, f"tag {tag.name!r}")
            mine = mine[np.argsort(steps, kind="stable")]
        yield _column(chunk, mine, tag, block)


def _column(chunk: Chunk, rows: Int64, tag: Tag, block: int) -> Columns:
    blobs: tuple[Blob, ...] = ()
    values = chunk.values[rows][:, None]
    if tag.kind != summaries.SCALARS:
        blobs = tuple(summaries.blob_of(chunk.blobs[int(index)]) for index in values[:, 0])
        values = summaries.keys_of(blobs)
    return Columns(
        tag.counter,
        (tag.name,),
        chunk.steps[rows],
        chunk.wall_times[rows],
        values,
        block=block,
        kind=tag.kind,
        metadata=tag.metadata,
        blobs=blobs,
    )


def _batches(by_tag: Sequence[Columns]) -> list[list[Columns]]:
    """Blocks in batches that are not too large; one, unless a single record is."""
    found: list[list[Columns]] = [[]]
    nbytes = 0
    for columns in by_tag:
        size = len(columns) * cuts.ROW_BYTES + sum(len(blob.data) + cuts.BLOB_BYTES for blob in columns.blobs)
        if found[-1] and (len(found[-1]) >= cuts.BLOCKS_MAX or nbytes + size > cuts.BYTES_MAX):
            found.append([])
            nbytes = 0
        found[-1].append(columns)
        nbytes += size
    return found

"""What refuses a segment as a whole: its counter's writer, its tags' counters, and the limits of the run."""

from collections.abc import Mapping, Sequence

from tallyboard.wire import Columns, is_implicit
from tallyboard_server.contract import texts
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.segments import Refused, Segment
from tallyboard_server.model import ANONYMOUS, Attempt, Counter


def held_attempt(counter: Counter | None, writer: str) -> Attempt | None:
    """The latest attempt on a counter that a writer holds."""
    if counter is None:
        return None
    return next((attempt for attempt in reversed(counter.attempts) if attempt.writer == writer), None)


def screen(draft: Draft, name: str, segments: Sequence[Segment], writer: str, now: float) -> Attempt | None:
    """Refuse what must be refused whole of one counter's segments; returns the attempt the rest goes to.

    None: the counter has no attempt yet and would get its first; or it is taken, and everything is refused.
    New counters and tags are counted as the segments come, whether or not rows of them are refused later.
    """
    counter = draft.counters.get(name)
    attempt = held_attempt(counter, writer)
    if counter is not None and counter.current is not None and attempt is None:
        _refuse_taken(draft, counter, counter.current, segments, now)
        return None
    free = draft.free_counters - (counter is None and not is_implicit(name))
    new_counters: set[str] = set()
    new_tags: dict[str, str] = {}
    for segment in segments:
        if attempt is not None:
            segment.attempt = attempt.number
            segment.start, segment.last_step = attempt.start, attempt.last_step
        columns = segment.columns
        at = {n for n in columns.at if n != name and n not in draft.counters and n not in new_counters}
        if free < 0 or len(new_counters) + len(at) > free:
            segment.whole = Refused(
                "too_many_counters", texts.too_many_counters(draft.limits.counters), columns.tags, segment.last_step
            )
            continue
        foreign = _foreign_tags(draft, columns.tags, 0 if counter is None else counter.id)
        if foreign:
            detail = texts.tag_of_other_counter(name, foreign)
            segment.whole = Refused("tag_of_other_counter", detail, tuple(foreign), segment.last_step)
            continue
        others = _of_other_kind(draft, columns, new_tags)
        if others:
            detail = texts.tag_of_other_kind(columns.kind, others)
            segment.whole = Refused("tag_of_other_kind", detail, tuple(others), segment.last_step)
            continue
        unknown = [tag for tag in columns.tags if tag not in draft.tags and tag not in new_tags]
        if unknown and len(draft.tags) + len(new_tags) + len(unknown) > draft.limits.tags:
            segment.whole = Refused(
                "too_many_tags", texts.too_many_tags(draft.limits.tags), tuple(unknown), segment.last_step
            )
            continue
        new_counters |= at
        new_tags.update(dict.fromkeys(unknown, columns.kind))
    return attempt


def _refuse_taken(draft: Draft, counter: Counter, current: Attempt, segments: Sequence[Segment], now: float) -> None:
    holder = None if current.writer == ANONYMOUS else draft.producers.get(current.writer)
    detail = texts.counter_taken(counter.name, current.writer, holder, now)
    for segment in segments:
        segment.whole = Refused("counter_taken", detail, segment.columns.tags, counter.last_step)


def _foreign_tags(draft: Draft, tags: Sequence[str], counter_id: int) -> dict[str, str]:
    """Tags that have visible points on another counter, and that counter's name."""
    found: dict[str, str] = {}
    for name in tags:
        tag = draft.tags.get(name)
        if tag is None or tag.counter_id in (0, counter_id):
            continue
        other = draft.counter_by_id(tag.counter_id)
        if tag.is_bound(other):
            found[name] = other.name
    return found


def _of_other_kind(draft: Draft, columns: Columns, new_tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that are of another kind than they are reported as, and their kind: in the run, or earlier in the batch."""
    found: dict[str, str] = {}
    for name in columns.tags:
        tag = draft.tags.get(name)
        kind = new_tags.get(name, columns.kind) if tag is None else tag.kind
        if kind != columns.kind:
            found[name] = kind
    return found

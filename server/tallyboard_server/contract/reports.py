"""The reports of a batch, counter by counter: the short way if it will do, else screened, judged, landed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tallyboard.wire import Columns, is_implicit
from tallyboard.wire.names import SYSTEM_COUNTER
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.judge import judge
from tallyboard_server.contract.landing import Landing
from tallyboard_server.contract.rewind import new_attempt
from tallyboard_server.contract.screening import held_attempt, screen
from tallyboard_server.contract.segments import Segment
from tallyboard_server.contract.whole import land_whole
from tallyboard_server.model import Attempt, Counter


def apply_reports(draft: Draft, columns: Sequence[Columns], writer: str, now: float) -> list[Segment]:
    """Apply a batch's reports, counters in order of first appearance; returns verdicts in request order."""
    segments = [Segment(stretch) for stretch in columns]
    by_counter: dict[str, list[Segment]] = {}
    for segment in segments:
        by_counter.setdefault(segment.columns.counter, []).append(segment)
    moved: list[str] = []
    judged: dict[str, list[Segment]] = {}
    for name, mine in by_counter.items():
        if land_whole(draft, name, mine, writer):
            moved.append(name)
            continue
        judged[name] = mine
        if _apply_counter(draft, name, mine, writer, now):
            moved.append(name)
    if judged:
        _excuse(draft, judged, moved, writer)
    return segments


def _apply_counter(draft: Draft, name: str, segments: Sequence[Segment], writer: str, now: float) -> bool:
    """Returns whether the attempt now holds a larger step."""
    attempt = screen(draft, name, segments, writer, now)
    passed = [segment for segment in segments if segment.whole is None]
    if not passed:
        return False
    counter = draft.counters.get(name)
    target = attempt or new_attempt(1, writer, 0)
    unmoved = judge(passed, target, draft.tags)
    if any(segment.accepted for segment in passed):
        if counter is None or attempt is None:
            counter = _first_attempt(draft, name, target)
        landing = Landing(draft, counter, target)
        landing.land(passed, unmoved)
        return landing.last_step != target.last_step
    if counter is not None and attempt is not None and unmoved != attempt.unmoved:
        Landing(draft, counter, attempt).land([], unmoved)
    return False


def _excuse(draft: Draft, judged: Mapping[str, Sequence[Segment]], moved: Sequence[str], writer: str) -> None:
    """Count anew what brought nothing new at a counter (Attempt.unmoved) while another one moved.

    A counter of epochs stands still for as long as the steps of an epoch take. Where values disagreed the count goes
    on: that is a mistake, whatever else moves.
    """
    beside = [name for name in moved if name != SYSTEM_COUNTER and not is_implicit(name)]
    for name, segments in judged.items():
        if all(other == name for other in beside) or any(segment.conflicts for segment in segments):
            continue
        counter = draft.counters.get(name)
        attempt = held_attempt(counter, writer)
        if counter is not None and attempt is not None and attempt.unmoved:
            attempts = list(counter.attempts)
            attempts[attempt.number - 1] = replace(attempt, unmoved=0)
            draft.put_counter(replace(counter, attempts=tuple(attempts)))


def _first_attempt(draft: Draft, name: str, attempt: Attempt) -> Counter:
    known = draft.add_counter(name)
    counter = Counter(known.id, name, known.total, (attempt,))
    draft.put_counter(counter)
    return counter

"""The reports of a batch, counter by counter: the short way if it will do, else screened, judged, landed."""

from collections.abc import Sequence

from tallyboard.wire import Columns
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.judge import judge
from tallyboard_server.contract.landing import Landing
from tallyboard_server.contract.rewind import new_attempt
from tallyboard_server.contract.screening import screen
from tallyboard_server.contract.segments import Segment
from tallyboard_server.contract.whole import land_whole
from tallyboard_server.model import Attempt, Counter


def apply_reports(draft: Draft, columns: Sequence[Columns], writer: str, now: float) -> list[Segment]:
    """Apply a batch's reports, counters in order of first appearance; returns verdicts in request order."""
    segments = [Segment(stretch) for stretch in columns]
    by_counter: dict[str, list[Segment]] = {}
    for segment in segments:
        by_counter.setdefault(segment.columns.counter, []).append(segment)
    for name, mine in by_counter.items():
        if not land_whole(draft, name, mine, writer):
            _apply_counter(draft, name, mine, writer, now)
    return segments


def _apply_counter(draft: Draft, name: str, segments: Sequence[Segment], writer: str, now: float) -> None:
    attempt = screen(draft, name, segments, writer, now)
    passed = [segment for segment in segments if segment.whole is None]
    if not passed:
        return
    counter = draft.counters.get(name)
    target = attempt or new_attempt(1, writer, 0)
    unmoved = judge(passed, target, draft.tags)
    if any(segment.accepted for segment in passed):
        if counter is None or attempt is None:
            counter = _first_attempt(draft, name, target)
        Landing(draft, counter, target).land(passed, unmoved)
    elif counter is not None and attempt is not None and unmoved != attempt.unmoved:
        Landing(draft, counter, attempt).land([], unmoved)


def _first_attempt(draft: Draft, name: str, attempt: Attempt) -> Counter:
    known = draft.add_counter(name)
    counter = Counter(known.id, name, known.total, (attempt,))
    draft.put_counter(counter)
    return counter

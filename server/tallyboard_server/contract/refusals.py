"""From verdicts on rows to the refusals that receipts list and people see; bounded, in request order."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tallyboard.wire import Reason, Refusal
from tallyboard_server.contract import texts
from tallyboard_server.contract.segments import Segment
from tallyboard_server.model import RunState, frozen

TAGS_LISTED_MAX: Final = 20
"""Tags named in one refusal; a report may carry thousands, and a receipt lists a hundred refusals."""


def describe(judged: Sequence[Segment], count_max: int) -> list[Refusal]:
    """The first `count_max` refusals of a batch, in request order."""
    found: list[Refusal] = []
    for segment in judged:
        rows = segment.refused_rows()[: count_max - len(found)]
        found.extend(_refusal(segment, row) for row in rows.tolist())
        if len(found) >= count_max:
            break
    return found


def tally(judged: Sequence[Segment]) -> dict[Reason, int]:
    """How many reports of a batch are refused for which reason."""
    found: Counter[Reason] = Counter()
    for segment in judged:
        count = segment.refused_count
        if segment.whole is not None:
            found[segment.whole.reason] += count
        else:
            found["tag_repeated"] += len(segment.conflicts)
            found["step_decreased"] += count - len(segment.conflicts)
    return {reason: count for reason, count in found.items() if count}


def _refusal(segment: Segment, row: int) -> Refusal:
    columns = segment.columns
    counter, step = columns.counter, int(columns.steps[row])
    tags: Sequence[str]
    if segment.whole is not None:
        reason, detail, tags, last_step = segment.whole
    elif (conflict := segment.conflicts.get(row)) is not None:
        reason, tags, last_step = "tag_repeated", conflict.tags, step
        times = 1 if segment.unmoved is None else 1 + int(segment.unmoved[row])
        detail = texts.tag_repeated(counter, step, conflict, columns.kind, times)
    else:
        reason, tags, last_step = "step_decreased", columns.tags, _reached(segment, row)
        detail = texts.step_decreased(counter, step, last_step, segment.start)
    return Refusal(
        block=columns.block,
        row=columns.row_of(row),
        counter=counter,
        step=step,
        last_step=last_step,
        tags=list(tags[:TAGS_LISTED_MAX]),
        reason=reason,
        detail=detail,
    )


def _reached(segment: Segment, row: int) -> int | None:
    """The attempt's last step when a row with a decreased step was judged."""
    if segment.reached is None:
        return segment.last_step
    reached = int(segment.reached[row])
    floor = segment.start if segment.last_step is None else segment.last_step
    return reached if reached >= floor else segment.last_step


def with_unmoved(state: RunState, judged: Sequence[Segment]) -> RunState:
    """The state before a refused batch, with its tag_repeated refusals at counters that do not move counted."""
    counters = dict(state.counters)
    counted = False
    for segment in judged:
        counter = counters.get(segment.columns.counter)
        if not segment.conflicts or counter is None or not 0 < segment.attempt <= len(counter.attempts):
            continue
        attempt = counter.attempts[segment.attempt - 1]
        count = sum(int(segment.columns.steps[row]) == attempt.last_step for row in segment.conflicts)
        if count:
            counted = True
            attempts = list(counter.attempts)
            attempts[segment.attempt - 1] = replace(attempt, unmoved=attempt.unmoved + count)
            counters[counter.name] = replace(counter, attempts=tuple(attempts))
    return replace(state, counters=frozen(counters)) if counted else state

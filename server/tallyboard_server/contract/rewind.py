"""The rewind part of a batch: a new attempt for each counter named, and what that hides of earlier ones."""

from dataclasses import replace
from typing import Final

import numpy as np

from tallyboard.wire import ALL_IMPLICIT, Rewind, is_implicit
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.errors import LimitError
from tallyboard_server.contract.types import LastStepBefore
from tallyboard_server.model import Attempt, Counter

IDS_KEPT_MAX: Final = 100
"""Rewinds by hand whose repetition is still known as one; people and scripts repeat within seconds."""


def new_attempt(number: int, writer: str, start: int) -> Attempt:
    """An attempt that holds nothing yet."""
    return Attempt(number, writer, start, None, None, np.empty(0, np.int32), np.empty(0, np.float64))


def rewind_run(draft: Draft, message: Rewind, writer: str, last_step_before: LastStepBefore) -> None:
    """Apply a Rewind, unless its id says that it was applied before. Raises LimitError.

    The epoch grows by one if any visible point is superseded. Tags need no change: whether one is still bound
    follows from its counter's attempts.
    """
    if message.id is not None and message.id in draft.rewinds:
        draft.warnings.append(f"the rewind {message.id!r} was applied already; nothing was rewound again")
        return
    superseded = False
    for name, next_step in _next_steps(draft, message).items():
        counter = draft.add_counter(name)
        if len(counter.attempts) >= draft.limits.attempts_per_counter:
            raise LimitError(
                f"counter {name!r} has {len(counter.attempts)} attempts, the most a counter may have; "
                "use another counter, or a new run"
            )
        older, hidden = _superseded(counter, next_step, last_step_before)
        superseded |= hidden
        newest = new_attempt(len(older) + 1, writer, next_step)
        draft.put_counter(replace(counter, attempts=(*older, newest)))
    if superseded:
        draft.epoch += 1
    if message.id is not None:
        draft.rewinds = (*draft.rewinds, message.id)[-IDS_KEPT_MAX:]


def _next_steps(draft: Draft, message: Rewind) -> dict[str, int]:
    """The next step of each counter named; where those of single tags are named together, of all that there are."""
    together = message.next_steps.get(ALL_IMPLICIT)
    if together is None:
        return message.next_steps
    named = {name: step for name, step in message.next_steps.items() if name != ALL_IMPLICIT}
    return {name: together for name in draft.counters if is_implicit(name)} | named


def _superseded(counter: Counter, next_step: int, last_step_before: LastStepBefore) -> tuple[tuple[Attempt, ...], bool]:
    """The counter's attempts when the visible ends at next_step, and whether that hides any point.

    Visible stretches are disjoint and ascending, so at most one is cut within: the store is asked once.
    """
    attempts = list(counter.attempts)
    hidden = False
    for index in range(len(attempts) - 1, -1, -1):
        attempt = attempts[index]
        if attempt.last_visible is None or attempt.last_visible < next_step:
            continue
        last_visible = None
        if attempt.start < next_step:
            last_visible = last_step_before(counter.id, attempt.number, next_step)
        attempts[index] = replace(attempt, last_visible=last_visible)
        hidden = True
    return tuple(attempts), hidden

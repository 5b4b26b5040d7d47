"""Which groups of an attempt to put together next, so that pieces grow geometrically and few of them remain."""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from tallyboard_server.store.protocol import Group

FAN_IN: Final = 8
"""Groups that are worth writing again, if the result is also so many times as large as the largest of them: that
bounds how often a row is written again.
"""
GROWN: Final = 0.25
"""A group with so much of the largest size is left alone."""
NEARLY_WHOLE: Final = 0.7
_SMALLEST: Final = FAN_IN**-6


def due(groups: Sequence[Group], *, closing: bool = False, fan_in: int = FAN_IN) -> list[Group]:
    """Of groups that follow each other, those to be merged now; empty if nothing is worth it.

    First groups without envelopes (version 0), by themselves if need be. Then stretches of small groups before those
    of larger ones. closing: nothing more is expected, so any two that fit together are.
    """
    for stretch in _stretches(groups, lambda group: group.version == 0):
        return _fitting(stretch)
    if closing:
        return next((fit for first in range(len(groups) - 1) if len(fit := _fitting(groups[first:])) > 1), [])
    ceiling = _SMALLEST
    while ceiling <= 1.0:
        for stretch in _stretches(groups, lambda group, below=ceiling: group.fill < below):  # type: ignore[misc]
            if len(stretch) >= fan_in and _is_worth_it(fit := _fitting(stretch), fan_in):
                return fit
        ceiling *= FAN_IN
    return []


def _is_worth_it(groups: Sequence[Group], growth_min: int) -> bool:
    total = sum(group.fill for group in groups)
    return total >= min(growth_min * max(group.fill for group in groups), NEARLY_WHOLE)


def _fitting(groups: Sequence[Group]) -> list[Group]:
    """The first of them, as many as make one group at most; at least one."""
    total = 0.0
    found: list[Group] = []
    for group in groups:
        total += group.fill
        if found and total > 1.0:
            break
        found.append(group)
    return found


def _stretches(groups: Sequence[Group], belongs: Callable[[Group], bool]) -> Iterator[list[Group]]:
    stretch: list[Group] = []
    for group in groups:
        if belongs(group):
            stretch.append(group)
        elif stretch:
            yield stretch
            stretch = []
    if stretch:
        yield stretch

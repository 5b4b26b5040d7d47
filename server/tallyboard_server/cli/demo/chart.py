"""Curves in a terminal: where a curve has its points, and how it runs, in two lines."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"
WIDTH: Final = 60


def presence(points: Mapping[int, float], steps: Sequence[int], width: int = WIDTH) -> str:
    """One sign for each stretch of the steps: █ every step has a point, ▒ some have, · none has."""
    signs = []
    for part in _parts(steps, width):
        there = sum(step in points for step in part)
        signs.append("█" if there == len(part) else "▒" if there else "·")
    return "".join(signs)


def curve(points: Mapping[int, float], steps: Sequence[int], width: int = WIDTH) -> str:
    """The mean of each stretch of the steps as a bar; a blank where there is no point."""
    means = []
    for part in _parts(steps, width):
        values = [points[step] for step in part if step in points]
        means.append(sum(values) / len(values) if values else None)
    known = [mean for mean in means if mean is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return "".join(" " if mean is None else _bar(mean, low, high) for mean in means)


def _bar(value: float, low: float, high: float) -> str:
    share = (value - low) / (high - low) if high > low else 0.0
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]


def _parts(steps: Sequence[int], width: int) -> list[Sequence[int]]:
    """The steps in at most `width` stretches of nearly the same length."""
    count = min(width, len(steps))
    cuts = [len(steps) * i // count for i in range(count + 1)] if count else [0]
    return [steps[begin:end] for begin, end in pairwise(cuts)]

"""Points that should not be: not finite, or out of their tag's bounds; superseded ones don't count."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Float64
from tallyboard_server.model import Block, Counter, RunState, Tag
from tallyboard_server.watch.facts import TAGS_MAX, BadTag, Facts
from tallyboard_server.watch.rules import Bound, Rules

NONFINITE: Final = "nonfinite"
BOUNDS: Final = "bounds"


def is_finite(block: Block) -> bool:
    """Whether all values are; quick enough for the writer's thread."""
    return bool(np.isfinite(block.values).all())


def look(facts: Facts, state: RunState, blocks: Sequence[Block], rules: Rules, now: float) -> None:
    """Note in `facts` what is bad in blocks of a run, and what is good again. `now`: seconds since the epoch."""
    ids = {int(tag_id) for block in blocks for tag_id in block.tag_ids}
    tags = {tag.id: tag for tag in state.tags.values() if tag.id in ids and tag.is_scalar}
    counters = {counter.id: counter for counter in state.counters.values()}
    for block in blocks:
        if (counter := counters.get(block.counter_id)) is not None:
            _look_at(facts, block, counter, tags, rules, now)


def _look_at(facts: Facts, block: Block, counter: Counter, tags: Mapping[int, Tag], rules: Rules, now: float) -> None:
    limit = counter.limit(block.attempt)
    rows = len(block.steps) if limit is None else int(np.searchsorted(block.steps, limit, side="left"))
    if not rows:
        return
    values = block.values[:rows]
    finite = np.isfinite(values)
    for column, tag_id in enumerate(block.tag_ids.tolist()):
        if (tag := tags.get(tag_id)) is None:
            continue
        good = finite[:, column]
        if NONFINITE not in rules.off:
            _note(facts, (NONFINITE, tag.name), ~good, "", (block, column, counter), now)
        if rules.has_limits:
            for bound in rules.limits:
                if bound.fits(tag.name):
                    broken, told = _broken(values[:, column], good, bound)
                    _note(facts, (BOUNDS, tag.name), broken, told, (block, column, counter), now)
                    break


def _broken(values: Float64, finite: npt.NDArray[np.bool_], bound: Bound) -> tuple[npt.NDArray[np.bool_], str]:
    """Which finite values are out of bounds, and which bound that is, in words."""
    low = np.zeros(len(values), np.bool_) if bound.min is None else (values < bound.min) & finite
    high = np.zeros(len(values), np.bool_) if bound.max is None else (values > bound.max) & finite
    told = f"below {bound.min:g}" if low.any() and bound.min is not None else ""
    if high.any() and bound.max is not None:
        told = f"above {bound.max:g}"
    return low | high, told


def _note(
    facts: Facts,
    key: tuple[str, str],
    bad: npt.NDArray[np.bool_],
    bound: str,
    place: tuple[Block, int, Counter],
    now: float,
) -> None:
    """Keep the last bad value of a column, or that only good ones came."""
    known = facts.bad.get(key)
    if not bad.any():
        if known is not None:
            known.good += len(bad)
        return
    block, column, counter = place
    last = int(np.flatnonzero(bad)[-1])
    if known is None and sum(kind == key[0] for kind, _ in facts.bad) >= TAGS_MAX:
        return
    facts.bad[key] = BadTag(
        value=float(block.values[last, column]),
        step=int(block.steps[last]),
        counter=counter.name,
        counter_id=counter.id,
        attempt=block.attempt,
        at=now,
        bound=bound,
        good=len(bad) - 1 - last,
    )

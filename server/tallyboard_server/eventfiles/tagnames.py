"""The names of a run's tags by their ids, as blocks refer to them."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from tallyboard_server.eventfiles.summaries import Series, series_of
from tallyboard_server.model import Block, RunState

_TAG_SETS_MAX: Final = 4096


class TagNames:
    """The names of a run's tags by id, and of whole tag sets, which blocks repeat (bounded).

    series: by id, what records say of tags that are no scalars. A block holds either scalars or one of these.
    """

    def __init__(self, names: Mapping[int, str], series: Mapping[int, Series] | None = None) -> None:
        self._names = names
        self._series = series or {}
        self._sets: dict[bytes, tuple[str, ...]] = {}

    def of(self, block: Block) -> tuple[str, ...]:
        """The block's tags in its order. KeyError if the run has no such tag."""
        key = block.tag_ids.tobytes()
        found = self._sets.get(key)
        if found is None:
            found = tuple(self._names[tag_id] for tag_id in block.tag_ids.tolist())
            if len(self._sets) >= _TAG_SETS_MAX:
                self._sets.clear()
            self._sets[key] = found
        return found

    def series_of(self, block: Block) -> Series | None:
        """What records say of the block's tag; None if its tags are scalars."""
        return self._series.get(int(block.tag_ids[0])) if self._series else None


def names_of(state: RunState) -> TagNames:
    """The names of a run's tags."""
    return TagNames(
        {tag.id: tag.name for tag in state.tags.values()},
        {tag.id: series_of(tag) for tag in state.tags.values() if not tag.is_scalar},
    )


class TagNamesCache:
    """The tag names of the runs looked at last (bounded in runs)."""

    def __init__(self, runs_max: int = 1024) -> None:
        self._runs_max = runs_max
        self._by_run: OrderedDict[int, tuple[object, TagNames]] = OrderedDict()

    def of(self, state: RunState) -> TagNames:
        """The names of a run's tags; made anew only when its tags are no longer the same object."""
        known = self._by_run.pop(state.id, None)
        if known is None or known[0] is not state.tags:
            known = (state.tags, names_of(state))
        self._by_run[state.id] = known
        if len(self._by_run) > self._runs_max:
            self._by_run.popitem(last=False)
        return known[1]

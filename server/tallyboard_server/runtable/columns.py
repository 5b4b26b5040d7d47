"""What can be known of a run, one value each: the columns that tables show, filters compare and sorts order by."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tallyboard_server.model import AlertCount, RunState
from tallyboard_server.series.summary import TagSummary

RUN_COLUMNS: Final[Mapping[str, Callable[[RunState], Any]]] = {
    "name": lambda state: state.name,
    "project": lambda state: state.name.partition("/")[0],
    "display_name": lambda state: state.meta.display_name,
    "group": lambda state: state.meta.group,
    "tags": lambda state: list(state.meta.tags),
    "notes": lambda state: state.meta.notes,
    "archived": lambda state: state.meta.archived,
    "owner": lambda state: state.meta.provenance.get("user"),
    "attempts": lambda state: max((len(counter.attempts) for counter in state.counters.values()), default=0),
    "stalled": lambda state: state.stalled or None,
    "created_at": lambda state: state.meta.created_at,
    "updated_at": lambda state: state.meta.updated_at,
}
"""Columns that are a word, and change only when the run does."""

LIVE_COLUMNS: Final = ("status", "last_seen", "age", "idle")
"""Columns that change by themselves: with heartbeats, and as time passes (age and idle, in seconds)."""

DOCUMENTS: Final = ("config", "summary", "provenance")
"""Columns `config.<key>` and so on: a value of one of the run's documents."""

REFUSED: Final = "refused"
"""How many refused reports are kept of the run."""
OF_ALERTS: Final[Mapping[str, Callable[[AlertCount], Any]]] = {
    "alerts": lambda count: count.kept,
    "alerted_at": lambda count: count.newest_at,
}
"""How many alerts are kept of the run, and when the newest of them came."""

INCIDENTS: Final = "incidents"
"""The kinds of what watchdogs found of the run, and is not over yet: `nonfinite`, `lost`, …"""

COUNTERS: Final = "counters"
"""`counters.<name>`: the counter's value, its largest visible step."""
TOTALS: Final = "totals"
"""`totals.<name>`: the step that the counter is expected to reach."""
RATES: Final = "rates"
"""`rates.<name>`: the counter's steps per second, lately."""
OF_COUNTERS: Final = (COUNTERS, TOTALS, RATES)

FIGURES: Final[Mapping[str, Callable[[TagSummary], Any]]] = {
    "first": lambda tag: tag.first.value,
    "last": lambda tag: tag.last.value,
    "min": lambda tag: tag.min and tag.min.value,
    "max": lambda tag: tag.max and tag.max.value,
    "mean": lambda tag: tag.mean,
    "count": lambda tag: tag.count,
    "nonfinite": lambda tag: tag.nonfinite,
    "first_step": lambda tag: tag.first.step,
    "last_step": lambda tag: tag.last.step,
    "min_step": lambda tag: tag.min and tag.min.step,
    "max_step": lambda tag: tag.max and tag.max.step,
    "first_time": lambda tag: tag.first.wall_time,
    "last_time": lambda tag: tag.last.wall_time,
    "min_time": lambda tag: tag.min and tag.min.wall_time,
    "max_time": lambda tag: tag.max and tag.max.wall_time,
}
"""Columns `last.<tag>` and so on: of the tag's visible points; min, max and mean of the finite ones."""

BEST: Final = ("at_min", "at_max")
"""`at_min(A, B)`: the value of tag A where tag B is least, `at_max` where it is greatest."""

KINDS_TOLD: Final = (
    f"{', '.join((*RUN_COLUMNS, *LIVE_COLUMNS, REFUSED, *OF_ALERTS, INCIDENTS))}, config.<key>, summary.<key>, "
    "provenance.<key>, counters.<name>, totals.<name>, rates.<name>, last.<tag> (first, min, max, mean, count, …), "
    "at_min(<tag>, <tag>), at_max(<tag>, <tag>)"
)

BARE: Final = re.compile(r"""[^\s()<>=!~,"']+""")
"""What needs no quotes: no space, and nothing that means something."""


@dataclass(slots=True, frozen=True)
class Column:
    """One column. kind: a word of this module. arguments: a key's parts, a counter, a tag, or two tags.

    text: the column as one would write it; the same for the same column.
    """

    kind: str
    arguments: tuple[str, ...] = ()
    text: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", self._written())

    @property
    def is_live(self) -> bool:
        """Whether it changes while the run does not."""
        return self.kind in LIVE_COLUMNS

    def _written(self) -> str:
        if self.kind in BEST:
            return f"{self.kind}({', '.join(map(quoted_if_needed, self.arguments))})"
        if self.kind in DOCUMENTS:
            return ".".join((self.kind, *(quoted_if_needed(part, apart=".") for part in self.arguments)))
        return ".".join((self.kind, *map(quoted_if_needed, self.arguments)))


def quoted_if_needed(text: str, *, apart: str = "") -> str:
    """Text as it stands in a column: in quotes if it is empty, or holds what would end it or one of `apart`."""
    bare = BARE.fullmatch(text) is not None and not any(sign in text for sign in apart)
    return text if bare else quoted(text)


def quoted(text: str) -> str:
    """Text in quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

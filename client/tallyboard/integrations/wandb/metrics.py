"""`define_metric`: which key counts on which, and what of its values goes into the summary."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Final

from tallyboard.integrations.wandb.telling import tell
from tallyboard.wire import DEFAULT_COUNTER, InvalidNameError, names

OPS: Final = frozenset({"min", "max", "mean", "last", "first", "best", "none", "copy"})
_CACHE_MAX: Final = 4_096
_TAKEN: Final = names.RESERVED_COUNTERS | {DEFAULT_COUNTER, names.SYSTEM_COUNTER}
"""Names that as counters are something else: wandb's own step is `global_step` here."""


@dataclass(slots=True, frozen=True)
class Metric:
    """What `define_metric` returns. step_metric: the key that this one counts on; summary: of OPS."""

    name: str
    step_metric: str | None = None
    summary: tuple[str, ...] = ()
    goal: str | None = None


class Definitions:
    """An exact name counts before patterns, and of these the longest that matches. `*` matches `/`, too."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._found: dict[str, Metric] = {}
        self.step_metrics: frozenset[str] = frozenset()

    def define(
        self,
        name: str,
        step_metric: Any = None,
        summary: str | None = None,
        goal: str | None = None,
        *,
        anew: bool = False,
    ) -> Metric:
        """Add a definition, or to one. What makes no sense is left out and told."""
        before = Metric(name) if anew else self._metrics.get(name, Metric(name))
        counts_on = getattr(step_metric, "name", step_metric)
        ops = tuple(op.strip().lower() for op in (summary or "").split(",") if op.strip())
        if unknown := [op for op in ops if op not in OPS]:
            tell(f"define_metric({name!r}): summary {unknown[0]!r} is none of {', '.join(sorted(OPS))}")
        metric = Metric(
            name,
            counts_on if isinstance(counts_on, str) and counts_on else before.step_metric,
            tuple(op for op in ops if op in OPS) or before.summary,
            goal or before.goal,
        )
        self._metrics = {**self._metrics, name: metric}
        self._found = {}
        self.step_metrics = frozenset(m.step_metric for m in self._metrics.values() if m.step_metric is not None)
        return metric

    def of(self, key: str) -> Metric:
        """What is defined of a key."""
        found = self._found.get(key)
        if found is None:
            if len(self._found) >= _CACHE_MAX:
                self._found = {}
            found = self._found[key] = self._find(key)
        return found

    def _find(self, key: str) -> Metric:
        patterns = [name for name in self._metrics if "*" in name and fnmatchcase(key, _plain(name))]
        defined = self._metrics.get(key) or self._metrics.get(max(patterns, key=len, default=""))
        if defined is None or key in self.step_metrics:  # what others count on counts on wandb's steps itself
            return Metric(key, summary=() if defined is None else defined.summary)
        return defined


def counter_of(step_metric: str) -> str | None:
    """The counter for a step metric: of its name, or `metric:<name>` where that is another's; None if it can't be."""
    try:
        return names.check_counter(f"metric:{step_metric}" if step_metric in _TAKEN else step_metric)
    except InvalidNameError:
        return None


@dataclass(slots=True)
class Aggregate:
    """What a summary says of the values of one key so far; NaN is passed over."""

    metric: Metric
    count: int = 0
    total: float = 0.0
    seen: dict[str, float] = field(default_factory=dict)

    def add(self, value: float) -> None:
        """Take one more."""
        if math.isnan(value):
            return
        self.count += 1
        self.total += value
        self.seen = {
            "min": min(value, self.seen.get("min", value)),
            "max": max(value, self.seen.get("max", value)),
            "first": self.seen.get("first", value),
            "last": value,
        }

    def told(self) -> dict[str, float]:
        """By operation; empty before the first."""
        if not self.count:
            return {}
        best = self.seen["max" if (self.metric.goal or "").lower().startswith("max") else "min"]
        known = {**self.seen, "mean": self.total / self.count, "best": best}
        return {op: known[op] for op in self.metric.summary if op in known}


def summary_of(aggregates: Mapping[str, Aggregate]) -> dict[str, dict[str, float]]:
    """What goes into the run's summary, in wandb's form: `{"val/loss": {"min": 0.1}}`."""
    return {key: told for key, aggregate in aggregates.items() if (told := aggregate.told())}


def _plain(pattern: str) -> str:
    """Of fnmatch's signs, wandb has the star alone."""
    return pattern.replace("[", "[[]").replace("?", "[?]")

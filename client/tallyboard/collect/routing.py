"""Which counter a tag is reported against: `counters={"val/*": "epoch", "*": "tag:*"}`."""

import re
from collections.abc import Mapping
from fnmatch import translate
from typing import Final

from tallyboard.collect.reports import shown
from tallyboard.errors import ConfigurationError
from tallyboard.wire import DEFAULT_COUNTER, InvalidNameError, limits, names, summaries

_CACHE_MAX: Final = 4_096

_STEPLESS: Final = frozenset({summaries.GRAPH_TAG, "custom_scalars__config__"})
"""Tags that TensorBoard's writers report at no step: they must not move a counter that others share."""

Split = tuple[tuple[str, tuple[str, ...]], ...]
"""(counter, its tags) for each report that a call makes."""


class Router:
    """Patterns as in a shell (`*`, `?`, `[ab]`; `*` matches `/` too); the first that matches counts.

    The counter `tag:*` gives each tag one of its own.
    """

    def __init__(self, patterns: Mapping[str, str] | None = None) -> None:
        """Raises ConfigurationError for a counter that can't be one."""
        self._patterns: list[tuple[re.Pattern[str], str]] = []
        if patterns is not None and not isinstance(patterns, Mapping):
            raise ConfigurationError(
                f'counters is a dictionary of patterns and names, such as {{"val/*": "epoch"}}, not {shown(patterns)}'
            )
        for pattern, counter in (patterns or {}).items():
            try:
                self._patterns.append((re.compile(translate(pattern)), _check(counter)))
            except (InvalidNameError, TypeError) as error:
                raise ConfigurationError(f"counters[{pattern!r}]: {error}") from error
        self._cache: dict[tuple[tuple[str, ...], str | None], Split] = {}

    def split(self, tags: tuple[str, ...], counter: str | None) -> Split:
        """The reports that a call with these tags makes; `counter` is the caller's own choice and wins.

        Raises InvalidNameError for the counter of another tag.
        """
        found = self._cache.get((tags, counter))
        if found is None:
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            found = self._cache[tags, counter] = self._split(tags, counter)
        return found

    def whole(self, tags: tuple[str, ...], counter: str | None) -> bool:
        """Whether a call with just these tags makes one report."""
        return len(self.split(tags, counter)) == 1

    def routes(self, tag: str) -> bool:
        """Whether a pattern says where a tag goes."""
        return tag in _STEPLESS or any(pattern.match(tag) for pattern, _ in self._patterns)

    def _split(self, tags: tuple[str, ...], counter: str | None) -> Split:
        groups: dict[str, list[str]] = {}
        for tag in tags:
            groups.setdefault(counter or self._counter_of(tag), []).append(tag)
        if counter is not None and names.is_implicit(counter):
            names.check_counter_of(counter, tags)
        most = limits.TAGS_PER_REPORT_MAX
        return tuple(
            (name, tuple(group[first : first + most]))
            for name, group in groups.items()
            for first in range(0, len(group), most)
        )

    def _counter_of(self, tag: str) -> str:
        if tag in _STEPLESS:
            return names.implicit_counter(tag)
        name = next((name for pattern, name in self._patterns if pattern.match(tag)), DEFAULT_COUNTER)
        if name != names.ALL_IMPLICIT:
            return name
        own = names.implicit_counter(tag)
        return own if own != names.ALL_IMPLICIT else DEFAULT_COUNTER  # the one tag, `*`, that can't have its own


def _check(counter: str) -> str:
    return counter if counter == names.ALL_IMPLICIT else names.check_counter(counter)

"""What a run has, by name: its tags, counters and keys, as many runs together are asked about them."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from tallyboard_server.model import RunState
from tallyboard_server.runtable.columns import Column

KEYS_PER_RUN_MAX: Final = 500
"""Keys of one document that are looked at, in the document's order."""
TEXT_CHARS_MAX: Final = 200
"""Of a text value; longer ones that begin alike count as one."""
_BASE_WEIGHT: Final = 12
_NAMES_A_UNIT: Final = 8

Sort = Literal["number", "text", "bool", "list", "object"]
"""What a value of a document is."""


@dataclass(slots=True, frozen=True)
class Value:
    """A value of a document. plain: None of lists and objects, which are not told apart."""

    sort: Sort
    plain: float | str | bool | None


@dataclass(slots=True, frozen=True)
class Facets:
    """One run. scalars: (counter, tag) of each visible scalar, kinds: (kind, tag) of the other visible tags; in order.

    counters: (name, total) of those that have a value, without those of single tags. config, summary: values by their
    columns' text.
    """

    name: str
    scalars: tuple[tuple[str, str], ...]
    kinds: tuple[tuple[str, str], ...]
    counters: tuple[tuple[str, int | None], ...]
    config: Mapping[str, Value]
    summary: Mapping[str, Value]


def facets_of(state: RunState, _version: int) -> tuple[Facets, int]:
    """What a run has, and what it weighs in units of roughly 64 bytes. Names that many runs have are held once."""
    scalars: list[tuple[str, str]] = []
    kinds: list[tuple[str, str]] = []
    for tag, counter in state.visible_tags():
        if tag.is_scalar:
            scalars.append((sys.intern(counter.name), sys.intern(tag.name)))
        else:
            kinds.append((sys.intern(tag.kind), sys.intern(tag.name)))
    begun = (c for c in state.counters.values() if not c.is_implicit and c.last_step is not None)
    counters = tuple((sys.intern(c.name), c.total) for c in begun)
    found = Facets(
        state.name,
        tuple(sorted(scalars)),
        tuple(sorted(kinds)),
        counters,
        _values("config", state.meta.config),
        _values("summary", state.meta.summary),
    )
    names = len(scalars) + len(kinds) + len(counters)
    return found, _BASE_WEIGHT + names // _NAMES_A_UNIT + 3 * (len(found.config) + len(found.summary))


def _values(document: str, content: Mapping[str, Any]) -> Mapping[str, Value]:
    found: dict[str, Value] = {}
    for path, value in _leaves(content):
        if len(found) >= KEYS_PER_RUN_MAX:
            break
        hidden = len(path) > 1 and ".".join(path) in content  # that key is what is read of the path
        if (known := _value(value)) is not None and any(path) and not hidden:
            found[_text(document, path)] = known
    return found


def _leaves(content: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Everything that is no object, with its path; and empty objects. Documents are bounded in depth."""
    for key, value in content.items():
        here = (*path, key)
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, here)
        else:
            yield here, value


def _value(value: Any) -> Value | None:
    """None for null, which is missing."""
    if isinstance(value, bool):
        return Value("bool", value)
    if isinstance(value, int | float):
        return Value("number", value)
    if isinstance(value, str):
        return Value("text", value[:TEXT_CHARS_MAX])
    if value is None:
        return None
    return Value("object" if isinstance(value, Mapping) else "list", None)


@lru_cache(maxsize=4_096)
def _text(document: str, path: tuple[str, ...]) -> str:
    return Column(document, path).text

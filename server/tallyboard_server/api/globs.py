"""Names and patterns: `*` stands for any characters, `?` for one."""

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Final

from tallyboard_server.api.reach import narrowed
from tallyboard_server.principal import Principal
from tallyboard_server.store.protocol import Store

_WILD: Final = re.compile(r"[*?]")
_PAGE: Final = 1_000
SCANNED_MAX: Final = 100_000
"""Names that one pattern is held against; a longer literal beginning needs fewer."""


class NamesTooManyError(ValueError):
    """A pattern that stands for more names than one answer may be about."""


def is_pattern(name: str) -> bool:
    """Whether it holds a wildcard. A name that does is found by itself, too."""
    return _WILD.search(name) is not None


def matcher(pattern: str) -> re.Pattern[str]:
    """The pattern as an expression for fullmatch; takes linear time on any name."""
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))


def fixed_beginning(pattern: str) -> str:
    """What every name that fits begins with."""
    return pattern[: found.start()] if (found := _WILD.search(pattern)) is not None else pattern


def matching_runs(store: Store, pattern: str, most: int, asking: Principal) -> list[str]:
    """Names of runs within reach, in byte order.

    Raises NamesTooManyError if they are more than `most`, or too many to look at.
    """
    prefix = narrowed(asking, fixed_beginning(pattern))
    fits = matcher(pattern)
    names: list[str] = []
    after = ""
    for _ in range(SCANNED_MAX // _PAGE):
        with store.snapshot() as view:
            page = view.run_names(prefix=prefix, after=after, limit=_PAGE)
        names.extend(name for name in page if fits.fullmatch(name))
        if len(names) > most:
            raise NamesTooManyError(f"{pattern!r} stands for more than {most} runs")
        if len(page) < _PAGE:
            return names
        after = page[-1]
    raise NamesTooManyError(f"{pattern!r} has to be looked for among more than {SCANNED_MAX} runs")


def chosen(wanted: Sequence[str], there: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names that are there, in the order of what is wanted (patterns: sorted), and what stands for none of them."""
    names = set(there)
    found: dict[str, None] = {}
    missing = []
    for one in wanted:
        fits = sorted(filter(matcher(one).fullmatch, names)) if is_pattern(one) else [one] if one in names else []
        found.update(dict.fromkeys(fits))
        if not fits:
            missing.append(one)
    return list(found), missing

"""What runs, tags, counters and producers may be called, and why not otherwise.

TensorBoard's readers drop files or freeze on names that are not UTF-8, and a run's name becomes a directory:
whatever passes here is safe as both.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from tallyboard.wire import limits

DEFAULT_COUNTER: Final = "global_step"
SYSTEM_COUNTER: Final = "system"
"""Counts what a client reports of its machine by itself, which is no part of the training's history."""
RESERVED_COUNTERS: Final = frozenset({"step", "wall_time", "relative"})
"""The x axes that every chart has; a counter of that name could not be told from them."""
IMPLICIT_PREFIX: Final = "tag:"
"""`tag:<tag>` is a counter that one tag has to itself, for those who report tags at steps of their own."""
ALL_IMPLICIT: Final = "tag:*"
"""In a rewind or a take-over: every such counter that the run has."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class InvalidNameError(ValueError):
    """A name that can't be used; the message says which, why, and what would do."""


def check_run(name: str) -> str:
    """Return `name` (`project/name…`) if it can name a run and its directory, else raise InvalidNameError."""
    _check_text("run name", name, limits.RUN_NAME_BYTES_MAX)
    if name.startswith("/") or "\\" in name:
        raise InvalidNameError(f"run name {name!r} must be relative, with / between its parts: project/name")
    segments = name.split("/")
    if len(segments) > limits.RUN_DEPTH_MAX:
        raise InvalidNameError(f"run name {name!r} has {len(segments)} parts; at most {limits.RUN_DEPTH_MAX}")
    for segment in segments:
        _check_segment(name, segment)
    return name


def check_tag(name: str) -> str:
    """Return `name` if it can be a tag, else raise InvalidNameError."""
    return _check_text("tag", name, limits.TAG_BYTES_MAX)


@lru_cache(maxsize=4096)
def check_tags(names: tuple[str, ...]) -> tuple[str, ...]:
    """Check a whole report's tags at once; remembered, because reports repeat their tags."""
    if not names:
        raise InvalidNameError("tags must not be empty: a report carries at least one scalar")
    if len(names) > limits.TAGS_PER_REPORT_MAX:
        raise InvalidNameError(f"{len(names)} tags in one report; at most {limits.TAGS_PER_REPORT_MAX}")
    for name in names:
        check_tag(name)
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidNameError(f"tag {twice!r} appears twice in one report; send one value per tag")
    return names


@lru_cache(maxsize=4096)
def check_counter(name: str) -> str:
    """Return `name` if it can name a step counter, else raise InvalidNameError."""
    _check_text("counter", name, limits.COUNTER_BYTES_MAX)
    if name in RESERVED_COUNTERS:
        raise InvalidNameError(f"counter {name!r} is the name of a chart axis; use for example 'global_step'")
    if "=" in name:
        raise InvalidNameError(f"counter {name!r} must not contain '='")
    if is_implicit(name):
        raise InvalidNameError(f"counter {name!r}: {IMPLICIT_PREFIX!r} begins the names of counters of single tags")
    return name


def implicit_counter(tag: str) -> str:
    """The counter that a tag has to itself."""
    return f"{IMPLICIT_PREFIX}{tag}"


def is_implicit(counter: str) -> bool:
    """Whether a counter belongs to a single tag."""
    return counter.startswith(IMPLICIT_PREFIX)


def gathered(counter: str) -> str:
    """The counter, those of single tags as `tag:*`."""
    return ALL_IMPLICIT if is_implicit(counter) else counter


def check_counter_of(counter: str, tags: Sequence[str]) -> str:
    """Return `counter` if these tags may be reported on it: a named one, or the only tag's own."""
    if not is_implicit(counter):
        return check_counter(counter)
    tag = counter.removeprefix(IMPLICIT_PREFIX)
    if list(tags) != [tag]:
        raise InvalidNameError(f"on counter {counter!r} only the tag {tag!r} may be reported, by itself")
    if counter == ALL_IMPLICIT:
        raise InvalidNameError(f"counter {counter!r} stands for those of all tags; report {tag!r} on a named counter")
    return counter


@lru_cache(maxsize=4096)
def check_any_counter(name: str) -> str:
    """Return `name` if it can name a counter that is there: a named one, a tag's own, or the tags' own together."""
    if not is_implicit(name):
        return check_counter(name)
    check_tag(name.removeprefix(IMPLICIT_PREFIX))
    return name


def check_kind(name: str) -> str:
    """Return `name` if it can be the kind of a tag (TensorBoard's plugin name)."""
    return _check_text("kind", name, limits.KIND_BYTES_MAX)


def check_title(title: str) -> str:
    """Return `title` if it can be an alert's, a line of text, else raise InvalidNameError."""
    return _check_text("title", title, limits.ALERT_TITLE_BYTES_MAX)


def check_producer(name: str) -> str:
    """Return `name` if it can be a producer's id, else raise InvalidNameError."""
    return _check_text("producer", name, limits.PRODUCER_BYTES_MAX)


def _check_segment(name: str, segment: str) -> None:
    if not segment or segment != segment.strip():
        raise InvalidNameError(f"run name {name!r} has a part that is empty or begins or ends with a space")
    if segment.startswith("."):
        raise InvalidNameError(f"run name {name!r} has the part {segment!r}; no part may begin with '.'")
    if "tfevents" in segment:
        raise InvalidNameError(f"run name {name!r}: 'tfevents' is reserved for event files")
    if len(segment.encode()) > limits.RUN_SEGMENT_BYTES_MAX:
        raise InvalidNameError(f"run name {name[:80]!r}… has a part longer than {limits.RUN_SEGMENT_BYTES_MAX} bytes")


def _check_text(what: str, text: str, bytes_max: int) -> str:
    if not text:
        raise InvalidNameError(f"{what} must not be empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidNameError(f"{what} {text!r} is not valid UTF-8 (a lone surrogate)") from error
    if size > bytes_max:
        raise InvalidNameError(f"{what} {text[:80]!r}… has {size} bytes; at most {bytes_max}")
    if _CONTROL.search(text):
        raise InvalidNameError(f"{what} {text!r} contains a control character")
    return text

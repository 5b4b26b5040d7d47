"""The tags of a run as its event files tell of them: kinds, metadata, names that had to be mended, counters."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from tallyboard.logdir.mends import Mends
from tallyboard.wire import InvalidNameError, check_tag, implicit_counter, limits, protos, summaries, tensors
from tallyboard.wire.events import Value
from tallyboard.wire.names import check_counter_of
from tallyboard.wire.protos import MalformedError

_UNUSABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DIGEST_CHARS: Final = 8


class CounterRule(NamedTuple):
    """Tags that match a pattern (`*`, `?`, `[…]`) count on a shared counter."""

    pattern: str
    counter: str


@dataclass(slots=True, frozen=True)
class Tag:
    """A tag as it is reported. kind, metadata: as of its first point. own: the counter is its own."""

    name: str
    kind: str
    metadata: bytes
    counter: str
    own: bool


class Point(NamedTuple):
    """A value under its tag (the index of it): a number, or a blob."""

    tag: int
    number: float | None
    blob: bytes


class Tags:
    """The tags of one run, counted from 0 in order of appearance; one that has two kinds counts as two."""

    def __init__(self, rules: Sequence[CounterRule], mends: Mends) -> None:
        self._rules = tuple(rules)
        self._mends = mends
        self._ids: dict[tuple[str, str], int] = {}
        self._first: dict[str, int] = {}
        self._counters: dict[str, int] = {}
        self.counter_ids: list[int] = []
        """Of each tag's counter: the counters counted from 0."""
        self.tags: list[Tag] = []

    def know(self, name: str, kind: str) -> None:
        """The service has a tag of this kind already, so that later points need not say it."""
        self._id(name, kind, summaries.plain_metadata(kind))

    def point(self, value: Value) -> Point | None:
        """A value of an Event under its tag; None if it has none of the known contents. Raises MalformedError."""
        if value.number is not None:
            return Point(self._id(value.tag, summaries.SCALARS, b""), value.number, b"")
        metadata, blob = value.metadata, bytes(value.blob)
        first = self._first.get(value.tag)
        told = summaries.read_metadata(metadata)
        if not metadata and first is not None:
            metadata, kind = self.tags[first].metadata, self.tags[first].kind
        elif told.is_scalar:
            kind = summaries.SCALARS
        else:
            kind = summaries.kind_of(told, summaries.blob_field(blob)) if blob else told.plugin
        if not blob:
            if kind != summaries.HPARAMS:
                return None
            blob = summaries.EMPTY_TENSOR
        if kind == summaries.SCALARS:
            return Point(self._id(value.tag, kind, b""), _number(blob), b"")
        summaries.blob_field(blob)
        return Point(self._id(value.tag, kind, metadata), None, blob)

    def _id(self, name: str, kind: str, metadata: bytes) -> int:
        found = self._ids.get((name, kind))
        if found is None:
            found = len(self.tags)
            tag = self._made(name, kind, metadata)
            self.tags.append(tag)
            self.counter_ids.append(self._counters.setdefault(tag.counter, len(self._counters)))
            self._ids[name, kind] = found
            self._first.setdefault(name, found)
        return found

    def _made(self, name: str, kind: str, metadata: bytes) -> Tag:
        usable = mended_tag(name)
        if usable != name:
            self._mends.add("tag_renamed", example=f"{name[:80]!r} became {usable!r}")
        counter = next((rule.counter for rule in self._rules if fnmatchcase(usable, rule.pattern)), None)
        own = counter is None
        return Tag(usable, kind, metadata, implicit_counter(usable) if counter is None else counter, own)


def mended_tag(name: str) -> str:
    """The tag itself if it can be one, else what can be kept of it and eight characters of its hash."""
    try:
        check_counter_of(implicit_counter(check_tag(name)), (name,))
    except InvalidNameError:
        return mended(name, limits.TAG_BYTES_MAX)
    return name


def mended(text: str, bytes_max: int, clean: str | None = None) -> str:
    """Text without characters that no name may have, cut to a length, and told apart by the hash of what it was.

    clean: what else had to be done to it already.
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGEST_CHARS]
    clean = _UNUSABLE.sub("_", text if clean is None else clean).strip()
    room = bytes_max - _DIGEST_CHARS - 1
    return f"{clean.encode()[:room].decode('utf-8', 'ignore').rstrip()}~{digest}"


def _number(blob: bytes) -> float:
    (content,) = protos.read_fields(memoryview(blob), "the value", fields_max=1)
    if content.number != summaries.TENSOR_FIELD:
        raise MalformedError("a scalar that is neither simple_value nor tensor")
    return tensors.scalar_of(content.data)

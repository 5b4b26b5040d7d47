"""What a reader has seen of a run, and what is new to it: so that a live page fetches only that."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tallyboard_server.model import Counter, RunState, Tag
from tallyboard_server.series.history import History
from tallyboard_server.series.question import Line

LineKey = tuple[int, int, int]
"""(tag id, counter id, attempt) of a superseded line; (tag id, 0, 0) of a visible one."""


@dataclass(slots=True, frozen=True)
class SeenLine:
    """last_step: the newest that was seen, -1 if none. by_time: x was found by time, so whatever other counters do may
    have changed any of it. version: of a superseded line, what else it hangs on; see `_version`."""

    last_step: int
    by_time: bool = False
    version: int = 0


@dataclass(slots=True, frozen=True)
class Seen:
    """What was seen of a run: at which epoch and position, and of each line how far."""

    run_id: int
    epoch: int
    pos: int
    lines: Mapping[LineKey, SeenLine] = field(default_factory=dict)


class News:
    """Tells what of a run is new to a reader. To be asked once; `seen` None: everything is."""

    def __init__(self, state: RunState, seen: Seen | None) -> None:
        self._state = state
        self._same = seen is not None and (seen.run_id, seen.epoch) == (state.id, state.epoch)
        self._seen = seen.lines if seen is not None and self._same else {}
        self._unmoved = seen is not None and self._same and seen.pos == state.pos
        self._kept: dict[LineKey, SeenLine] = {}
        self._appended: set[LineKey] = set()

    def wanted(self, tag: Tag, history: History) -> int | None:
        """After which step of a line something is new: -1 all of it, None nothing. See lines.Wanted."""
        key = _key(tag.id, history.counter, None if history.superseded is None else history.superseded.number)
        seen = self._seen.get(key)
        if seen is None:
            return -1
        moved = seen.by_time and not self._unmoved
        if history.superseded is not None:
            same = seen.version == _version(history.counter, history.superseded.number)
        else:
            same = self._unmoved
        if same and not moved:
            self._kept[key] = seen
            return None
        if moved or history.superseded is not None:
            return -1
        self._kept[key] = seen
        self._appended.add(key)
        return seen.last_step

    def is_append(self, line: Line) -> bool:
        """Whether a line that was read goes on where the reader's ends; else it replaces that."""
        return self._key_of(line) in self._appended

    def now_seen(self, lines: Iterable[Line]) -> Seen:
        """What the reader has seen once it has the lines that were read."""
        found = dict(self._kept)
        for line in lines:
            key = self._key_of(line)
            before = found.get(key)
            last = line.last_step if before is None else max(line.last_step, before.last_step)
            superseded = line.superseded
            version = 0 if superseded is None else _version(self._state.counters[line.counter], superseded)
            found[key] = SeenLine(last, line.x_source == "as_of_time", version)
        return Seen(self._state.id, self._state.epoch, self._state.pos, found)

    def gone(self, seen: Seen, now: Seen) -> list[LineKey]:
        """What the reader has of this run and is there no more."""
        return [key for key in seen.lines if key not in now.lines] if seen.run_id == now.run_id else []

    def _key_of(self, line: Line) -> LineKey:
        return _key(self._state.tags[line.tag].id, self._state.counters[line.counter], line.superseded)


def _key(tag_id: int, counter: Counter, superseded: int | None) -> LineKey:
    return (tag_id, 0, 0) if superseded is None else (tag_id, counter.id, superseded)


def _version(counter: Counter, superseded: int) -> int:
    """What a superseded line hangs on: it grows with whatever its attempt and those before it get or lose."""
    return sum(attempt.scalars + attempt.pruned_scalars for attempt in counter.attempts[:superseded])

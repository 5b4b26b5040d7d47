"""The run as a batch changes it, part by part; frozen into a new state when all parts have passed."""

from collections.abc import Mapping
from types import MappingProxyType

from tallyboard.wire import is_implicit
from tallyboard_server.contract.errors import LimitError
from tallyboard_server.contract.types import RunLimits
from tallyboard_server.model import POSITION_MAX, Block, Counter, Producer, RunMeta, RunState, Tag


class Draft:
    """A state under change. A mapping is copied when something in it first changes, never before."""

    __slots__ = (
        "_counters",
        "_named",
        "_names",
        "_tags",
        "before",
        "blocks",
        "counters",
        "epoch",
        "limits",
        "meta",
        "pos",
        "producers",
        "rewinds",
        "tags",
        "warnings",
    )

    def __init__(self, state: RunState, limits: RunLimits) -> None:
        self.before = state
        self.limits = limits
        self.meta: RunMeta = state.meta
        self.pos = state.pos
        self.epoch = state.epoch
        self.rewinds = state.rewinds
        self.counters: Mapping[str, Counter] = state.counters
        self.tags: Mapping[str, Tag] = state.tags
        self.producers: Mapping[str, Producer] = state.producers
        self.blocks: list[Block] = []
        self.warnings: list[str] = []
        self._counters: dict[str, Counter] | None = None
        self._tags: dict[str, Tag] | None = None
        self._names: dict[int, str] | None = None
        self._named: int | None = None

    def put_counter(self, counter: Counter) -> None:
        """Add or replace a counter."""
        if self._counters is None:
            self._counters = dict(self.counters)
            self.counters = self._counters
        if self._names is not None:
            self._names[counter.id] = counter.name
        if self._named is not None and counter.name not in self._counters and not counter.is_implicit:
            self._named += 1
        self._counters[counter.name] = counter

    @property
    def free_counters(self) -> int:
        """How many more counters the run may have; those of single tags are bounded with the tags."""
        if self._named is None:
            self._named = sum(not is_implicit(name) for name in self.counters)
        return self.limits.counters - self._named

    def put_tag(self, tag: Tag) -> None:
        """Add or replace a tag."""
        if self._tags is None:
            self._tags = dict(self.tags)
            self.tags = self._tags
        self._tags[tag.name] = tag

    def add_counter(self, name: str) -> Counter:
        """The counter of that name, created without attempts if absent. Raises LimitError."""
        counter = self.counters.get(name)
        if counter is None:
            if not is_implicit(name) and self.free_counters < 1:
                raise LimitError(
                    f"counter {name!r} would be one more than the {self.limits.counters} of a run; "
                    "use one of its counters, or another run"
                )
            if len(self.counters) >= self.limits.counters + self.limits.tags:
                raise LimitError(f"counter {name!r} would be one too many: there are as many as a run may have tags")
            counter = Counter(len(self.counters) + 1, name)
            self.put_counter(counter)
        return counter

    def next_pos(self) -> int:
        """The journal position of the next block. Raises LimitError if there is none."""
        if self.pos >= POSITION_MAX:
            raise LimitError(
                f"run {self.before.name!r} has all the {POSITION_MAX:,} journal blocks that a run can have; "
                "report to a new run"
            )
        self.pos += 1
        return self.pos

    def counter_by_id(self, counter_id: int) -> Counter:
        """The counter with that id."""
        if self._names is None:
            self._names = {counter.id: name for name, counter in self.counters.items()}
        return self.counters[self._names[counter_id]]

    def freeze(self) -> RunState:
        """The state as it now is. The draft must not be changed afterwards."""
        before = self.before
        return RunState(
            before.id,
            before.name,
            self.meta,
            self.pos,
            self.epoch,
            before.counters if self._counters is None else MappingProxyType(self._counters),
            before.tags if self._tags is None else MappingProxyType(self._tags),
            self.producers,
            self.rewinds,
        )

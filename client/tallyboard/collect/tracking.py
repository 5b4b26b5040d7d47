"""What the client knows of a counter, and the rules of the step contract that can be told from that alone.

The server is the judge; this finds early what it would refuse, so that the warning names the line that did it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tallyboard.wire import Reason, names

if TYPE_CHECKING:
    from tallyboard.collect.lanes import Lane

NOTHING: Final = -1
"""`last` of a counter that holds no report."""
_NOWHERE: Final = (NOTHING, None, b"")
_BUSY: Final[tuple[int, tuple[int, ...] | None]] = (0, None)


@dataclass(slots=True, frozen=True)
class Violation:
    """A rule that a report breaks. `apart`: it has to be sent after the rows before it, in a batch of its own."""

    reason: Reason
    detail: str
    apart: bool


class CounterState:
    """A counter as this process sees it; guarded by the recorder's lock.

    value: what the counter says. moved: someone moved it (increment, set, an explicit step); until then it counts
    the reports without a step. last: the largest step reported (by the server's word too), NOTHING before.
    start: the least step that may be reported (after a rewind). active: it has a value. accompanies: which is worth
    recording as `at` beside the others' reports: not of a tag's own, nor of the machine's.
    origin: the value at which it was last put (0, by a rewind or a resume), and puts: how often. placed: somebody
    said where the job stands on it: a rewind, a set, an explicit step, the server. server_last: where a continued run
    stood. unclaimed: another writer may hold it, so it has to be taken over before this one reports. implicit: it is
    one tag's own, which has no value that anybody moves: reports without a step simply count on. idle: of reports that
    brought nothing, see Standing.
    """

    __slots__ = (
        "accompanies", "active", "idle", "implicit", "last", "moved", "name", "origin", "placed", "puts",
        "reached", "server_last", "start", "tail", "total", "unclaimed", "value",
    )  # fmt: skip

    def __init__(self, name: str, total: int | None = None, *, unclaimed: bool = False) -> None:
        self.name = name
        self.total = total
        self.value = 0
        self.origin = 0
        self.puts = 0
        self.moved = False
        self.active = False
        self.placed = False
        self.server_last = NOTHING
        self.unclaimed = unclaimed
        self.implicit = names.is_implicit(name)
        self.accompanies = not self.implicit and name != names.SYSTEM_COUNTER
        self.last = NOTHING
        self.start = 0
        # In one piece each, with the step that it is about, because a signal handler may report on the counter, too:
        self.reached: tuple[int, Lane | None, bytes] = _NOWHERE  # lane and row that first reached `last`, and the tags
        self.tail: tuple[int, dict[str, int]] = NOTHING, {}  # there as bit patterns, once a second report comes there
        self.idle = _BUSY

    def next_step(self) -> int:
        """Where a job that is resumed from here goes on: past the value, if that was reported already."""
        return self.value + 1 if self.last >= self.value and self.last != NOTHING else self.value

    def upcoming(self) -> int:
        """The step of a report that names none."""
        if self.implicit:
            return max(self.last + 1, self.origin)
        return self.value if self.moved else self.value + 1

    def put(self, value: int) -> None:
        """Stand at a value without having counted up to it."""
        self.value = self.origin = value
        self.puts += 1
        self.idle = _BUSY
        self.active = True
        self.placed = True

    def rewind(self, next_step: int) -> None:
        """Go back: the next report stands at next_step or later. The value is the step before it (or 0)."""
        self.put(max(next_step - 1, 0))
        self.unclaimed = False
        self.server_last = NOTHING
        self.start = next_step
        self.last = next_step - 1
        self.reached = _NOWHERE
        self.tail = NOTHING, {}

    def adopt(self, last_step: int) -> bool:
        """Go on where the server says that the counter stands, unless this process was told where it does.

        Returns False if it counted from 0 without having been told: what it reported bears wrong steps.
        """
        if not self.placed:
            if self.value or self.last != NOTHING:
                return False
            self.put(last_step)
        if self.unclaimed:  # else it was rewound, or reported already and the server refuses what lies below
            self.server_last = last_step
            self.last = max(self.last, last_step)
        return True

    def check(self, step: int, lane: "Lane", row: bytes) -> Violation | None:
        """The rule that a report would break, for steps that do not increase. Changes nothing."""
        if step < self.start or step < self.last:
            return Violation("step_decreased", self._decreased(step), apart=True)
        if step > self.last:
            return None
        tail = self._tail()
        for tag, bits in zip(lane.tags, lane.unpack_bits(row), strict=True):
            if tail.get(tag, bits) != bits:
                # Rows of one lane keep their order on the server; those of different lanes need not.
                return Violation("tag_repeated", self._repeated(tag, step), apart=self.reached[1] is not lane)
        return None

    def accept(self, step: int, lane: "Lane", row: bytes) -> bool:
        """Take note of a report that `check` found nothing wrong with. Returns whether it held a tag not there yet."""
        if step > self.last:
            self.reached = step, lane, row
            self.last = step
            fresh = True
        else:
            tail = self._tail()
            before = len(tail)
            tail.update(zip(lane.tags, lane.unpack_bits(row), strict=True))
            if self.reached[1] is not lane:
                self.reached = step, None, b""
            if fresh := len(tail) > before:
                self.idle = _BUSY
        self.active = True
        return fresh

    def holds(self, step: int, lane: "Lane") -> bool:
        """Whether a refused report had nothing new: its tags stand at the step already, or it lies before a rewind."""
        return step < self.start or (step == self.last and self._tail().keys() >= set(lane.tags))

    @property
    def stands(self) -> bool:
        """Whether it has not moved from where it began, or was last put."""
        return self.value == self.origin >= self.last

    def _tail(self) -> dict[str, int]:
        last = self.last
        known, tail = self.tail
        if known != last:
            step, lane, row = self.reached
            bits = () if lane is None or step != last else zip(lane.tags, lane.unpack_bits(row), strict=True)
            tail = dict(bits)
            self.tail = last, tail
        return tail

    def _decreased(self, step: int) -> str:
        floor = f"the rewind to {self.start}" if self.last < self.start else f"step {self.last}"
        if self.implicit:
            return (
                f"{self._tag!r} goes back: step {step} after {floor}. Steps of a tag never decrease; to go back on"
                f" purpose, say SummaryWriter(…, purge_step={max(step, 0)}) or run.rewind"
            )
        return (
            f"{self.name} goes back: step {step} after {floor}. Steps never decrease; to go back on purpose,"
            f' call run.rewind({{"{self.name}": {max(step, 0)}}})'
        )

    @property
    def _tag(self) -> str:
        return self.name.removeprefix(names.IMPLICIT_PREFIX)

    def _repeated(self, tag: str, step: int) -> str:
        if self.implicit:
            return f"{tag!r} was reported at step {step} already, with another value. Does its step move on?"
        return (
            f"{tag!r} was reported at {self.name} {step} already, with another value. Is {self.name} being"
            " incremented? If it counts something else, give that a counter of its own"
        )

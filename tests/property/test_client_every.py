"""However a counter moves, `every` is true exactly when it has come to, or passed, the next step that it waits for."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.wire import CounterValue
from tests.unit.client_kit import recorded


@dataclass(frozen=True)
class Increment:
    by: int


@dataclass(frozen=True)
class Set:
    step: int


@dataclass(frozen=True)
class Log:
    """A report at a step of its own."""

    step: int


@dataclass(frozen=True)
class Rewind:
    next_step: int


@dataclass(frozen=True)
class Load:
    value: int


@dataclass(frozen=True)
class Every:
    n: int


STEPS = st.integers(0, 300)
MOVES = st.one_of(
    st.builds(Increment, st.sampled_from([1, 1, 1, 2, 7, 64])),
    st.builds(Set, STEPS),
    st.builds(Log, STEPS),
    st.builds(Rewind, STEPS),
    st.builds(Load, STEPS),
    st.builds(Every, st.sampled_from([1, 2, 5, 50, 100])),
    st.builds(Every, st.integers(1, 120)),
)


@dataclass
class Reference:
    """Step by step: the value, and for each n the last step from which its next mark is looked for."""

    value: int = 0
    put_at: int = 0
    seen: dict[int, int] = field(default_factory=dict)
    true_at: dict[int, int] = field(default_factory=dict)

    def put(self, value: int) -> None:
        self.value = self.put_at = value
        self.seen, self.true_at = {}, {}

    def every(self, n: int) -> bool:
        if self.true_at.get(n) == self.value:  # asked again
            return True
        for step in range(self.seen.get(n, self.put_at) + 1, self.value + 1):
            if step in range(1, self.value + 1, n):
                self.seen[n] = self.true_at[n] = self.value
                return True
        return False


@settings(deadline=None, max_examples=600)
@given(st.lists(MOVES, max_size=60), st.one_of(st.none(), STEPS))
def test_every_is_what_it_says(moves: Sequence[Any], adopted: int | None) -> None:
    mine, reference = recorded(resumed=adopted is not None), Reference()
    if adopted is not None:
        mine.recorder.adopt({"global_step": CounterValue(adopted, 1)})
        reference.put(adopted)
    c = mine.run.counter()
    for move in moves:
        match move:
            case Increment(by):
                c.increment(by)
                reference.value += by
            case Set(step):
                c.set(step)
                reference.value = step
            case Log(step):
                mine.log({"loss": float(step)}, step)
                reference.value = max(reference.value, step)
            case Rewind(next_step):
                mine.run.rewind({"global_step": next_step})
                reference.put(max(next_step - 1, 0))
            case Load(value):
                mine.run.load_state_dict({"global_step": {"value": value, "next_step": value + 1, "moved": True}})
                reference.put(value)
            case Every(n):
                assert c.every(n) is reference.every(n), (n, c.value)
        assert c.value == reference.value


@settings(deadline=None)
@given(st.integers(1, 150), st.sampled_from([1, 2, 3, 64, 137]), st.one_of(st.just(0), STEPS))
def test_asked_at_each_step_it_is_true_at_the_first_at_or_after_each_mark(n: int, by: int, begin: int) -> None:
    mine = recorded()
    mine.run.load_state_dict({"global_step": {"value": begin, "next_step": begin + 1, "moved": True}})
    c = mine.run.counter()
    true_at = [c.value for _ in range(200) if c.increment(by) and c.every(n)]
    values = range(begin + by, begin + 200 * by + 1, by)
    marks = (mark for mark in range(1, values[-1] + 1, n) if mark > begin)
    assert true_at == sorted({next(value for value in values if value >= mark) for mark in marks})

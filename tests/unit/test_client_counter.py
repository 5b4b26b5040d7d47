"""Counters as trainers use them, without a server."""

import pytest

from tallyboard.counter import Counter
from tallyboard.errors import ConfigurationError, InvalidReportError
from tests.unit.client_kit import Recorded, recorded


def counter(mine: Recorded, name: str = "global_step") -> Counter:
    return mine.run.counter(name)


def test_it_starts_at_0_and_is_1_after_the_first_update() -> None:
    c = counter(recorded())
    assert c.value == 0
    assert c.increment() == 1
    assert c.increment(by=64) == 65
    c.set(100)
    assert (c.value, int(c.__index__()), c.name) == (100, 100, "global_step")


def test_logging_without_a_step_takes_the_value() -> None:
    mine = recorded()
    c = counter(mine)
    c.log({"loss": 0.5})  # nobody has moved it: it counts the calls
    c.log({"loss": 0.4})
    c.increment()
    c.log({"loss": 0.3})
    c.log({"acc": 0.9})
    assert [(step, list(scalars)) for _, step, scalars, _ in mine.rows()] == [
        (1, ["loss"]), (2, ["loss"]), (3, ["loss"]), (3, ["acc"]),
    ]  # fmt: skip


def test_counting_starts_at_the_moved_counter() -> None:
    mine = recorded()
    c = counter(mine)
    mine.log({"loss": 1.0}, 7)
    assert c.value == 7
    mine.log({"acc": 1.0})
    assert [step for _, step, _, _ in mine.rows()] == [7, 7]


@pytest.mark.parametrize(
    ("n", "by", "expected"),
    [(100, 1, [1, 101, 201]), (100, 64, [64, 128, 256]), (1, 1, list(range(1, 301))), (1000, 1, [1])],
)
def test_every(n: int, by: int, expected: list[int]) -> None:
    c = counter(recorded())
    assert c.every(n) is False
    true_at = []
    while c.value + by <= 300:
        c.increment(by)
        if c.every(n):
            true_at.append(c.value)
    assert true_at == expected


def test_every_answers_the_same_until_the_counter_moves() -> None:
    c = counter(recorded())
    c.increment()
    assert [c.every(10), c.every(10), c.every(5)] == [True, True, True]
    c.increment()
    assert [c.every(10), c.every(5)] == [False, False]


def test_every_is_asked_now_and_then_and_misses_nothing() -> None:
    c = counter(recorded())
    true_at = []
    for _ in range(30):
        c.increment(by=7)
        if c.value % 2 == 0 and c.every(50):
            true_at.append(c.value)
    assert true_at == [14, 56, 112, 154, 210]


def test_every_right_after_a_resume() -> None:
    mine = recorded()
    c = counter(mine)
    for _ in range(250):
        c.increment()
        c.every(100)
    mine.recorder.rewind({"global_step": 138}, "", {})
    assert (c.value, c.every(100)) == (137, False)
    true_at = [c.value for _ in range(200) if c.increment() and c.every(100)]
    assert true_at == [201, 301]


def test_log_every_logs_at_these_steps_and_makes_nothing_at_others() -> None:
    mine = recorded(strict=True)
    c, made = counter(mine), []

    def norms() -> dict[str, float]:
        made.append(c.value)
        return {"norm": 1.0}

    logged = []
    for _ in range(250):
        c.increment()
        if c.log_every(100, {"loss": 0.5}):
            logged.append(c.value)
        assert c.log_every(100, norms) is (c.value in logged)
    assert logged == made == [1, 101, 201]
    assert sorted((tag, step) for _, step, scalars, _ in mine.rows() for tag in scalars) == [
        (tag, step) for tag in ("loss", "norm") for step in logged
    ]


def test_what_a_function_raises_is_the_trainings_own() -> None:
    c = counter(recorded())
    c.increment()
    with pytest.raises(ZeroDivisionError):
        c.log_every(100, lambda: {"loss": 1 / 0})
    with pytest.raises(ValueError, match="at least 1"):
        c.log_every(0, {"loss": 1.0})


def test_every_counts_steps() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        counter(recorded()).every(0)


def test_moving_to_what_is_no_step_warns_and_moves_nothing() -> None:
    mine = recorded()
    c = counter(mine)
    c.increment(by=5)
    c.set(-1)
    c.set(2.5)  # type: ignore[arg-type]
    c.increment(by=-9)
    assert c.value == 5
    assert len(mine.ears.heard) == 3
    assert "test_client_counter.py" in mine.ears.heard[0]
    with pytest.raises(InvalidReportError):
        counter(recorded(strict=True)).set(-1)


def test_counters_are_made_once_and_know_their_total() -> None:
    mine = recorded()
    run = mine.run
    assert run.counter("epoch") is run.counter("epoch", total=10)
    assert run.counter("epoch").total == 10
    (section,) = mine.recorder.take()
    assert section.open is not None
    assert (section.open.resume, section.open.counters["epoch"].total) == ("new", 10)
    with pytest.raises(ValueError, match="axis"):
        run.counter("wall_time")


def test_a_checkpoint_holds_every_counter_exactly() -> None:
    mine = recorded()
    run = mine.run
    step, epoch = run.counter("global_step"), run.counter("epoch")
    run.counter("never_used")
    step.increment(by=1000)
    step.log({"loss": 0.5})
    epoch.increment(by=4)
    state = run.state_dict()
    assert state == {
        "global_step": {"value": 1000, "next_step": 1001, "moved": True},
        "epoch": {"value": 4, "next_step": 4, "moved": True},
    }
    mine.recorder.take()

    other = recorded()
    resumed = other.run
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    (section,) = other.recorder.take()
    assert section.rewind is not None
    assert section.rewind.next_steps == {"global_step": 1001, "epoch": 4}
    assert resumed.counter().increment() == 1001
    resumed.log({"loss": 0.4})
    resumed.log({"val": 0.4}, counter="epoch")
    assert [(name, at) for name, at, _, _ in other.rows()] == [("global_step", 1001), ("epoch", 4)]
    assert other.ears.heard == []


def test_a_checkpoint_of_counted_calls_goes_on_counting() -> None:
    mine = recorded()
    for _ in range(3):
        mine.log({"loss": 1.0})
    state = mine.run.state_dict()
    assert state == {"global_step": {"value": 3, "next_step": 4, "moved": False}}
    other = recorded()
    other.run.load_state_dict(state)
    other.log({"loss": 1.0})
    assert [step for _, step, _, _ in other.rows()] == [4]


@pytest.mark.parametrize("state", [{"a": 1}, {"a": {"value": 1}}, {"a": {"value": -1, "next_step": 0, "moved": True}}])
def test_what_is_no_checkpoint_changes_nothing(state: dict) -> None:  # type: ignore[type-arg]
    mine = recorded()
    with pytest.raises(ConfigurationError):
        mine.run.load_state_dict(state)
    assert mine.recorder.take() == []


@pytest.mark.parametrize(("next_step", "value"), [(1000, 999), (1, 0), (0, 0)])
def test_a_rewind_puts_the_value_before_its_next_step(next_step: int, value: int) -> None:
    mine = recorded()
    run = mine.run
    run.counter().increment(by=2000)
    run.rewind({"global_step": next_step}, "resumed")
    assert run.counter().value == value


@pytest.mark.parametrize("next_steps", [{}, {"global_step": -1}, {"global_step": 1.5}, {"wall_time": 1}, {"a\n": 1}])
def test_a_rewind_to_nowhere_is_refused_at_once(next_steps: dict[str, int]) -> None:
    mine = recorded()
    with pytest.raises(ConfigurationError):
        mine.run.rewind(next_steps)
    assert mine.recorder.take() == []

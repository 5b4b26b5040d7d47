"""The forgotten increment: what is said when a counter never moves, and when nothing is."""

from collections.abc import Callable

import pytest

from tallyboard.collect import standing
from tallyboard.collect.standing import TIMES_MAX
from tallyboard.errors import TagRepeatedError
from tallyboard.wire import CounterValue
from tests.unit.client_kit import Recorded, recorded

RATE = {"learning_rate": 0.1}


def asked(mine: Recorded) -> list[str]:
    """The questions that were asked of whoever trains."""
    return [text for text in mine.ears.heard if "is it being incremented?" in text]


def test_a_step_that_never_comes_is_asked_about_once() -> None:
    mine = recorded()
    c = mine.run.counter()
    for i in range(3 * TIMES_MAX):
        mine.log(RATE, c.value)
        assert len(asked(mine)) == (i >= TIMES_MAX - 1), i
    (text,) = mine.ears.heard
    assert text.startswith("global_step has been 0 for 10 reports; is it being incremented?")
    assert 'run.counter("global_step").increment()' in text
    assert "test_client_standing.py:" in text
    assert mine.tally.stats().violations == 0


def test_a_counter_that_was_set_to_where_it_is_stands_too() -> None:
    mine = recorded()
    c = mine.run.counter("steps")
    c.set(0)
    for _ in range(TIMES_MAX):
        c.log(RATE)
    assert asked(mine)[0].startswith("steps has been 0")


def test_values_that_differ_are_refused_and_asked_about() -> None:
    mine = recorded()
    for i in range(TIMES_MAX):
        mine.log({"loss": 1 / (i + 1)}, 0)
    assert len(asked(mine)) == 1
    assert mine.tally.stats().violations == TIMES_MAX - 1
    assert len(mine.ears.heard) == 2


def test_texts_are_counted_as_well() -> None:
    mine = recorded()
    run = mine.run
    for _ in range(TIMES_MAX):
        run.log_text("sample", "to be", 0)
    assert len(asked(mine)) == 1


def test_a_strict_run_raises_what_it_would_have_raised() -> None:
    mine = recorded(strict=True)
    for _ in range(2 * TIMES_MAX):
        mine.log(RATE, 0)
    assert len(asked(mine)) == 1
    with pytest.raises(TagRepeatedError):
        mine.log({"learning_rate": 0.2}, 0)


@pytest.mark.parametrize("resume", ["adopted", "rewound", "loaded"])
def test_it_stands_where_it_was_put(resume: str) -> None:
    mine = recorded(resumed=resume == "adopted")
    run = mine.run
    match resume:
        case "adopted":
            mine.recorder.adopt({"global_step": CounterValue(137, 1)})
        case "rewound":
            run.rewind({"global_step": 138})
        case "loaded":
            run.load_state_dict({"global_step": {"value": 137, "next_step": 138, "moved": True}})
    c = run.counter()
    for _ in range(TIMES_MAX):
        mine.log(RATE, c.value)
    assert asked(mine)[0].startswith("global_step has been 137 for 10 reports")


def test_a_rewind_begins_a_new_row() -> None:
    mine = recorded()
    for _ in range(TIMES_MAX - 1):
        mine.log(RATE, 0)
    mine.run.rewind({"global_step": 0})
    for i in range(TIMES_MAX):
        assert asked(mine) == [], i
        mine.log(RATE, 0)
    assert len(asked(mine)) == 1


# ── no false alarms ──────────────────────────────────────────────────────────────────────────────────────────────


def counts_calls(mine: Recorded) -> None:
    mine.log(RATE)


def moves(mine: Recorded) -> None:
    mine.run.counter().increment()
    mine.log(RATE)


def fills_in_other_tags(mine: Recorded) -> None:
    fills_in_other_tags.i += 1  # type: ignore[attr-defined]
    mine.log({f"layer{fills_in_other_tags.i}": 0.5}, 0)  # type: ignore[attr-defined]


fills_in_other_tags.i = 0  # type: ignore[attr-defined]


def tells_the_epoch_before_its_first_increment(mine: Recorded) -> None:
    run = mine.run
    run.counter().increment()
    mine.log({"epoch": run.counter("epoch").value}, run.counter("epoch").value, counter="epoch")


def tells_a_later_epoch(mine: Recorded) -> None:
    epoch = mine.run.counter("epoch")
    if not epoch.value:
        epoch.increment()
    mine.log({"epoch": epoch.value}, epoch.value, counter="epoch")


def tells_an_epoch_that_moved_before_the_resume(mine: Recorded) -> None:
    epoch = mine.run.counter("epoch")
    if not epoch.value:
        mine.run.rewind({"epoch": 4})
        epoch.increment()
    mine.log({"epoch": epoch.value}, epoch.value, counter="epoch")


def sets_it_back(mine: Recorded) -> None:
    c = mine.run.counter()
    c.set(5)
    mine.log(RATE)
    c.set(0)
    mine.log(RATE)


def repeats_a_tag_that_has_its_own_counter(mine: Recorded) -> None:
    mine.log({"loss": 0.5}, 0, counter="tag:loss")


def repeats_the_machines_figures(mine: Recorded) -> None:
    mine.log({"gpu": 0.5}, 0, counter="system")


@pytest.mark.parametrize(
    "step",
    [
        counts_calls, moves, fills_in_other_tags, tells_the_epoch_before_its_first_increment, tells_a_later_epoch,
        tells_an_epoch_that_moved_before_the_resume, sets_it_back, repeats_a_tag_that_has_its_own_counter,
        repeats_the_machines_figures,
    ],
)  # fmt: skip
def test_nobody_is_asked_of_a_training_that(step: Callable[[Recorded], None]) -> None:
    mine = recorded()
    for _ in range(3 * TIMES_MAX):
        step(mine)
    assert asked(mine) == []


def test_the_machines_counter_ends_no_row() -> None:
    mine = recorded()
    for _ in range(TIMES_MAX):
        mine.log({"gpu": 0.5}, counter="system")
        mine.log(RATE, 0)
    assert len(asked(mine)) == 1


# ── readings ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_readings_in_a_row_are_asked_about_once() -> None:
    mine = recorded()
    c = mine.run.counter()
    for i in range(2 * TIMES_MAX):
        c.note_reading("learning_rate")
        assert len(asked(mine)) == (i >= TIMES_MAX - 1)
    assert asked(mine)[0].startswith("global_step has been 0 for 10 readings of learning_rate; ")
    for _ in range(2 * TIMES_MAX):
        mine.log(RATE, 0)
    assert len(mine.ears.heard) == 1


def test_each_reader_has_a_row_of_its_own() -> None:
    mine = recorded()
    c = mine.run.counter()
    for i in range(TIMES_MAX - 1):
        for reader in ("learning_rate", "momentum", "temperature"):
            c.note_reading(reader)
        assert mine.ears.heard == [], i
    c.note_reading("momentum")
    assert len(asked(mine)) == 1


@pytest.mark.parametrize("event", ["moves", "another moves", "is put"])
def test_a_row_of_readings_ends_when(event: str) -> None:
    mine = recorded()
    c, other = mine.run.counter("epoch"), mine.run.counter()
    for i in range(4 * TIMES_MAX):
        c.note_reading("learning_rate")
        if i % (TIMES_MAX - 1) == 0:
            match event:
                case "moves":
                    c.increment()
                case "another moves":
                    other.increment()
                case "is put":
                    mine.run.rewind({"epoch": 1})
    assert mine.ears.heard == []


def test_readers_are_bounded() -> None:
    mine = recorded()
    c = mine.run.counter()
    for i in range(2 * standing.READERS_MAX + 5):
        c.note_reading(f"schedule{i}")
    assert len(mine.recorder._standing._readings) <= standing.READERS_MAX
    assert mine.ears.heard == []


def test_a_run_that_is_over_asks_nothing() -> None:
    mine = recorded()
    c = mine.run.counter()
    mine.recorder.close("over", None, {})
    for _ in range(2 * TIMES_MAX):
        c.note_reading("learning_rate")
    assert mine.ears.heard == []

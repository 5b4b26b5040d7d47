"""What `log` records, what it warns about, and what it drops."""

import math
import threading
from typing import Any

import numpy as np
import pytest

from tallyboard.collect.routing import Router
from tallyboard.delivery import batching
from tallyboard.errors import (
    ConfigurationError,
    CounterTakenError,
    InvalidReportError,
    StepDecreasedError,
    TagOfOtherCounterError,
    TagRepeatedError,
)
from tallyboard.wire import MSGPACK, CounterSpec, CounterValue, Open, decode_batch, encode_batch, limits
from tests.unit.client_kit import recorded

# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Tensor:
    """One number on some device, as frameworks hold it."""

    def __init__(self, value: float, error: type[Exception] | None = None) -> None:
        self.value = value
        self.error = error

    def __float__(self) -> float:
        if self.error is not None:
            raise self.error("device lost")
        return self.value


@pytest.mark.parametrize(
    "value", [1, True, 0.5, np.float32(0.5), np.float64(0.5), np.int8(3), np.array(2.0), Tensor(1.5), 2**80, -0.0]
)
def test_whatever_is_one_number_is_logged(value: Any) -> None:
    mine = recorded()
    for step in (1, 2):  # the slow way first, then the fast one
        mine.log({"loss": value}, step)
    assert [scalars["loss"] for _, _, scalars, _ in mine.rows()] == [float(value)] * 2
    assert mine.ears.heard == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_values(value: float) -> None:
    mine = recorded()
    mine.log({"loss": value}, 1)
    ((_, _, scalars, _),) = mine.rows()
    assert np.array_equal([scalars["loss"]], [value], equal_nan=True)


@pytest.mark.parametrize(
    "value",
    ["0.5", None, [0.5], np.zeros(3), np.zeros((1, 2)), {"nested": 1}, 1j, 10**400, Tensor(0, RuntimeError), object()],
)
def test_what_is_not_one_number_is_left_out_and_said_once_a_line(value: Any) -> None:
    mine = recorded()
    for step in range(1, 4):
        mine.log({"loss": value, "acc": 0.5}, step)
    assert mine.rows() == [("global_step", step, {"acc": 0.5}, {}) for step in (1, 2, 3)]
    assert mine.tally.stats().dropped_scalars == 3
    (said,) = mine.ears.heard
    assert "'loss'" in said
    assert "test_client_recorder.py:" in said
    with pytest.raises(InvalidReportError):
        recorded(strict=True).log({"loss": value}, 1)


def test_a_value_that_turns_bad_later_is_left_out_too() -> None:
    mine = recorded()
    mine.log({"loss": 1.0, "acc": 0.5}, 1)
    mine.log({"loss": "late", "acc": 0.6}, 2)
    mine.log({"loss": 3.0, "acc": 0.7}, 3)
    assert [(step, scalars) for _, step, scalars, _ in mine.rows()] == [
        (1, {"loss": 1.0, "acc": 0.5}), (3, {"loss": 3.0, "acc": 0.7}), (2, {"acc": 0.6}),
    ]  # fmt: skip


@pytest.mark.parametrize("tag", ["", "a\nb", "\ud800", "x" * 600, 3, None, ("a", "b")])
def test_a_tag_that_is_none_is_left_out(tag: Any) -> None:
    mine = recorded()
    mine.log({tag: 1.0, "acc": 0.5}, 1)
    assert mine.rows() == [("global_step", 1, {"acc": 0.5}, {})]
    assert mine.tally.stats().dropped_scalars == 1


@pytest.mark.parametrize("scalars", [None, 3, "loss", ["loss"], [("loss", 1.0)]])
def test_what_is_no_dictionary_is_dropped(scalars: Any) -> None:
    mine = recorded()
    mine.log(scalars, 1)
    assert mine.rows() == []
    assert mine.tally.stats().dropped_reports == 1
    assert "dictionary" in mine.ears.heard[0]


def test_an_empty_report_is_nothing() -> None:
    mine = recorded()
    mine.log({}, 1)
    assert mine.recorder.take() == []
    assert mine.ears.heard == []


def test_the_dictionary_may_be_used_again() -> None:
    mine = recorded()
    scalars = {"loss": 1.0}
    for step in range(1, 4):
        scalars["loss"] = float(step)
        mine.log(scalars, step)
    assert [scalars["loss"] for _, _, scalars, _ in mine.rows()] == [1.0, 2.0, 3.0]


# ── steps, times, counters ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("step", [7, 7.0, np.int64(7), np.float32(7), np.array(7), Tensor(7.0)])
def test_a_step_is_any_whole_number(step: Any) -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 6)
    mine.log({"loss": 1.0}, step)
    assert [found for _, found, _, _ in mine.rows()] == [6, 7]
    assert type(mine.recorder.counter("global_step").value) is int


@pytest.mark.parametrize("step", [-1, 2.5, math.nan, 2**63, "3", Tensor(1.0, ValueError), [1]])
def test_a_step_that_is_none_drops_the_report(step: Any) -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 1)
    mine.log({"loss": 2.0}, step)
    assert [found for _, found, _, _ in mine.rows()] == [1]
    assert mine.tally.stats().dropped_reports == 1
    assert len(mine.ears.heard) == 1
    with pytest.raises(InvalidReportError):
        recorded(strict=True).log({"loss": 1.0}, step)


def test_the_wall_time_is_the_clock_unless_given() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 1)
    mine.clock.advance(5)
    mine.log({"loss": 1.0}, 2)
    mine.log({"loss": 1.0}, 3, wall_time=12.5)
    mine.log({"loss": 1.0}, 4, wall_time=math.nan)
    (section,) = mine.recorder.take()
    assert section.rows[0].columns().wall_times.tolist() == [1000.0, 1005.0, 12.5]
    assert "wall_time" in mine.ears.heard[0]


@pytest.mark.parametrize("counter", ["", "wall_time", "a=b", "a\tb", 3, ["a"]])
def test_a_counter_that_is_none_drops_the_report(counter: Any) -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 1, counter=counter)
    assert mine.rows() == []
    assert mine.tally.stats().dropped_reports == 1


def test_patterns_send_tags_to_their_counters() -> None:
    mine = recorded(counters={"val/*": "epoch", "*/slow": "eval"})
    for step in (10, 11):
        mine.log({"loss": 1.0, "val/loss": 2.0, "x/slow": 3.0, "acc": 4.0}, step)
    mine.log({"val/loss": 5.0}, 12, counter="other")
    rows = [(name, step, list(scalars)) for name, step, scalars, _ in mine.rows()]
    assert sorted(rows) == [
        ("epoch", 10, ["val/loss"]), ("epoch", 11, ["val/loss"]),
        ("eval", 10, ["x/slow"]), ("eval", 11, ["x/slow"]),
        ("global_step", 10, ["loss", "acc"]), ("global_step", 11, ["loss", "acc"]),
        ("other", 12, ["val/loss"]),
    ]  # fmt: skip


def test_without_steps_each_counter_counts_its_own_reports() -> None:
    mine = recorded(counters={"val/*": "epoch"})
    for i in range(6):
        mine.log({"loss": 1.0} | ({"val/loss": 1.0} if i % 3 == 2 else {}))
    steps: dict[str, list[int]] = {}
    for name, step, _, _ in mine.rows():
        steps.setdefault(name, []).append(step)
    assert {name: sorted(found) for name, found in steps.items()} == {
        "global_step": [1, 2, 3, 4, 5, 6], "epoch": [1, 2],
    }  # fmt: skip


def test_a_pattern_for_no_counter_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="wall_time"):
        Router({"val/*": "wall_time"})


def test_at_is_filled_in_by_itself() -> None:
    mine = recorded()
    state = mine.recorder.counter
    mine.log({"loss": 1.0}, 1)  # one counter: there is no other
    mine.recorder.move(state("epoch"), 1)
    mine.recorder.counter("unused")
    mine.log({"loss": 1.0}, 2)
    mine.log({"loss": 1.0}, 3)
    mine.recorder.move(state("epoch"), 1)
    mine.log({"loss": 1.0}, 4)
    mine.log({"eval/acc": 0.5}, 1, counter="eval", at={"global_step": 2})
    mine.log({"eval/acc": 0.6}, 2, counter="eval")
    assert [(name, step, at) for name, step, _, at in mine.rows()] == [
        ("global_step", 1, {}),
        ("global_step", 2, {"epoch": 1}),
        ("global_step", 3, {"epoch": 1}),
        ("global_step", 4, {"epoch": 2}),
        ("eval", 1, {"global_step": 2, "epoch": 2}),
        ("eval", 2, {"global_step": 4, "epoch": 2}),
    ]


@pytest.mark.parametrize("at", [{"epoch": -1}, {"epoch": "x"}, {"wall_time": 1}, ["epoch"], {3: 1}])
def test_an_at_that_is_none_drops_the_report(at: Any) -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 1, at=at)
    assert mine.rows() == []


def test_its_own_counter_in_at_is_left_out() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 5, at={"global_step": 3, "epoch": 1})
    assert mine.rows() == [("global_step", 5, {"loss": 1.0}, {"epoch": 1})]


def test_more_tags_than_a_report_may_have_share_a_step() -> None:
    mine = recorded()
    many = {f"t{i}": float(i) for i in range(limits.TAGS_PER_REPORT_MAX + 1)}
    mine.log(many)
    mine.log(many)
    assert [(step, len(scalars)) for _, step, scalars, _ in mine.rows()] == [(1, 4096), (2, 4096), (1, 1), (2, 1)]


# ── the step contract, as far as it can be told here ─────────────────────────────────────────────────────────────


def test_a_lower_step_is_said_once_a_line_counted_and_sent() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 9)
    for step in (3, 4):
        mine.log({"loss": 1.0}, step)
    mine.log({"loss": 1.0}, 5)
    assert [step for _, step, _, _ in mine.rows()] == [9, 3, 4, 5]
    assert mine.tally.stats().violations == 3
    assert len(mine.ears.heard) == 2
    assert 'run.rewind({"global_step": 3})' in mine.ears.heard[0]
    assert mine.recorder.counter("global_step").value == 9


def test_equal_steps_fill_in_until_the_counter_moves() -> None:
    mine = recorded()
    for _ in range(2):  # the same again, bit for bit, is no harm
        mine.log({"loss": math.nan, "epoch": 1.0}, 3)
        mine.log({"acc": -0.0}, 3)
    assert mine.ears.heard == []
    mine.log({"acc": 0.0}, 3)  # but -0.0 is another value than 0.0
    assert "'acc' was reported at global_step 3 already" in mine.ears.heard[0]
    mine.log({"acc": 0.0, "loss": 1.0}, 4)
    assert len(mine.ears.heard) == 1
    assert len(mine.rows()) == 6


def test_a_refused_report_changes_nothing() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 3)
    mine.log({"loss": 2.0, "acc": 5.0}, 3)
    mine.log({"acc": 6.0}, 3)  # so this is the first at step 3
    assert mine.tally.stats().violations == 1


def test_a_tag_belongs_to_one_counter_until_that_is_rewound() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 3)
    mine.log({"loss": 1.0}, 1, counter="epoch")
    assert "reported against global_step, not epoch" in mine.ears.heard[0]
    mine.recorder.rewind({"global_step": 0}, "", {})
    mine.log({"loss": 1.0}, 1, counter="epoch")
    assert mine.tally.stats().violations == 1


def test_a_rewind_begins_a_section_and_lets_lower_steps_in() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 9)
    mine.recorder.rewind({"global_step": 5}, "diverged", {})
    mine.log({"loss": 1.0}, 5)
    mine.log({"loss": 1.0}, 4)
    first, second, third = mine.recorder.take()
    assert [p.columns().steps.tolist() for p in first.rows] == [[9]]
    assert second.rewind is not None
    assert (second.rewind.next_steps, second.rewind.reason) == ({"global_step": 5}, "diverged")
    assert [p.columns().steps.tolist() for p in (*third.rows, *third.apart)] == [[5], [4]]
    assert mine.tally.stats().violations == 1


@pytest.mark.parametrize(
    ("second", "error"),
    [
        ({"scalars": {"loss": 1.0}, "step": 2}, StepDecreasedError),
        ({"scalars": {"loss": 2.0}, "step": 3}, TagRepeatedError),
        ({"scalars": {"loss": 1.0}, "step": 3, "counter": "epoch"}, TagOfOtherCounterError),
    ],
)
def test_strict_raises_and_records_nothing(second: dict[str, Any], error: type[Exception]) -> None:
    mine = recorded(strict=True)
    mine.log({"loss": 1.0}, 3)
    with pytest.raises(error):
        mine.log(**second)
    mine.log({"loss": 1.0}, 4)
    assert [step for _, step, _, _ in mine.rows()] == [3, 4]


def test_what_only_the_server_knows_is_raised_at_the_next_call_and_once() -> None:
    mine = recorded(strict=True)
    mine.log({"loss": 1.0}, 1)
    mine.recorder.fail(CounterTakenError("ada reports there"))
    with pytest.raises(CounterTakenError):
        mine.log({"loss": 1.0}, 2)
    mine.log({"loss": 1.0}, 2)
    lax = recorded()
    lax.recorder.fail(CounterTakenError("ada reports there"))
    lax.log({"loss": 1.0}, 1)


def test_late_reports_travel_after_the_others() -> None:
    mine = recorded()
    mine.log({"a": 1.0}, 5)
    mine.log({"b": 1.0}, 10)
    mine.log({"a": 1.0}, 7)  # sorted by step, it would slip in between
    (section,) = mine.recorder.take()
    good, apart = batching.batches(section)
    assert [c.steps.tolist() for c in good.columns] == [[5], [10]]
    assert [c.steps.tolist() for c in apart.columns] == [[7]]


def test_a_continued_run_goes_on_where_the_server_says() -> None:
    mine = recorded()
    mine.recorder.move(mine.recorder.counter("epoch"), 3)
    mine.recorder.adopt({
        "global_step": CounterValue(500, 1), "epoch": CounterValue(9, 1), "empty": CounterValue(None, 0),
    })  # fmt: skip
    values = {name: state.value for name, state in mine.recorder.counters().items()}
    assert values == {"global_step": 500, "epoch": 3}
    mine.log({"loss": 1.0})
    mine.log({"loss": 1.0}, 499)
    assert [step for _, step, _, _ in mine.rows()] == [501, 499]
    assert mine.tally.stats().violations == 1


# ── the other parts, the end ─────────────────────────────────────────────────────────────────────────────────────


def test_parts_keep_their_order() -> None:
    mine = recorded()
    mine.recorder.open(Open(uid="u1", resume="new", config={"lr": 0.1}))
    mine.recorder.rewind({"global_step": 3}, "resumed", {})
    mine.log({"loss": 1.0}, 3)
    mine.recorder.amend({"batch": 64}, {})
    mine.recorder.amend({}, {"epoch": CounterSpec(total=10)})
    mine.log({"loss": 1.0}, 4)
    mine.recorder.summarise({"acc": 0.5})
    mine.recorder.summarise({"acc": 0.6})
    mine.recorder.close("over", "finished", {"note": "x"})
    batches = [batch for section in mine.recorder.take() for batch in batching.batches(section)]
    assert [bool(b.open) for b in batches] == [True, False, False, True]
    assert [bool(b.rewind) for b in batches] == [False, True, False, False]
    assert [sum(map(len, b.columns)) for b in batches] == [0, 0, 1, 1]
    last = batches[-1]
    assert last.open is not None
    assert (last.open.config, last.open.counters["epoch"].total) == ({"batch": 64}, 10)
    assert (last.summary, last.status) == ({"acc": 0.6, "note": "x"}, "finished")
    for batch in batches:
        decode_batch(encode_batch(batch), MSGPACK, now=0.0)


def test_after_the_end_reports_are_counted_and_nothing_more() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 1)
    mine.recorder.close("run x is finished", "finished", {})
    mine.log({"loss": 1.0}, 2)
    mine.recorder.summarise({"a": 1})
    mine.recorder.amend({"a": 1}, {})
    (section,) = mine.recorder.take()
    assert (section.reports, section.status) == (1, "finished")
    assert mine.recorder.take() == []
    assert mine.tally.stats().dropped_reports == 1
    assert "run x is finished" in mine.ears.heard[0]


def test_a_forked_child_has_nothing_of_its_parents() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 1)
    held = threading.Thread(target=mine.recorder._lock.acquire)
    held.start()
    held.join()  # the lock of a thread that does not exist in the child
    mine.recorder.abandon("forked")
    mine.log({"loss": 1.0}, 2)
    assert mine.recorder.take() == []
    assert mine.tally.stats().dropped_reports == 1


def test_what_is_closed_can_be_had_while_somebody_holds_the_lock() -> None:
    mine = recorded()
    mine.log({"loss": 1.0}, 1)
    mine.recorder.mark()
    mine.log({"loss": 1.0}, 2)
    taken, got = [], threading.Event()

    def take() -> None:
        taken.extend(mine.recorder.take())
        got.set()

    with mine.recorder._lock:  # as a signal handler does that interrupted `log` and calls finish
        thread = threading.Thread(target=take)
        thread.start()
        assert got.wait(30.0)
    thread.join()
    assert [section.reports for section in taken] == [1]
    assert [step for _, step, _, _ in mine.rows()] == [2]


def test_many_threads_log_at_once() -> None:
    mine = recorded()

    def work(k: int) -> None:
        for step in range(500):
            mine.log({f"loss{k}": float(step)}, step, counter=f"c{k}")

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    steps: dict[str, list[int]] = {}
    for name, step, scalars, _ in mine.rows():
        assert list(scalars.values()) == [float(step)]
        steps.setdefault(name, []).append(step)
    assert {name: sorted(found) for name, found in steps.items()} == {f"c{k}": list(range(500)) for k in range(8)}
    assert mine.ears.heard == []


def test_an_error_inside_never_reaches_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = recorded()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    said: list[str] = []
    monkeypatch.setattr(mine.ears, "bug", said.append)
    monkeypatch.setattr(mine.recorder, "_lane", broken)
    mine.log({"loss": 1.0}, 1)
    assert said == ["log"]
    assert mine.tally.stats().dropped_reports == 1

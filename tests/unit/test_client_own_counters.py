"""Counters that tags have to themselves: what SummaryWriter counts on where nobody names a counter."""

import pytest

import tallyboard
from tallyboard.collect import recorder
from tallyboard.collect.routing import Router
from tallyboard.errors import ConfigurationError, InvalidReportError, StepDecreasedError
from tallyboard.wire import InvalidNameError, limits
from tests.unit.client_kit import Recorded, recorded

OWN = {"*": "tag:*"}


def single(mine: Recorded, tag: str, value: object, step: object = None) -> None:
    """What SummaryWriter.add_scalar does."""
    if not mine.recorder.log_single(tag, value, step):
        mine.log({tag: value}, step)


def test_each_tag_has_its_own() -> None:
    router = Router({"val/*": "epoch", **OWN})
    assert router.split(("a", "val/x", "b"), None) == (("tag:a", ("a",)), ("epoch", ("val/x",)), ("tag:b", ("b",)))
    assert router.split(("*",), None) == (("global_step", ("*",)),)  # `tag:*` stands for all of them
    with pytest.raises(ConfigurationError):
        Router({"*": "tag:a"})
    with pytest.raises(InvalidNameError):
        router.split(("a", "b"), "tag:a")


def test_epochs_and_batches_mix_and_nothing_is_refused() -> None:
    mine = recorded(counters=OWN, strict=True)
    for epoch in range(3):
        for batch in range(4):
            single(mine, "loss", 0.5, 4 * epoch + batch)
        single(mine, "val", 0.9, epoch)
    assert {(counter, step) for counter, step, _, at in mine.rows() if not at} == {
        *(("tag:loss", i) for i in range(12)),
        *(("tag:val", i) for i in range(3)),
    }


def test_without_a_step_it_counts_on_from_the_last() -> None:
    mine = recorded(counters=OWN, strict=True)
    single(mine, "loss", 1.0)
    single(mine, "loss", 2.0)
    single(mine, "loss", 3.0, 10)
    single(mine, "loss", 4.0)
    mine.log({"loss": 5.0, "acc": 6.0})
    assert [(step, scalars) for _, step, scalars, _ in mine.rows()] == [
        (0, {"loss": 1.0}), (1, {"loss": 2.0}), (10, {"loss": 3.0}), (11, {"loss": 4.0}), (12, {"loss": 5.0}),
        (0, {"acc": 6.0}),
    ]  # fmt: skip


def test_a_shared_counter_that_nobody_moves_counts_the_reports_without_a_step() -> None:
    mine = recorded(counters={"*": "global_step"}, strict=True)
    for value in range(5):
        single(mine, "loss", float(value))
    assert [(counter, step) for counter, step, _, _ in mine.rows()] == [("global_step", step) for step in range(1, 6)]


def test_a_step_that_goes_back_is_warned_about_once_and_counted() -> None:
    mine = recorded(counters=OWN)
    for step in (5, 3, 2, 6):
        single(mine, "loss", float(step), step)
    assert [step for _, step, _, _ in mine.rows()] == [5, 6, 3, 2]
    assert mine.tally.stats().violations == 2
    assert len(mine.ears.heard) == 1
    assert "'loss' goes back: step 3 after step 5" in mine.ears.heard[0]


def test_a_strict_run_raises_where_a_step_goes_back() -> None:
    mine = recorded(counters=OWN, strict=True)
    single(mine, "loss", 1.0, 5)
    with pytest.raises(StepDecreasedError):
        single(mine, "loss", 1.0, 4)


def test_the_short_way_takes_only_what_needs_no_look() -> None:
    mine = recorded(counters=OWN, strict=True)
    log = mine.recorder.log_single
    assert not log("loss", 1.0, 1)  # nobody knows the tag yet
    single(mine, "loss", 1.0, 1)
    assert log("loss", 1.0, 2)
    assert not log("loss", 1.0, 2)
    assert not log("loss", 1.0, 1)
    assert not log("loss", 1.0, True)
    assert not log("loss", 1.0, 3.0)
    assert not log("loss", "x", 3)
    assert not log(["loss"], 1.0, 3)  # type: ignore[arg-type]
    assert log("loss", 3, 3)
    mine.recorder.close("over", None, {})
    assert not log("loss", 1.0, 4)
    assert [step for _, step, _, _ in mine.rows()] == [1, 2, 3]


def test_on_a_shared_counter_the_short_way_is_the_same_as_the_long() -> None:
    short, long = recorded(strict=True), recorded(strict=True)
    for mine in (short, long):
        for step in range(1, 5):
            mine.run.counter("epoch").set(step)
            single(mine, "loss", step, step) if mine is short else mine.log({"loss": step}, step)
        assert mine.run.counter().value == 4
    assert short.rows() == long.rows()


def test_they_stay_out_of_at_and_out_of_the_bound_on_counters() -> None:
    mine = recorded(counters={"val": "epoch", **OWN}, strict=True)
    for i in range(limits.COUNTERS_PER_RUN_MAX + 10):
        single(mine, f"tag{i}", 1.0, i)
    mine.log({"val": 1.0}, 3)
    single(mine, "tag0", 1.0, 5)
    rows = mine.rows()
    assert rows[-2:] == [("epoch", 3, {"val": 1.0}, {}), ("tag:tag0", 5, {"tag0": 1.0}, {"epoch": 3})]
    assert set(mine.tally.stats().counters) == {"tag:*", "epoch"}


def test_activating_one_forgets_no_other() -> None:
    mine = recorded(counters=OWN, strict=True)
    single(mine, "a", 1.0, 1)
    single(mine, "b", 1.0, 1)
    assert mine.recorder.log_single("a", 1.0, 2)


def test_a_rewind_of_all_goes_back_on_each() -> None:
    mine = recorded(counters=OWN, strict=True)
    for tag in "ab":
        for step in range(6):
            single(mine, tag, float(step), step)
    mine.run.rewind({"tag:*": 3})
    single(mine, "a", 0.0)
    single(mine, "b", 0.0, 3)
    single(mine, "new", 0.0)
    assert [(counter, step) for counter, step, _, _ in mine.rows()][-3:] == [("tag:a", 3), ("tag:b", 3), ("tag:new", 3)]
    mine.run.rewind({"tag:a": 3})
    with pytest.raises(StepDecreasedError, match="the rewind to 3"):
        single(mine, "a", 1.0, 2)


def test_the_tag_is_free_for_another_counter_once_it_is_superseded() -> None:
    mine = recorded(counters=OWN, strict=True)
    single(mine, "a", 1.0, 5)
    mine.run.rewind({"tag:*": 2})
    mine.log({"a": 1.0}, 1, counter="epoch")
    assert mine.rows()[-1][:2] == ("epoch", 1)


def test_a_resumed_run_takes_all_of_them_over_at_once() -> None:
    mine = recorded(counters={"e": "epoch", **OWN}, resumed=True)
    for tag in "abe":
        single(mine, tag, 1.0, 5)
    (section,) = mine.recorder.take()
    assert section.open is not None
    assert section.open.take_over == ("tag:*", "epoch")
    assert section.counters == {"tag:*", "epoch"}


def test_a_resumed_run_says_that_it_can_not_know_where_tags_stand() -> None:
    mine = recorded(counters=OWN, resumed=True)
    single(mine, "a", 1.0)
    single(mine, "b", 1.0)
    assert [text for text in mine.ears.heard if "counts from 0" in text] == mine.ears.heard[:1]
    told = recorded(counters=OWN, resumed=True)
    told.run.rewind({"tag:*": 7})
    single(told, "a", 1.0)
    assert told.ears.heard == []
    assert told.rows()[-1][1] == 7


def test_a_later_writer_of_the_process_goes_on_where_the_earlier_stood() -> None:
    first = recorded(counters=OWN, strict=True)
    single(first, "a", 1.0, 5)
    first.log({"e": 1.0}, 9, counter="epoch")
    later = recorded(counters=OWN, resumed=True)
    later.recorder.begin_at(first.recorder.implicit_next_steps())
    single(later, "a", 1.0)
    assert later.rows()[-1][:2] == ("tag:a", 6)
    assert later.ears.heard == []
    assert later.recorder.implicit_next_steps() == {"tag:a": 7}


def test_a_state_dict_holds_them_and_puts_them_back() -> None:
    mine = recorded(counters=OWN, strict=True)
    single(mine, "a", 1.0, 5)
    saved = mine.run.state_dict()
    assert saved["tag:a"]["next_step"] == 6
    single(mine, "a", 1.0, 8)
    mine.run.load_state_dict(saved)
    single(mine, "a", 1.0)
    assert mine.rows()[-1][1] == 6


def test_a_foreign_tag_on_one_is_told_before_it_spoils_a_batch() -> None:
    run = recorded(strict=True).run
    run.log({"a": 1.0}, 1, counter="tag:a")
    with pytest.raises(InvalidReportError):
        run.log({"b": 1.0}, 1, counter="tag:a")
    with pytest.raises(InvalidReportError):
        run.log({"a": 1.0}, 1, counter="epoch", at={"tag:b": 1})
    with pytest.raises(ValueError, match="stands for all"):
        run.counter("tag:*")


def test_more_tags_than_lanes_are_remembered_lose_nothing() -> None:
    mine = recorded(counters=OWN, strict=True)
    for step in range(2):
        for i in range(recorder.LANES_MAX + 10):
            single(mine, f"tag{i}", 1.0, step)
    assert sum(section.reports for section in mine.recorder.take()) == 2 * (recorder.LANES_MAX + 10)
    assert len(mine.recorder._single) <= recorder.LANES_MAX


def test_tags_without_steps_of_their_own_move_no_shared_counter() -> None:
    mine = recorded(strict=True)
    mine.run.log_text("custom_scalars__config__", "layout")
    mine.run.log_text("__run_graph__", "graph")
    assert mine.run.counter().value == 0
    mine.log({"loss": 1.0}, 0)
    assert {counter for counter, *_ in _counters(mine)} == {
        "tag:custom_scalars__config__", "tag:__run_graph__", "global_step",
    }  # fmt: skip


def _counters(mine: Recorded) -> list[tuple[str]]:
    return [(packed.counter,) for section in mine.recorder.take() for packed in section.rows]


def test_init_takes_them_too() -> None:
    with tallyboard.init("digits/try1", mode="disabled", counters=OWN, next_steps={"tag:*": 5}) as run:
        run.log({"a": 1.0})

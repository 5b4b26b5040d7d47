"""Counters that have to be new, or to exist: in this process, and by the server's word."""

import pytest

import tallyboard
from tallyboard.errors import ConfigurationError
from tallyboard.wire import CounterValue
from tests.unit.client_kit import recorded, sending, taken


def test_a_new_one_must_not_be_there() -> None:
    run = recorded().run
    c = run.counter("D_global_step", create="new")
    assert run.counter("D_global_step", create="existing") is c
    with pytest.raises(ConfigurationError, match="has a counter 'D_global_step'"):
        run.counter("D_global_step", create="new")
    run.log({"loss": 1.0}, counter="G_global_step")
    with pytest.raises(ConfigurationError, match="has a counter 'G_global_step'"):
        run.counter("G_global_step", create="new")


def test_an_existing_one_must_be_there_and_the_others_are_said() -> None:
    run = recorded().run
    with pytest.raises(ConfigurationError, match="there is none"):
        run.counter("epcoh", create="existing")
    run.counter("epoch")
    run.log({"loss": 1.0, "own": 2.0})
    run.log({"own": 2.0}, 1, counter="tag:own")
    with pytest.raises(ConfigurationError, match=r"no counter 'epcoh', .*there are epoch, global_step$"):
        run.counter("epcoh", create="existing")
    run.counter("epcoh", create="new")  # asking has made none
    assert run.counter("global_step", create="existing").value == 1


def test_what_is_asked_has_to_make_sense() -> None:
    mine = recorded()
    with pytest.raises(ConfigurationError, match="'auto', 'new' or 'existing'"):
        mine.run.counter("epoch", create="must")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="total"):
        mine.run.counter("epoch", total=-1)
    for create in ("new", "existing"):
        with pytest.raises(ValueError, match="axis"):
            mine.run.counter("wall_time", create=create)
    assert mine.recorder.counters() == {}


def test_of_a_continued_run_the_server_knows() -> None:
    mine = recorded(resumed=True)
    mine.recorder.adopt({"global_step": CounterValue(137, 1), "declared": CounterValue(None, 0)})
    run = mine.run
    for name in ("global_step", "declared"):
        with pytest.raises(ConfigurationError, match="has a counter"):
            run.counter(name, create="new")
        run.counter(name, create="existing")
    assert run.counter().value == 137
    with pytest.raises(ConfigurationError, match=r"there are declared, global_step$"):
        run.counter("epoch", create="existing")
    run.counter("epoch", create="new")
    assert mine.ears.heard == []


def test_before_the_server_has_answered_either_is_given_and_told_of_later() -> None:
    mine = sending(taken(counters={"global_step": CounterValue(137, 1)}), resumed=True)
    run, heard = mine.recorded.run, mine.recorded.ears.heard
    assert run.counter("global_step", create="new").value == 0
    assert run.counter("epoch", create="existing").value == 0
    run.counter("evaluation", create="new")
    assert heard == []
    run.config.update(lr=0.1)
    mine.drain()
    assert run.counter().value == 137
    assert len(heard) == 2
    assert "'global_step' was asked for with create='new'" in heard[0]
    assert "'epoch' was asked for with create='existing'" in heard[1]
    assert all("test_client_create.py:" in text for text in heard)


def test_what_it_said_right_before_the_answer_is_left_alone() -> None:
    mine = recorded(resumed=True)
    run = mine.run
    run.counter("global_step", create="existing")
    run.counter("epoch", create="new", total=10)
    run.rewind({"epoch": 1})
    run.log({"acc": 0.5}, 3, counter="epoch")
    mine.recorder.adopt({"global_step": CounterValue(5, 1), "epoch": CounterValue(3, 1)})  # with the first batch's own
    assert mine.ears.heard == []


def test_of_tags_own_counters_the_server_says_nothing() -> None:
    mine = recorded(resumed=True)
    mine.recorder.adopt({})
    mine.run.counter("tag:loss", create="existing")
    assert mine.ears.heard == []
    with pytest.raises(ConfigurationError):
        recorded().run.counter("tag:loss", create="existing")


def test_ranks_that_report_nothing_ask_for_the_same() -> None:
    with tallyboard.init("digits/try1", mode="disabled") as run:
        run.counter("epoch", create="new")
        with pytest.raises(ConfigurationError):
            run.counter("epoch", create="new")
        with pytest.raises(ConfigurationError):
            run.counter("other", create="existing")
    with tallyboard.init("digits/try1", mode="disabled", resume="continue") as run:
        c = run.counter("epoch", create="existing")  # the rank that reports knows
        assert c.increment() == 1

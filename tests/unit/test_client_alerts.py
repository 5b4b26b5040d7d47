"""`run.alert`: what makes sense is recorded, cut to size and told; what does not is said; nothing grows without end."""

import logging
import threading
from typing import Any

import pytest

import tallyboard
from tallyboard import Run
from tallyboard.collect import alerts, recorder, sections
from tallyboard.delivery import batching
from tallyboard.errors import InvalidReportError
from tallyboard.wire import MSGPACK, Alert, Batch, decode_batch, encode_batch, limits
from tests.unit.client_kit import Recorded, recorded, sending


def taken(mine: Recorded) -> list[list[Alert]]:
    """The alerts of each section that was recorded since."""
    return [list(section.alerts) for section in mine.recorder.take()]


def test_it_says_when_it_was_raised_and_where_the_counters_stood() -> None:
    mine = recorded()
    mine.run.alert("before anything")
    epoch = mine.run.counter("epoch")
    epoch.increment()
    mine.log({"loss": 1.0}, 7)
    mine.log({"own": 1.0}, 3, counter="tag:own")
    mine.clock.advance(2.5)
    mine.run.alert("loss is high", "1.0\nafter 7 steps", level="error")
    assert taken(mine) == [[
        Alert(title="before anything", wall_time=1000.0),
        Alert(title="loss is high", text="1.0\nafter 7 steps", level="error", wall_time=1002.5,
              at={"epoch": 1, "global_step": 7}),
    ]]  # fmt: skip
    assert mine.ears.heard == [
        "alert (warn): before anything", "alert (error): loss is high · 1.0\nafter 7 steps",
    ]  # fmt: skip


def test_of_many_counters_the_first_are_told() -> None:
    mine = recorded()
    for number in range(limits.ALERT_COUNTERS_MAX + 5):
        mine.run.counter(f"c{number}").increment()
    mine.run.alert("a")
    ((alert,),) = taken(mine)
    assert list(alert.at) == [f"c{number}" for number in range(limits.ALERT_COUNTERS_MAX)]


@pytest.mark.parametrize(
    ("title", "text"),
    [
        ("é" * 1_000, "é" * 10_000),
        ("x" * 1_000, "\U0001f525" * 10_000),
        ("two\nlines\tand a \x1b[31mcolour", "a\x1b[31m lone \ud800 surrogate"),
        ("x" * limits.ALERT_TITLE_BYTES_MAX, "x" * limits.ALERT_TEXT_BYTES_MAX),
    ],
)
def test_whatever_is_said_is_what_the_service_takes(title: str, text: str) -> None:
    mine = recorded(strict=True)
    mine.run.alert(title, text)
    (section,) = mine.recorder.take()
    (batch,) = batching.batches(section)
    (alert,) = decode_batch(encode_batch(batch), MSGPACK, now=0.0).alerts
    assert (alert,) == batch.alerts
    for said, given, bytes_max in (
        (alert.title, title, limits.ALERT_TITLE_BYTES_MAX), (alert.text, text, limits.ALERT_TEXT_BYTES_MAX)
    ):  # fmt: skip
        assert said.endswith("…") == (len(given.encode(errors="replace")) > bytes_max)
        assert said[0] == given[0]
        assert len(said.encode()) <= bytes_max


NONSENSE: list[tuple[Any, Any, Any, str]] = [
    ("", "", "warn", "an alert needs a title"),
    (" \n ", "", "warn", "an alert needs a title"),
    (None, "", "warn", "title and text are strings, not NoneType"),
    ("a", 3.5, "warn", "title and text are strings, not float"),
    ("a", "", "fatal", "one of info, warn, error, not 'fatal'"),
    ("a", "", ["warn"], "one of info, warn, error, not ['warn']"),
]


@pytest.mark.parametrize(("title", "text", "level", "said"), NONSENSE)
def test_what_makes_no_sense_is_said_once_per_line_and_counted(title: Any, text: Any, level: Any, said: str) -> None:
    mine = recorded()
    for _ in range(3):
        mine.run.alert(title, text, level=level)
    (heard,) = mine.ears.heard
    assert said in heard
    assert heard.endswith(")")
    assert "test_client_alerts.py:" in heard
    assert taken(mine) == []
    assert mine.tally.stats().dropped_alerts == 3


@pytest.mark.parametrize(("title", "text", "level", "said"), NONSENSE)
def test_or_raised_if_the_run_is_strict(title: Any, text: Any, level: Any, said: str) -> None:
    mine = recorded(strict=True)
    with pytest.raises(InvalidReportError) as caught:
        mine.run.alert(title, text, level=level)
    assert said in str(caught.value)
    mine.run.alert("a")
    assert len(taken(mine)[0]) == 1


def test_a_run_that_alerts_in_a_loop_does_not_grow_and_says_so_once() -> None:
    mine = recorded()
    for number in range(10_000):
        mine.run.alert(f"alert {number}", "x" * 1_000)
    assert mine.tally.stats().dropped_alerts == 10_000 - sections.SECTION_ALERTS_MAX
    ((*kept,),) = taken(mine)
    assert [alert.title for alert in kept] == [f"alert {number}" for number in range(sections.SECTION_ALERTS_MAX)]
    assert sum("64 wait to be sent" in line for line in mine.ears.heard) == 1
    assert len(mine.ears.heard) == sections.SECTION_ALERTS_MAX + 1
    assert sections.SECTION_ALERTS_MAX < limits.ALERTS_PER_BATCH_MAX


def test_the_terminal_is_told_the_first_and_that_there_are_more() -> None:
    mine = recorded()
    for number in range(alerts.TOLD_MAX + 50):
        mine.run.alert(f"alert {number}", level="info")
        mine.recorder.mark()
    assert len(taken(mine)) == alerts.TOLD_MAX + 50
    assert mine.ears.heard[alerts.TOLD_MAX :] == ["the run has raised 100 alerts; more are sent, not told here"]


def test_a_full_buffer_takes_no_alert() -> None:
    mine = recorded(buffer_bytes_max=100_000)
    for number in range(1_000):
        mine.run.alert(f"alert {number}", "x" * 1_000)
        mine.recorder.mark()
    stats = mine.tally.stats()
    assert 0 < 1_000 - stats.dropped_alerts < 100
    assert sum(map(len, taken(mine))) == 1_000 - stats.dropped_alerts


def test_after_the_end_it_is_said_that_nothing_is_sent() -> None:
    mine = recorded()
    mine.run.finish()
    mine.run.alert("late")
    mine.run.alert("later")
    assert mine.ears.heard == ["an alert was dropped: run digits/try1 is finished"]
    assert mine.tally.stats().dropped_alerts == 2
    assert mine.tally.stats().dropped_reports == 0


def test_an_error_of_our_own_costs_the_alert_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = recorded()
    bugs: list[str] = []
    monkeypatch.setattr(mine.ears, "bug", bugs.append)
    monkeypatch.setattr(recorder, "as_alert", lambda *_, **__: 1 / 0)
    mine.run.alert("a")
    assert (bugs, mine.tally.stats().dropped_alerts) == (["alert"], 1)


def test_any_thread_may_raise_one() -> None:
    mine = recorded()
    threads = [threading.Thread(target=mine.run.alert, args=(f"alert {number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((*kept,),) = taken(mine)
    assert sorted(alert.title for alert in kept) == sorted(f"alert {number}" for number in range(16))


def test_a_disabled_run_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    run = tallyboard.init("digits/try1", mode="disabled")
    caplog.clear()
    with caplog.at_level(logging.INFO, "tallyboard"):
        run.alert("a", level="error")
        run.alert("")
    assert (caplog.records, run.stats().dropped_alerts) == ([], 0)
    assert isinstance(run, Run)
    run.finish()


def test_it_travels_in_order_with_what_was_logged() -> None:
    """Behind the reports of its section, the refused ones included, and before a rewind that came later."""
    mine = sending()
    mine.recorded.log({"loss": 1.0}, 5)
    mine.recorded.log({"loss": 1.0}, 3)  # refused, and so sent apart
    mine.recorded.run.alert("spike")
    mine.recorded.run.rewind({"global_step": 3})
    mine.recorded.run.alert("rewound")
    mine.drain()
    order: list[Any] = []
    for batch in mine.transport.batches:
        order += ["rewind"] if batch.rewind is not None else []
        order += [int(step) for columns in batch.columns for step in columns.steps]
        order += [alert.title for alert in batch.alerts]
    assert order == [5, 3, "spike", "rewind", "rewound"]


def test_the_closing_line_counts_what_was_dropped() -> None:
    mine = sending()
    run = Run(mine.recorded.recorder, mine.sender, mine.recorded.ears, mine.recorded.tally, name="digits/try1",
              server_url="http://tally", exit_timeout_s=0.0)  # fmt: skip
    for number in range(sections.SECTION_ALERTS_MAX + 3):
        run.alert(f"alert {number}")
    run.finish()
    assert ", 3 alerts dropped" in mine.recorded.ears.heard[-1]


def test_a_batch_of_nothing_else_is_one() -> None:
    assert decode_batch(encode_batch(Batch(alerts=(Alert(title="a", wall_time=1.0),))), MSGPACK, now=0.0).alerts

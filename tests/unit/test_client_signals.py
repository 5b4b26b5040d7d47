"""A signal handler may come in anywhere while a run records: nothing is lost, doubled or put out of order by it.

Each test plays a scenario once for every place at which CPython may call a handler (where a function or a line begins,
after a call, at a jump back), with the handler called at just that place.
"""

import dis
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from tensorboardX.proto.summary_pb2 import Summary

from tallyboard.collect import lanes, sections
from tallyboard.collect.lanes import Section
from tallyboard.collect.standing import TIMES_MAX
from tallyboard.wire import CounterValue, Open
from tests.unit.client_kit import Recorded, recorded

WATCHED = {
    str(Path(lanes.__file__).with_name(f"{name}.py"))
    for name in ("alerts", "blobs", "counters", "lanes", "recorder", "sections", "standing", "stats", "tracking")
}
ROWS_PER_SECTION = 3
PLACES_MIN = 300
VISITS_MAX = 2
"""Of a place that is come by more often, the first so many times are tried."""

Row = tuple[str, int, tuple[str, ...], float]
"""Counter, step, tags, and the value of the first of them (or what a text says), which no other row has."""


class Killed(BaseException):
    """The handler ends the process."""


@dataclass
class Outcome:
    """What the sender got, and what the training knows to be recorded."""

    run: Recorded
    sections: list[list[Row]] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)
    logged: list[Row] = field(default_factory=list)
    interrupted: int = 0
    place: str = ""
    values: Iterator[int] = field(default_factory=count)

    @property
    def rows(self) -> list[Row]:
        """All that came, oldest section first."""
        return [row for rows in self.sections for row in rows]

    def fetch(self) -> None:
        """What the sender does, who can't have the recorder's lock while a handler waits for him."""
        for section in self.run.recorder._sections.fetch():
            self._got(section)

    def _got(self, section: Section) -> None:
        if section.open is not None:
            self.parts.append(("open", section.open))
        if section.rewind is not None:
            self.parts.append(("rewind", len(self.rows)))
        self.sections.append([])
        for packed in (*section.rows, *section.apart):
            columns = packed.columns()
            assert len(columns), "a block without rows"
            values = [_said(blob.data) for blob in columns.blobs] if columns.blobs else columns.values[:, 0].tolist()
            for step, value in zip(columns.steps, values, strict=True):
                self.sections[-1].append((packed.counter, int(step), packed.tags, value))
        if section.summary:
            self.parts.append(("summary", section.summary))
        self.parts.extend(("alert", alert.title) for alert in section.alerts)
        if section.status is not None:
            self.parts.append(("status", section.status))

    def check(self) -> None:
        """Everything that was logged is there once, and in order within its lane."""
        assert not (lost := set(self.logged) - set(self.rows)), f"lost: {lost}"
        assert len(self.rows) == len(set(self.rows)), "doubled"
        assert len(set(self.rows) - set(self.logged)) <= self.interrupted, "from nowhere"
        for mine in (True, False):
            values = [[row[3] for row in rows if _of_handler(row) is mine] for rows in self.sections]
            assert sorted(chain(*values)) == list(chain(*map(sorted, values))), "out of order"
        for rows in self.sections:
            for tags in {row[2] for row in rows}:
                lane = [row[3] for row in rows if row[2] == tags]
                assert lane == sorted(lane), "out of order"


def _said(text: bytes) -> float:
    return float(Summary.Value.FromString(text).tensor.string_val[0])


def _of_handler(row: Row) -> bool:
    return row[2][0].startswith("signal")


Place = tuple[CodeType, int, str]
"""Code, the offset of the instruction that comes next, and what the tracer calls it."""


@contextmanager
def interrupted(at: int, handler: Callable[[str], None]) -> Iterator[list[Place]]:
    """Call a handler at the so-and-so-manieth place. Yields the places so far."""
    places, last = list[Place](), dict[FrameType, int]()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if event == "call":
            if frame.f_code.co_filename not in WATCHED:
                return None
            frame.f_trace_opcodes = True
        if event in ("call", "line") or (event == "opcode" and _checked(frame, last.get(frame))):
            places.append((frame.f_code, frame.f_lasti, event))
            if len(places) == at:
                sys.settrace(None)  # what comes after it need not be looked at, and is quicker so
                handler(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({event})")
        if event == "opcode":
            last[frame] = frame.f_lasti
        if event == "return":
            last.pop(frame, None)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield places
    finally:
        sys.settrace(before)


def _checked(frame: FrameType, last: int | None) -> bool:
    if last is None:
        return False
    name = dis.opname[frame.f_code.co_code[last]]
    return name.startswith(("CALL", "RESUME")) or ("JUMP_BACKWARD" in name and frame.f_lasti < last)


def begun(monkeypatch: pytest.MonkeyPatch) -> Outcome:
    """A run that goes on with one which has two counters, and closes sections early."""
    monkeypatch.setattr(sections, "SECTION_COST_MAX", ROWS_PER_SECTION * 88)
    outcome = Outcome(recorded(resumed=True, counters={"*own": "tag:*"}))
    outcome.run.recorder.open(Open(uid="u1", resume="continue", take_over=()))
    outcome.run.recorder.adopt({"global_step": CounterValue(0, 1), "epoch": CounterValue(0, 1)})
    return outcome


def play(outcome: Outcome) -> None:
    """A training that uses everything, and catches KeyboardInterrupt to go on after it."""
    recorder, run = outcome.run.recorder, outcome.run.run

    def log(step: int, *tags: str, counter: str = "global_step") -> None:
        value = float(next(outcome.values))
        run.log(dict.fromkeys(tags, value), step, counter=counter)
        outcome.logged.append((counter, step, tags, value))

    def text(step: int) -> None:
        log_text(outcome, "text", "global_step", step)

    script: list[Callable[[], object]] = [
        lambda: log(1, "loss"),
        lambda: log(2, "loss"),
        lambda: log(3, "loss"),
        lambda: log(4, "loss", "acc"),
        lambda: log(2, "loss"),  # refused, and so sent apart
        lambda: text(4),
        lambda: text(5),
        lambda: text(4),  # refused
        lambda: log_own(outcome, "own", 1),
        lambda: log_own(outcome, "own", 2),
        lambda: log_own(outcome, "own", 3),
        lambda: log_own(outcome, "own", 2),  # refused
        lambda: log(1, "val", counter="epoch"),
        lambda: run.config.update(lr=0.1),
        lambda: log(5, "loss"),
        lambda: run.config.update(batch=64),
        lambda: run.alert("spike"),
        lambda: run.summary.update(best=0.5),
        lambda: recorder.rewind({"global_step": 3, "tag:*": 1}, "", {}),
        lambda: log_own(outcome, "own", 1),
        lambda: log_own(outcome, "own", 2),
        lambda: log(3, "loss"),
        lambda: text(3),
        lambda: log(4, "loss"),
        recorder.mark,
        lambda: log(5, "loss"),
        lambda: run.summary.update(last=0.7),
        lambda: run.alert("nearly done", "at step 5"),
        lambda: recorder.close("done", "finished", {"end": 1}),
    ]
    for act in script:
        try:
            act()
        except KeyboardInterrupt:
            outcome.interrupted += 1


def log_text(outcome: Outcome, tag: str, counter: str, step: int) -> None:
    """What is no scalar goes with its row."""
    value = float(next(outcome.values))
    outcome.run.run.log_text(tag, str(value), step, counter=counter)
    outcome.logged.append((counter, step, (tag,), value))


def log_own(outcome: Outcome, tag: str, step: int) -> None:
    """What SummaryWriter.add_scalar does: the shortest way, if there is one."""
    value = float(next(outcome.values))
    if not outcome.run.recorder.log_single(tag, value, step):
        outcome.run.log({tag: value}, step)
    outcome.logged.append((f"tag:{tag}", step, (tag,), value))


def everywhere(
    monkeypatch: pytest.MonkeyPatch, handler: Callable[[Outcome], None], play: Callable[[Outcome], None] = play
) -> Iterator[Outcome]:
    """The outcome for each place at which the handler may come in; of a failure is said where that was."""
    for _ in range(2):  # what is remembered from run to run is there the second time
        outcome = begun(monkeypatch)
        with interrupted(0, lambda _: None) as places:
            play(outcome)
    visits, tried = Counter[Place](), 0
    for at, place in enumerate(places, start=1):
        visits[place] += 1
        if visits[place] > VISITS_MAX:
            continue
        outcome = begun(monkeypatch)

        def handle(place: str, outcome: Outcome = outcome) -> None:
            outcome.place = place
            handler(outcome)

        try:
            with interrupted(at, handle):
                play(outcome)
            outcome.run.recorder.close("done", "finished", {})
            outcome.fetch()
        except Killed:
            pass
        if outcome.place:  # some interpreters take fewer steps later on
            tried += 1
            yield outcome
    assert tried > PLACES_MIN


def flush(outcome: Outcome) -> None:
    """What `Run.flush` does: what had been logged is with the sender when it comes back."""
    sealed = outcome.run.recorder.mark()
    outcome.fetch()
    assert not set(outcome.logged) - set(outcome.rows), "flushed, and not there"
    assert sealed == outcome.run.recorder._sections.sealed


def log_and_flush(outcome: Outcome) -> None:
    for step in range(2):
        value = float(next(outcome.values))
        outcome.run.log({"signal": value}, step, counter="signals")
        if not outcome.run.tally.stats().dropped_reports:  # it came before the end
            outcome.logged.append(("signals", step, ("signal",), value))
            log_text(outcome, "signal/text", "signals", step)
            log_own(outcome, "signal/own", step)
            outcome.run.run.alert(f"signal {step}")
    flush(outcome)


def put_away_and_die(outcome: Outcome) -> None:
    outcome.run.recorder.summarise({"preempted": "SIGTERM"})
    outcome.run.recorder.close("done", None, {})
    outcome.fetch()
    outcome.interrupted = 1
    raise Killed


def raise_interrupt(_: Outcome) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("handler", [flush, log_and_flush, put_away_and_die, raise_interrupt])
def test_nothing_is_lost_doubled_or_put_out_of_order(
    monkeypatch: pytest.MonkeyPatch, handler: Callable[[Outcome], None]
) -> None:
    for outcome in everywhere(monkeypatch, handler):
        try:
            outcome.check()
            if handler in (flush, log_and_flush):
                check_parts(outcome)
        except AssertionError as error:
            raise AssertionError(f"after a signal at {outcome.place}") from error


def check_parts(outcome: Outcome) -> None:
    """What is said beside the reports is said, too, and where it belongs."""
    said: dict[str, list[Any]] = {"open": [], "rewind": [], "summary": [], "status": [], "alert": []}
    for kind, what in outcome.parts:
        said[kind].append(what)
    opens: list[Open] = said["open"]
    assert (opens[0].uid, {opening.resume for opening in opens[1:]}) == ("u1", {"new"})
    assert dict(chain(*(opening.config.items() for opening in opens))) == {"lr": 0.1, "batch": 64}
    taken_over = set(chain(*(opening.take_over or () for opening in opens)))
    assert taken_over - {"signals"} == {"global_step", "epoch", "tag:*"}
    assert dict(chain(*(each.items() for each in said["summary"]))) == {"best": 0.5, "last": 0.7, "end": 1}
    assert [title for title in said["alert"] if "signal" not in title] == ["spike", "nearly done"]
    assert len(said["alert"]) == len(set(said["alert"]))
    assert said["status"] == ["finished"]
    (before,) = said["rewind"]
    assert sum(not _of_handler(row) for row in outcome.rows[:before]) == 14
    stats = outcome.run.tally.stats()
    assert stats.reports == stats.waiting == len(outcome.rows) == len(outcome.logged)


def test_a_row_of_the_interrupted_counters_own_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two rows of one counter comes first is chance, and the server may refuse one; it is not lost here."""

    def log_far_ahead(outcome: Outcome) -> None:
        outcome.run.log({"loss": -1.0}, 100)
        outcome.run.run.log_text("text", "-1", 100)
        outcome.run.log({"own": -1.0}, 100)
        outcome.run.recorder.mark()
        outcome.fetch()

    for outcome in everywhere(monkeypatch, log_far_ahead):
        kept = [row[3] for row in outcome.rows if row[3] >= 0.0]
        assert sorted(kept) == [row[3] for row in outcome.logged], outcome.place


def test_a_counter_that_stands_is_asked_about_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def log_at_one_step(outcome: Outcome) -> None:
        for _ in range(TIMES_MAX + 2):
            outcome.run.log({"rate": 0.1}, 0)

    for outcome in everywhere(monkeypatch, lambda outcome: outcome.run.log({"rate": 0.1}, 0), log_at_one_step):
        asked = [text for text in outcome.run.ears.heard if "is it being incremented?" in text]
        assert len(asked) == 1, outcome.place
        assert sum(row[2] == ("rate",) for row in outcome.rows) == TIMES_MAX + 3, outcome.place

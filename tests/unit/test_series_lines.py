"""What is asked of the store for the lines of many tags, and how many lines there may be."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns, Rewind, implicit_counter
from tallyboard_server.contract import apply, new_run
from tallyboard_server.model import RunState
from tallyboard_server.series import Allowance, Question, SeriesTooManyError, read_lines
from tallyboard_server.series.history import superseded_attempts, superseded_histories
from tallyboard_server.store.sqlite import SqliteStore
from tests.property.series_kit import CutAtRandom

TAGS = [f"t{number}" for number in range(40)]


class Counting(CutAtRandom):
    """A snapshot that keeps what its cells were asked for."""

    def __init__(self, view: Any) -> None:
        super().__init__(view, view)  # no dice are thrown when points are read
        self.asked: list[tuple[int, int]] = []

    def cells(self, *place: Any, **options: Any) -> Any:
        """See Snapshot.cells."""
        self.asked.append((place[1], len(place[3])))
        return self._view.cells(*place, **options)

    def points_at_most(self, *place: Any, **options: Any) -> Any:
        """See Snapshot.points_at_most."""
        return self._view.points_at_most(*place, **options)


class Run:
    """A run in a store."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore.open(folder)
        self.state: RunState = new_run(1, "a/b", now=0.0)
        with self.store.transaction() as transaction:
            transaction.save(self.state)

    def send(self, counter: str, tags: list[str], steps: int, rewind: Rewind | None = None) -> None:
        """Tags at steps 0, 1, … of a counter."""
        columns = Columns(
            counter, tuple(tags), np.arange(steps), np.linspace(100.0, 200.0, steps), np.ones((steps, len(tags))), {}
        )
        self.apply(Batch(rewind=rewind, columns=(columns,)))

    def apply(self, batch: Batch) -> None:
        """Keep what a batch does."""
        outcome = apply(self.state, batch, now=1.0, last_step_before=lambda *_: None)
        assert not outcome.refused
        self.state = outcome.state
        with self.store.transaction() as transaction:
            transaction.save(outcome.state, outcome.blocks)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    made.store.close()


def test_a_counter_of_one_tag_is_asked_for_that_tag_only(run: Run) -> None:
    for tag in TAGS:
        run.send(implicit_counter(tag), [tag], 3)
    run.apply(Batch(rewind=Rewind(next_steps={implicit_counter("*"): 0})))
    for tag in TAGS:
        run.send(implicit_counter(tag), [tag], 2)
    with run.store.snapshot() as view:
        source = Counting(view)
        lines = read_lines(source, run.state, TAGS, Question(superseded=True), Allowance(10**6, 2 * len(TAGS)))
    assert [(line.tag, line.superseded, line.count) for line in lines] == [
        (tag, attempt, count) for tag in TAGS for attempt, count in ((None, 2), (1, 3))
    ]
    assert sum(tags for _, tags in source.asked) == 2 * len(TAGS)


def test_a_tag_that_went_on_with_a_counter_of_its_own_keeps_its_superseded_line(run: Run) -> None:
    run.send("step", ["loss"], 3)
    run.apply(Batch(rewind=Rewind(next_steps={"step": 0})))
    run.send("step", ["other"], 1)
    run.send(implicit_counter("loss"), ["loss"], 2)
    with run.store.snapshot() as view:
        lines = read_lines(view, run.state, ["loss"], Question(superseded=True), Allowance(10))
    assert [(line.counter, line.superseded, line.count) for line in lines] == [
        (implicit_counter("loss"), None, 2),
        ("step", 1, 3),
    ]


def test_superseded_series_are_counted_before_they_are_read(run: Run) -> None:
    for _ in range(5):
        run.send("step", ["a", "b"], 3, Rewind(next_steps={"step": 0}))
    counter = run.state.counters["step"]
    found = [history.superseded for history in superseded_histories(counter)]
    assert found == superseded_attempts(counter)
    assert len(found) == 4
    with run.store.snapshot() as view:
        source = Counting(view)
        asked = Question(superseded=True)
        with pytest.raises(SeriesTooManyError, match="more than 9 series"):
            read_lines(source, run.state, ["a", "b"], asked, Allowance(10**6, 9))
        assert source.asked == []
        assert len(read_lines(source, run.state, ["a", "b"], asked, Allowance(10**6, 10))) == 10

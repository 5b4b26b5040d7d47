"""Where a counter stood by time: from steps and wall times alone, each report counted once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns
from tallyboard_server.contract import apply, new_run
from tallyboard_server.model import RunState
from tallyboard_server.series import PointsTooManyError
from tallyboard_server.series import asof as asof_module
from tallyboard_server.series.asof import read_reached
from tallyboard_server.store.sqlite import SqliteStore
from tests.property.test_series_large import _merge

SETS, ROWS = 5, 120


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[tuple[SqliteStore, RunState]]:
    """Reports spread over many sets of tags, in merged columns and in the journal."""
    store = SqliteStore.open(tmp_path)
    state = new_run(1, "a/b", now=0.0)
    with store.transaction() as transaction:
        transaction.save(state)
    for begin in range(0, ROWS, 20):
        columns = tuple(
            Columns("step", (f"t{number}",), np.array([step]), np.array([float(step)]), np.array([[1.0]]), {})
            for step in range(begin, begin + 20)
            for number in range(SETS)
        )
        outcome = apply(state, Batch(columns=columns), now=1.0, last_step_before=lambda *_: None)
        state = outcome.state
        with store.transaction() as transaction:
            transaction.save(state, outcome.blocks)
        if begin == 60:
            _merge(store, state)
    yield store, state
    store.close()


@pytest.mark.parametrize("page_rows", [1, 70, 200_000])
def test_reports_are_counted_once_whatever_sets_of_tags_they_have(
    stored: tuple[SqliteStore, RunState], page_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, state = stored
    monkeypatch.setattr(asof_module, "_PAGE_ROWS", page_rows)
    monkeypatch.setattr(asof_module, "_TIMES_READ_MAX", 100)
    with store.snapshot() as view:
        reached = read_reached(view, state.id, state.counters["step"], reports_max=ROWS)
        assert len(reached.times) == ROWS
        np.testing.assert_array_equal(reached.at(np.array([-1.0, 0.0, 49.5, 119.0])), [0, 0, 49, 119])
        with pytest.raises(PointsTooManyError, match=f"more than {ROWS - 1} reports of step"):
            read_reached(view, state.id, state.counters["step"], reports_max=ROWS - 1)


def test_axes_are_those_of_the_blocks(stored: tuple[SqliteStore, RunState]) -> None:
    store, state = stored
    with store.snapshot() as view:
        for first, last in ((0, 2**63 - 1), (20, 100), (110, 110), (400, 500)):
            blocks = list(view.blocks(state.id, 1, 1, first_step=first, last_step=last))
            axes = list(view.axes(state.id, 1, 1, first_step=first, last_step=last))
            assert len(blocks) == len(axes)
            # Of blocks that begin at the same step the order is the store's.
            assert sorted((b.steps.tolist(), b.wall_times.tolist()) for b in blocks) == sorted(
                (steps.tolist(), walls.tolist()) for steps, walls in axes
            )
            assert [int(steps[0]) for steps, _ in axes] == [int(block.steps[0]) for block in blocks]

"""What many runs have together, against counting by hand; and read again only of runs that changed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.model import RunMeta, RunState, frozen
from tallyboard_server.runtable import Overview
from tallyboard_server.runtable.facets import KEYS_PER_RUN_MAX, TEXT_CHARS_MAX
from tallyboard_server.runtable.overview import DISTINCT_MAX, VALUES_SHOWN_MAX
from tallyboard_server.runtable.parse import parse_columns
from tallyboard_server.runtable.reading import at_path
from tallyboard_server.store.perrun import every_run
from tallyboard_server.store.protocol import RunVersion
from tests.eventfiles_kit import Service

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=2)
)
KEYS = st.text("ab.\" '", min_size=1, max_size=3)
INNER = st.dictionaries(KEYS, LEAVES, max_size=2)
CONFIGS = st.dictionaries(KEYS, LEAVES | st.dictionaries(KEYS, LEAVES | INNER, max_size=2), max_size=3)


class Heads:
    """A store that holds states and nothing else."""

    def __init__(self, states: list[RunState]) -> None:
        self.states = states
        self.loaded = 0

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        yield self

    def load_by_id(self, run_id: int) -> RunState:
        self.loaded += 1
        return self.states[run_id]

    def run_versions(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[Any]:
        heads = [RunVersion(state.id, state.name, 1) for state in self.states if state.name > after]
        return heads[:limit]


def with_configs(configs: Sequence[Mapping[str, Any]]) -> Any:
    metas = [RunMeta(0.0, 0.0, config=config) for config in configs]
    return Heads([RunState(i, f"p/r{i:06}", meta, counters=frozen()) for i, meta in enumerate(metas)])


@given(st.lists(CONFIGS, max_size=6))
def test_every_column_of_config_is_one_that_tables_read_and_counts_are_right(configs: list[dict[str, Any]]) -> None:
    store = with_configs(configs)
    found = Overview(store).columns(every_run(store), 10_000)
    assert (found.runs, found.truncated) == (len(configs), False)
    assert [key.column for key in found.config] == sorted(key.column for key in found.config)
    for key in found.config:
        ((_, column),) = parse_columns(key.column)
        assert column.text == key.column
        read = [value for config in configs if (value := at_path(config, column.arguments)) is not None]
        assert key.runs <= len(read)  # a path is also read from a key with dots, which is another column
        assert sum(key.sorts.values()) == key.runs
        numbers = [v for v in read if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
        if key.runs == len(read):
            assert key.least == (min(numbers) if numbers else None)
            assert key.greatest == (max(numbers) if numbers else None)
            if key.distinct is not None:
                plain = {(type(v) is bool, "NaN" if v != v else v) for v in read}
                assert key.distinct == len(plain) == len(key.values)


def test_values_are_in_order_and_of_their_sorts() -> None:
    values = [2, 0.5, math.nan, "b", "a", True, False, 1.0, 1, math.inf]
    store = with_configs([{"k": value} for value in values])
    (key,) = Overview(store).columns(every_run(store), 10).config
    assert (key.runs, key.distinct) == (10, 9)
    assert key.sorts == {"number": 6, "text": 2, "bool": 2}
    assert [str(value) for value in key.values] == ["0.5", "1.0", "2", "inf", "nan", "a", "b", "False", "True"]
    assert (key.least, key.greatest) == (0.5, 2)


def test_what_has_no_end_is_bounded() -> None:
    many = DISTINCT_MAX + 5
    few, some = VALUES_SHOWN_MAX, VALUES_SHOWN_MAX + 1
    configs = [{"seed": i, "few": i % few, "some": i % some, "long": "x" * 9_999 + str(i)} for i in range(many)]
    store = with_configs([*configs, {str(i): 1 for i in range(KEYS_PER_RUN_MAX + 9)}])
    found = Overview(store).columns(every_run(store), 1_000)
    keys = {key.column: key for key in found.config}
    assert keys["config.seed"].distinct is None
    assert (keys["config.seed"].values, keys["config.seed"].greatest) == ([], many - 1)
    assert (keys["config.few"].distinct, keys["config.few"].values) == (20, list(range(20)))
    assert (keys["config.some"].distinct, keys["config.some"].values) == (21, [])
    assert keys["config.long"].values == ["x" * TEXT_CHARS_MAX]
    assert len(keys) == 4 + KEYS_PER_RUN_MAX
    cut = Overview(store).columns(every_run(store), 4)
    assert [key.column for key in cut.config] == ["config.few", "config.long", "config.seed", "config.some"]
    assert (cut.truncated, found.truncated) == (True, False)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as running:
        yield running


def test_tags_are_counted_by_counter_and_hidden_ones_are_not_there(service: Service) -> None:
    for number in range(4):
        service.report(f"p/r{number}", [1, 2], {"loss": [1, 2]})
    service.report("p/r1", [3], {"late": [1]})
    service.report("p/r2", [1], {"acc": [1]}, counter="epoch")
    service.report("p/r3", [3], {"acc": [1]})
    found = Overview(service.store)
    tags = found.tags(every_run(service.store), 10)
    assert tags.scalars == {
        "acc": {"epoch": 1, "global_step": 1}, "late": {"global_step": 1}, "loss": {"global_step": 4},
    }  # fmt: skip
    assert (tags.runs, tags.truncated, tags.kinds) == (4, False, {})
    service.rewind("p/r1", global_step=3)
    assert set(found.tags(every_run(service.store), 10).scalars) == {"acc", "loss"}
    few = found.tags(every_run(service.store), 1)
    assert (list(few.scalars), few.truncated) == (["loss"], True)
    columns = found.columns(every_run(service.store), 10)
    assert columns.tags == [("acc", 2), ("loss", 4)]
    assert columns.counters == [("epoch", 1, 0), ("global_step", 4, 0)]


def test_only_what_changed_is_read_again() -> None:
    store = with_configs([{"lr": i} for i in range(50)])
    found = Overview(store)
    for _ in range(3):
        assert found.tags(every_run(store), 10).runs == found.columns(every_run(store), 10).runs == 50
    assert store.loaded == 50
    small = Overview(store, weight_max=1)
    assert [small.columns(every_run(store), 10).runs for _ in range(2)] == [50, 50]
    assert store.loaded == 50 + 50 + 49  # the last one is always kept

"""The list of runs and their time series: read again only where something changed, within bounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tensorboard.plugins.hparams import plugin_data_pb2

from tallyboard.wire import Open
from tallyboard_server.model import RunMeta
from tallyboard_server.store.perrun import PerRun
from tallyboard_server.store.protocol import Snapshot
from tallyboard_server.tensorboard import hparams
from tallyboard_server.tensorboard.listing import Listing
from tests.eventfiles_kit import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as running:
        yield running


class Counted:
    """A store that counts which runs are loaded."""

    def __init__(self, service: Service) -> None:
        self.loaded: list[int] = []
        self.snapshots = 0
        self._store = service.store

    @contextmanager
    def snapshot(self) -> Iterator[Any]:
        self.snapshots += 1
        with self._store.snapshot() as view:
            yield _CountedView(view, self.loaded)


class _CountedView:
    def __init__(self, view: Snapshot, loaded: list[int]) -> None:
        self._view = view
        self._loaded = loaded
        self.run_versions = view.run_versions

    def load_by_id(self, run_id: int) -> Any:
        self._loaded.append(run_id)
        return self._view.load_by_id(run_id)


def listing(service: Service, **options: Any) -> tuple[Listing, Counted]:
    counted = Counted(service)
    store: Any = counted
    return Listing(store, **options), counted


def test_only_what_changed_is_read_again(service: Service) -> None:
    for number in range(5):
        service.report(f"p/r{number}", [1, 2], {"loss": [1, 2]})
    found, counted = listing(service)
    assert [listed.name for listed in found.runs()] == [f"p/r{number}" for number in range(5)]
    assert counted.loaded == [1, 2, 3, 4, 5]
    assert [set(listed.scalars) for listed in found.runs()] == [{"loss"}] * 5
    assert len(counted.loaded) == 5
    service.report("p/r3", [3], {"loss": [3], "acc": [1]})
    assert [set(listed.scalars) for listed in found.runs(["p/r3"])] == [{"loss", "acc"}]
    assert counted.loaded[5:] == [4]
    service.delete("p/r0")
    assert [listed.name for listed in found.runs()] == [f"p/r{number}" for number in range(1, 5)]
    assert len(counted.loaded) == 6


def test_names_that_are_not_there_are_passed_over(service: Service) -> None:
    for name in ("p/a", "p/a/b", "p/ab"):
        service.report(name, [1], {"loss": [1]})
    found, _ = listing(service)
    assert [listed.name for listed in found.runs(["p/ab", "p", "p/a", "nobody", ""])] == ["p/a", "p/ab"]
    assert list(found.runs([])) == []


def test_a_snapshot_is_left_in_time(service: Service) -> None:
    for number in range(20):
        service.report(f"p/r{number:02}", [1], {"loss": [1]})
    ticks = iter(range(10_000))
    found, counted = listing(service, clock=lambda: next(ticks) * 0.04)
    assert len(list(found.runs())) == 20
    assert counted.snapshots > 8  # each was good for two runs


def test_steps_are_where_counters_stand_and_rewinds_hide_tags(service: Service) -> None:
    service.report("p/a", [1, 7], {"loss": [1, 2]}, producer="a")
    service.report("p/a", [3], {"late": [1]}, counter="epoch", producer="a")
    found, _ = listing(service)
    (listed,) = found.runs()
    assert {tag: series.max_step for tag, series in listed.scalars.items()} == {"loss": 7, "late": 3}
    assert listed.last_step == 7
    service.rewind("p/a", "a", global_step=4, epoch=0)
    (listed,) = found.runs()
    assert {tag: series.max_step for tag, series in listed.scalars.items()} == {"loss": 1}


def test_what_is_remembered_is_bounded(service: Service) -> None:
    for number in range(30):
        service.report(f"p/r{number:02}", [1], {f"t{tag}": [1] for tag in range(10)})
    found, counted = listing(service, weight_max=100)
    for _ in range(2):
        assert sum(len(listed.scalars) for listed in found.runs()) == 300
    assert len(counted.loaded) == 30 + 25  # five of them weigh what may be kept
    known: PerRun[str] = PerRun(10)
    for run_id in range(6):
        known.put(run_id, 1, "x", 3)
    assert len(known) == 3
    assert (known.get(2, 1), known.get(5, 1), known.get(5, 2)) == (None, "x", None)
    known.put(9, 1, "huge", 1_000)
    assert (len(known), known.get(9, 1)) == (1, "huge")
    known.put(9, 2, "small", 1)
    known.put(1, 1, "y", 9)
    assert len(known) == 2


def test_runs_with_a_config_have_sessions(service: Service) -> None:
    service.batch("p/a", open=Open(config={"lr": 0.1}))
    found, _ = listing(service)
    (listed,) = found.runs()
    assert (listed.kinds, set(listed.tensors["hparams"])) == (
        {"hparams"},
        {"_hparams_/session_start_info", "_hparams_/session_end_info"},
    )


class TestHParams:
    def test_values(self) -> None:
        config = {
            "f": 0.5, "i": 2**60, "b": False, "s": "x" * 300, "l": [1, {"a": None}], "e": {}, "n": None,
            "o": {"deep": {"er": 1}, "dotted.key": 2},
        }  # fmt: skip
        data = hparams.contents(RunMeta(1.0, 2.0, config=config))["_hparams_/session_start_info"]
        found = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info
        values = {name: value.WhichOneof("kind") for name, value in found.hparams.items()}
        assert values == {
            "f": "number_value", "i": "number_value", "b": "bool_value", "s": "string_value", "l": "string_value",
            "e": "string_value", "o.deep.er": "number_value", "o.dotted.key": "number_value",
        }  # fmt: skip
        assert found.hparams["l"].string_value == '[1,{"a":null}]'
        assert len(found.hparams["s"].string_value) == hparams.TEXT_MAX + 1
        assert found.start_time_secs == 1.0

    def test_bounds_and_nothing(self) -> None:
        many = {f"k{number:04}": number for number in range(hparams.HPARAMS_MAX + 100)}
        data = hparams.contents(RunMeta(1.0, 2.0, config=many))["_hparams_/session_start_info"]
        found = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info
        assert len(found.hparams) == hparams.HPARAMS_MAX
        assert hparams.contents(RunMeta(1.0, 2.0, config={"a": None})) == {}

    def test_numbers_of_a_summary(self) -> None:
        summary = {"acc": 0.5, "n": 3, "flag": True, "text": "0.5", "nested": {"f1": 1}, "none": None, "list": [1]}
        assert hparams.numbers(summary) == {"acc": 0.5, "n": 3.0, "nested.f1": 1.0}

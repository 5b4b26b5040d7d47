"""What TensorBoard gets of a curve, against the brute-force model: real points, the last, and every extreme."""

import random

import numpy as np
import pytest
from hypothesis import strategies as st

from tallyboard_server.tensorboard.scalars import read_last, read_series
from tests.eventfiles_kit import Service
from tests.examples import given_on_engines
from tests.property.contract_model import bits_of
from tests.property.series_kit import StoredMachine, curve
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

SIZES = (1, 2, 3, 4, 5, 7, 20, 1000)


@given_on_engines(40, elsewhere=3, seed=st.integers(0, 2**64))
def test_samples_are_points_and_keep_what_matters(
    stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    dice = random.Random(seed)
    with stores.opened(tmp_path_factory.mktemp("store")) as store:
        machine = StoredMachine(store, dice)
        for _ in range(dice.randint(1, 40)):
            machine.act()
        run = machine.state.name
        version, last = read_last(store, run)
        assert version > 0
        for size in SIZES:
            _, series = read_series(store, run, None, size)
            assert set(series) == set(last)
            for tag, data in series.items():
                counter = machine.state.counter_by_id(machine.state.tags[tag].counter_id)
                assert counter is not None
                expected = {
                    step: (point.wall_time, point.bits)
                    for step, point, _ in curve(machine.model, tag, counter.name, "step")
                }
                steps = [datum.step for datum in data]
                assert steps == sorted(set(steps))
                assert len(steps) == len(expected) if len(expected) <= size else len(steps) <= size
                found = {datum.step: (datum.wall_time, bits_of(datum.value)) for datum in data}
                assert found == {step: expected[step] for step in steps}
                assert steps[-1] == max(expected) == last[tag].step
                if size >= 4:
                    assert steps[0] == min(expected)
                    check_extremes(
                        {step: float(datum.value) for step, datum in zip(steps, data, strict=True)}, expected
                    )


def check_extremes(found: dict[int, float], expected: dict[int, tuple[float, int]]) -> None:
    """The least and the greatest value are among those found, if there is a finite one."""
    values = np.array([bits for _, bits in expected.values()], np.int64).view(np.float64)
    finite = values[np.isfinite(values)]
    if len(finite):
        assert {finite.min(), finite.max()} <= set(found.values())


@pytest.mark.parametrize("size", [5, 10, 1000])
def test_every_stretch_with_a_nan_shows_one(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    values = np.sin(np.arange(50_000) / 100)
    values[[20_000, 30_001, 30_002, 49_998]] = [np.nan, np.inf, -np.inf, np.nan]
    with Service(tmp_path_factory.mktemp("nan")) as service:
        service.report("p/a", range(50_000), {"loss": values.tolist()})
        _, series = read_series(service.store, "p/a", ["loss"], size)
    data = series["loss"]
    assert len(data) <= size
    odd = {datum.step for datum in data if not np.isfinite(datum.value)}
    assert odd <= {20_000, 30_001, 30_002, 49_998}
    assert odd if size < 1000 else odd == {20_000, 30_001, 49_998}
    assert data[-1].step == 49_999

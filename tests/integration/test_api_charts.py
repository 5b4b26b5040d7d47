"""GET /scalars: raw points of many runs and tags, on every axis, in both forms."""

from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest

from tallyboard.wire import MSGPACK
from tests.conftest import StartService
from tests.service import RunningService


def ask(service: RunningService, *pairs: tuple[str, Any], msgpack: bool = False) -> Any:
    answer = service.get(f"/scalars?{urlencode(pairs)}", {"Accept": MSGPACK} if msgpack else None)
    assert answer.status == 200, answer.body
    return answer.json()


@pytest.fixture(scope="module")
def trained(service: RunningService) -> RunningService:
    """Two runs: loss and acc by global_step, val by epoch; the clock of run b runs backwards once."""
    for run, walls in (("chart/a", [100.0, 101.0, 102.0, 103.0]), ("chart/b", [200.0, 199.0, 205.0, 206.0])):
        steps = [{"step": s, "scalars": {"loss": s / 2, "acc": -s}, "wall_time": w} for s, w in enumerate(walls)]
        service.report(run, {"reports": steps})
        service.report(run, {"counter": "epoch", "step": 1, "scalars": {"val": 9.0}, "wall_time": walls[2]})
        service.report(run, {"counter": "epoch", "step": 2, "scalars": {"val": 8.0}, "wall_time": walls[3] + 1})
    return service


def test_series_come_in_the_order_asked_for(trained: RunningService) -> None:
    chart = ask(trained, ("run", "chart/b"), ("run", "chart/a"), ("tag", "loss"), ("tag", "acc"), ("run", "chart/b"))
    assert [(s["run"], s["tag"]) for s in chart["series"]] == [
        ("chart/b", "loss"), ("chart/b", "acc"), ("chart/a", "loss"), ("chart/a", "acc"),
    ]  # fmt: skip
    assert chart["series"][2] == {
        "run": "chart/a", "tag": "loss", "counter": "global_step", "count": 4,
        "points": {"step": [0, 1, 2, 3], "wall_time": [100.0, 101.0, 102.0, 103.0], "value": [0.0, 0.5, 1.0, 1.5]},
    }  # fmt: skip
    assert (chart["x"], chart["missing"]) == ("step", [])


def test_no_tag_means_every_tag(trained: RunningService) -> None:
    chart = ask(trained, ("run", "chart/a"))
    assert [(s["tag"], s["counter"]) for s in chart["series"]] == [
        ("acc", "global_step"), ("loss", "global_step"), ("val", "epoch"),
    ]  # fmt: skip


def test_what_is_not_there_is_listed(trained: RunningService) -> None:
    chart = ask(trained, ("run", "chart/a"), ("run", "chart/nobody"), ("tag", "loss"), ("tag", "lost"))
    assert chart["missing"] == [{"run": "chart/a", "tag": "lost"}, {"run": "chart/nobody"}]
    assert [s["tag"] for s in chart["series"]] == ["loss"]


@pytest.mark.parametrize(("bounds", "steps"), [
    ([("from", 1)], [1, 2, 3]), ([("to", 1)], [0, 1]), ([("from", 1), ("to", 2)], [1, 2]),
    ([("from", 0.5), ("to", 1.5)], [1]), ([("from", 4)], []), ([("to", -1)], []),
    ([("from", -5), ("to", 1e300)], [0, 1, 2, 3]), ([("from", 1e300)], []),
])  # fmt: skip
def test_a_range_of_steps(trained: RunningService, bounds: list[tuple[str, float]], steps: list[int]) -> None:
    (series,) = ask(trained, ("run", "chart/a"), ("tag", "loss"), *bounds)["series"]
    assert (series["points"]["step"], series["count"]) == (steps, len(steps))


def test_wall_time_as_an_axis_never_goes_back(trained: RunningService) -> None:
    (series,) = ask(trained, ("run", "chart/b"), ("tag", "loss"), ("x", "wall_time"), ("to", 205))["series"]
    assert series["points"]["x"] == [200.0, 200.0, 205.0]
    assert series["points"]["wall_time"] == [200.0, 199.0, 205.0]
    (relative,) = ask(trained, ("run", "chart/b"), ("tag", "loss"), ("x", "relative"))["series"]
    assert relative["points"]["x"] == [0.0, 0.0, 5.0, 6.0]


def test_another_counter_as_an_axis_is_found_by_time_if_not_recorded(trained: RunningService) -> None:
    (series,) = ask(trained, ("run", "chart/a"), ("tag", "val"), ("x", "global_step"))["series"]
    assert (series["points"]["x"], series["x_source"]) == ([2, 3], "as_of_time")


def test_an_axis_that_no_run_has_is_an_error(trained: RunningService) -> None:
    trained.report("chart/c", {"counter": "tokens", "step": 1, "scalars": {"loss": 1.0}})
    answer = trained.get("/scalars?run=chart/a&tag=loss&x=tokens")
    assert (answer.status, answer.json()["code"], answer.json()["field"]) == (422, "unknown_axis", "x")
    chart = ask(trained, ("run", "chart/a"), ("run", "chart/c"), ("tag", "loss"), ("x", "tokens"))
    assert chart["missing"] == [{"run": "chart/a", "x": "tokens"}]
    assert [s["run"] for s in chart["series"]] == ["chart/c"]


def test_msgpack_carries_columns(trained: RunningService) -> None:
    trained.report("chart/d", {"reports": [{"step": s, "scalars": {"v": v}} for s, v in enumerate([1.5, "NaN"])]})
    (series,) = ask(trained, ("run", "chart/d"), ("x", "relative"), msgpack=True)["series"]
    points = series["points"]
    assert np.frombuffer(points["step"], "<i8").tolist() == [0, 1]
    np.testing.assert_array_equal(np.frombuffer(points["value"], "<f8"), [1.5, np.nan])
    assert np.frombuffer(points["x"], "<f8").tolist() == [0.0, 0.0]
    assert len(points["wall_time"]) == 16


def test_an_answer_is_bounded(start_service: StartService) -> None:
    service = start_service(points_per_answer_max=100)
    for run in ("a/x", "a/y"):
        service.report(run, {"reports": [{"step": s, "scalars": {"loss": 1.0}} for s in range(60)]})
    assert len(service.points("a/x", "loss")) == 60
    answer = service.get("/scalars?run=a/x&run=a/y")
    assert (answer.status, answer.json()["code"]) == (413, "too_many_points")
    assert "100 points" in answer.json()["detail"]
    assert "from=" in answer.json()["detail"]
    narrowed = ask(service, ("run", "a/x"), ("run", "a/y"), ("to", 49))
    assert [s["count"] for s in narrowed["series"]] == [50, 50]


@pytest.mark.parametrize(("query", "field"), [
    ("", "run"), ("run=a/b&x=", "x"), ("run=a/b&from=abc", "from"), ("run=a/b&from=nan", "from"),
    ("run=a/b&to=inf", "to"), ("run=a/b&tags=loss", "tags"),
    ("&".join(f"run=a/r{i}" for i in range(101)) + "".join(f"&tag=t{i}" for i in range(100)), "run"),
])  # fmt: skip
def test_a_wrong_question_names_the_parameter(trained: RunningService, query: str, field: str) -> None:
    trained.report("a/b", {"step": 1, "scalars": {"loss": 1.0}})
    answer = trained.get(f"/scalars?{query}")
    assert (answer.status, answer.json()["field"]) == (422, field)
    assert answer.headers["content-type"] == "application/problem+json"

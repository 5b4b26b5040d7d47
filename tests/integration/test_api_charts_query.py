"""Buckets, patterns, POST /query, superseded points, groups, ETags and cursors, through a real service."""

from typing import Any
from urllib.parse import urlencode

import msgspec
import numpy as np
import pytest

from tallyboard.wire import JSON, MSGPACK
from tallyboard_server.series import RunReader
from tests.conftest import StartService
from tests.service import Answer, RunningService
from tests.stores import on

pytestmark = on("sqlite", "postgres")

Document = dict[str, Any]


def query(service: RunningService, question: Document, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.request("POST", "/api/v1/query", msgspec.json.encode(question), {"Content-Type": JSON, **named})


def chart(service: RunningService, question: Document, **headers: str) -> Any:
    answer = query(service, question, **headers)
    assert answer.status == 200, answer.body
    return answer.json()


def names(found: Any) -> list[tuple[str, str]]:
    return [(series["run"], series["tag"]) for series in found["series"]]


def train(service: RunningService, run: str, values: list[Any], first: int = 0, tag: str = "loss", **rest: Any) -> None:
    reports = [
        {"step": first + i, "scalars": {tag: value}, "wall_time": 100.0 + first + i, **rest}
        for i, value in enumerate(values)
    ]
    answer = service.report(run, {"reports": reports})
    assert answer.status == 200, answer.body


@pytest.fixture(scope="module")
def trained(service: RunningService) -> RunningService:
    """long/a: loss with a spike and a NaN; long/b: a short one; seeds/*: three runs of two learning rates."""
    values: list[Any] = [i / 100 for i in range(1_000)]
    values[333], values[500] = 99.0, "NaN"
    train(service, "long/a", values)
    train(service, "long/b", [1.0, 2.0])
    train(service, "long/b", [3.0], tag="val/loss", first=1)
    for name, lr, values in (("one", 0.1, [0.0, 2.0]), ("two", 0.1, [2.0, 6.0]), ("three", 1, [5.0, "NaN"])):
        service.send("PUT", f"/runs/seeds/{name}", {"config": {"model": {"lr": lr}}})
        train(service, f"seeds/{name}", values)
    return service


def test_buckets_show_spikes_and_non_finite_values(trained: RunningService) -> None:
    (series,) = chart(trained, {"runs": ["long/a"], "tags": ["loss"], "buckets": 10})["series"]
    assert (series["count"], "points" in series) == (1_000, False)
    buckets = series["buckets"]
    assert len(buckets["count"]) == 10
    assert sum(buckets["count"]) == 1_000
    assert buckets["nonfinite"] == [0] * 5 + [1] + [0] * 4
    assert (buckets["max"]["value"][3], buckets["max"]["step"][3]) == (99.0, 333)
    assert (buckets["first"]["step"][0], buckets["last"]["step"][-1]) == (0, 999)
    assert buckets["first"]["value"][5] == "NaN"
    assert buckets["min"]["wall_time"][5] == 601.0
    assert buckets["mean"][0] == pytest.approx(sum(range(100)) / 10_000, rel=1e-12)
    assert "x" not in buckets["first"]


LEAN = ("x", "end", "first", "min", "max", "last", "mean", "count", "nonfinite")


@pytest.mark.parametrize("x", ["step", "relative"])
def test_lean_columns_are_those_of_the_whole_answer(trained: RunningService, x: str) -> None:
    question = {"runs": ["long/*", "seeds/three"], "tags": ["loss"], "buckets": 10, "x": x}
    whole = chart(trained, question)["series"]
    lean = chart(trained, question | {"fields": LEAN})["series"]
    packed = chart(trained, question | {"fields": LEAN}, Accept=MSGPACK)["series"]
    assert [series.get("merged", False) for series in lean] == [True, False, False]
    for full, found, binary in zip(whole, lean, packed, strict=True):
        assert "buckets" not in found
        assert "points" not in found
        assert {key: found[key] for key in ("run", "tag", "counter", "count")} == {
            key: full[key] for key in ("run", "tag", "counter", "count")
        }
        place = "step" if x == "step" else "x"
        if not found.get("merged"):
            assert found["lean"] == {"x": full["points"][place], "value": full["points"]["value"]}
            assert np.frombuffer(binary["lean"]["value"], "<f8")[0] == full["points"]["value"][0]
            continue
        buckets = full["buckets"]
        assert found["lean"] == {
            "x": buckets["first"][place], "end": buckets["last"][place],
            **{name: buckets[name]["value"] for name in ("first", "min", "max", "last")},
            **{name: buckets[name] for name in ("mean", "count", "nonfinite")},
        }  # fmt: skip
        assert set(binary["lean"]) == set(LEAN)
        assert np.frombuffer(binary["lean"]["mean"], "<f8").tolist() == buckets["mean"]
        assert np.frombuffer(binary["lean"]["count"], "<i8").tolist() == buckets["count"]


def test_lean_columns_are_those_asked_for_and_no_others(trained: RunningService) -> None:
    question: Document = {"runs": ["long/a"], "buckets": 10, "fields": ["mean", "x", "mean"]}
    (series,) = chart(trained, question)["series"]
    assert set(series["lean"]) == {"x", "mean"}
    (by_get,) = trained.get("/scalars?run=long/a&buckets=10&field=mean&field=x").json()["series"]
    assert by_get == series
    (without_x,) = chart(trained, {"runs": ["long/b"], "tags": ["loss"], "fields": ["mean"]})["series"]
    assert without_x["lean"] == {"value": [1.0, 2.0]}
    first = query(trained, question)
    assert query(trained, question, If_None_Match=first.headers["etag"]).status == 304
    assert query(trained, question | {"fields": ["x"]}, If_None_Match=first.headers["etag"]).status == 200


def test_a_lean_reader_is_told_what_is_new(trained: RunningService) -> None:
    train(trained, "lean/a", [1.0, 2.0])
    question: Document = {"runs": ["lean/*"], "buckets": 100, "fields": ["x", "mean"]}
    first = chart(trained, question)
    train(trained, "lean/a", [3.0], first=2)
    (series,) = chart(trained, question | {"since": first["cursor"]})["series"]
    assert (series["append"], series["lean"]) == (True, {"x": [2], "value": [3.0]})


@pytest.mark.parametrize("fields", [["median"], "x", [None], {"x": 1}])
def test_what_is_no_field_is_refused(trained: RunningService, fields: Any) -> None:
    answer = query(trained, {"runs": ["long/a"], "fields": fields})
    assert (answer.status, answer.json()["code"]) == (422, "invalid_body")
    assert answer.json()["field"].startswith("$.fields")
    assert trained.get("/scalars?run=long/a&field=median").status == 422


def test_a_gap_is_null_in_lean_columns_too(trained: RunningService) -> None:
    train(trained, "lean/gap", ["NaN", "Infinity", 1.0, 2.0])
    (series,) = chart(trained, {"runs": ["lean/gap"], "buckets": 2, "fields": ["min", "last", "mean"]})["series"]
    assert series["lean"] == {"min": [None, 1.0], "last": ["Infinity", 2.0], "mean": [None, 1.5]}


def test_few_points_come_as_they_are(trained: RunningService) -> None:
    (series,) = chart(trained, {"runs": ["long/a"], "buckets": 10, "from": 20, "to": 29})["series"]
    assert series["points"]["step"] == list(range(20, 30))
    (series,) = chart(trained, {"runs": ["long/a"], "buckets": 1_000})["series"]
    assert len(series["points"]["step"]) == 1_000


def test_a_bucket_without_finite_values_has_no_least(trained: RunningService) -> None:
    train(trained, "odd/a", ["NaN", "Infinity", 1.0, 2.0])
    for x in ("step", "wall_time"):
        question = {"runs": ["odd/a"], "buckets": 2, "x": x}
        (series,) = chart(trained, question)["series"]
        buckets = series["buckets"]
        assert buckets["min"]["value"] == [None, 1.0]
        assert (buckets["max"]["step"], buckets["max"]["wall_time"]) == ([None, 3], [None, 103.0])
        assert (buckets["mean"], buckets["nonfinite"]) == ([None, 1.5], [2, 0])
        assert buckets["min"].get("x") == (None if x == "step" else [None, 102.0])
        (binary,) = chart(trained, question, Accept=MSGPACK)["series"]
        assert np.frombuffer(binary["buckets"]["min"]["step"], "<i8").tolist() == [-1, 2]
        assert np.isnan(np.frombuffer(binary["buckets"]["mean"], "<f8")[0])
        assert np.frombuffer(binary["buckets"]["nonfinite"], "<i8").tolist() == [2, 0]


def test_get_and_post_say_the_same(trained: RunningService) -> None:
    pairs = [("run", "long/*"), ("tag", "loss"), ("x", "relative"), ("from", 3), ("to", 400), ("buckets", 7)]
    by_get = trained.get(f"/scalars?{urlencode(pairs)}")
    question = {"runs": ["long/*"], "tags": ["loss"], "x": "relative", "from": 3, "to": 400, "buckets": 7}
    by_post = query(trained, question)
    assert by_get.json()["series"] == by_post.json()["series"]
    assert by_get.headers["etag"] == by_post.headers["etag"]
    in_msgpack = trained.request(
        "POST", "/api/v1/query", msgspec.msgpack.encode(question), {"Content-Type": MSGPACK, "Accept": JSON}
    )
    assert in_msgpack.json()["series"] == by_post.json()["series"]


def test_patterns_stand_for_runs_and_tags(trained: RunningService) -> None:
    assert names(chart(trained, {"runs": ["long/*"], "buckets": 5})) == [
        ("long/a", "loss"), ("long/b", "loss"), ("long/b", "val/loss"),
    ]  # fmt: skip
    found = chart(trained, {"runs": ["long/?", "long/b", "nobody/*"], "tags": ["val/*", "loss"], "buckets": 5})
    assert names(found) == [("long/a", "loss"), ("long/b", "val/loss"), ("long/b", "loss")]
    assert found["missing"] == [{"run": "nobody/*"}, {"run": "long/a", "tag": "val/*"}]


def test_names_with_wildcards_and_brackets_are_found_by_themselves(trained: RunningService) -> None:
    for tag in ("w[0]", "w[1]", "a*b", "axb"):
        train(trained, "odd/names", [1.0], tag=tag, first=5)
    ask = {"runs": ["odd/names"]}
    assert names(chart(trained, ask | {"tags": ["w[0]"]})) == [("odd/names", "w[0]")]
    assert names(chart(trained, ask | {"tags": ["w[?]"]})) == [("odd/names", "w[0]"), ("odd/names", "w[1]")]
    assert ("odd/names", "a*b") in names(chart(trained, ask | {"tags": ["a*b"]}))


def test_whole_steps_are_bounds_without_rounding(trained: RunningService) -> None:
    first = 1_760_000_000_000_000_001
    train(trained, "odd/ns", [1.0, 2.0, 3.0], first=first)
    for bounds in ({"from": first + 1}, {"from": first + 1, "to": first + 1}):
        (series,) = chart(trained, {"runs": ["odd/ns"], **bounds})["series"]
        assert series["points"]["step"][0] == first + 1
        answer = trained.get(f"/scalars?{urlencode({'run': 'odd/ns', **bounds})}").json()
        assert answer["series"][0]["points"] == series["points"]


def test_superseded_points_are_series_of_their_own(trained: RunningService) -> None:
    run = "again/a"
    train(trained, run, [1.0, 2.0, 3.0, 4.0])
    assert (
        trained.send("POST", f"/rewind/{run}", {"next_steps": {"global_step": 2}, "producer": "restart"}).status == 200
    )
    assert trained.report(run, {"producer": "restart", "seq": 1, "step": 2, "scalars": {"loss": 7.0}}).status == 200
    (visible,) = chart(trained, {"runs": [run]})["series"]
    assert visible["points"]["value"] == [1.0, 2.0, 7.0]
    first, second = chart(trained, {"runs": [run], "attempts": "all", "x": "relative"})["series"]
    assert first["points"]["value"] == visible["points"]["value"]
    assert (second["superseded"], second["attempt"], second["writer"]) == (True, 1, "anonymous")
    assert (second["points"]["step"], second["points"]["value"]) == ([2, 3], [3.0, 4.0])
    assert second["points"]["x"] == [2.0, 3.0]  # as it was before the rewind
    trained.send("POST", f"/rewind/{run}", {"next_steps": {"global_step": 0}})
    found = chart(trained, {"runs": [run], "attempts": "all", "tags": ["loss"]})
    assert [series["attempt"] for series in found["series"]] == [1, 2]
    assert chart(trained, {"runs": [run], "tags": ["loss"]})["missing"] == [{"run": run, "tag": "loss"}]


def test_groups_of_runs(trained: RunningService) -> None:
    found = chart(trained, {"runs": ["seeds/*", "long/b"], "tags": ["loss"], "group": "model.lr"})
    assert found["series"] == []
    assert "linear" in found["interpolation"]
    low, high, without = found["groups"]
    assert (low["value"], low["runs"], low["nonfinite"]) == (0.1, 2, 0)
    assert low["points"] == {
        "x": [0, 1], "count": [2, 2], "mean": [1.0, 4.0], "std": pytest.approx([2**0.5, 8**0.5]),
        "min": [0.0, 2.0], "max": [2.0, 6.0],
    }  # fmt: skip
    assert (high["value"], high["nonfinite"], high["points"]["x"], high["points"]["std"]) == (1, 1, [0], [0.0])
    assert (without["value"], without["runs"]) == (None, 1)
    binary = chart(trained, {"runs": ["seeds/*"], "tags": ["loss"], "group": "model.lr"}, Accept=MSGPACK)
    assert np.frombuffer(binary["groups"][0]["points"]["x"], "<i8").tolist() == [0, 1]


def test_a_group_of_long_runs_has_at_most_the_places_asked_for(trained: RunningService) -> None:
    (group,) = chart(trained, {"runs": ["long/*"], "tags": ["loss"], "group": "lr", "buckets": 20})["groups"]
    points = group["points"]
    assert (len(points["x"]), points["x"][0], points["x"][-1]) == (20, 0, 999)
    assert (points["count"][0], points["count"][-1], group["nonfinite"]) == (2, 1, 1)


def test_an_answer_that_is_known_is_not_made_again(trained: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    run = "etag/a"
    train(trained, run, [1.0])
    question = {"runs": [run], "buckets": 5}
    first = query(trained, question)
    etag = first.headers["etag"]
    assert etag.startswith('W/"')
    with monkeypatch.context() as patched:
        patched.setattr(RunReader, "cells", None)  # whoever reads a point now fails
        for known in (etag, f'"other", {etag}', etag.removeprefix("W/"), "*"):
            again = query(trained, question, If_None_Match=known)
            assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    for other in (question | {"buckets": 6}, question | {"x": "wall_time"}, question | {"attempts": "all"}):
        assert query(trained, other, If_None_Match=etag).status == 200
    assert query(trained, question, If_None_Match=etag, Accept=MSGPACK).status == 200
    train(trained, run, [2.0], first=1)
    fresh = query(trained, question, If_None_Match=etag)
    assert (fresh.status, fresh.json()["series"][0]["count"]) == (200, 2)
    assert trained.get(f"/scalars?run={run}&buckets=5", {"If-None-Match": fresh.headers["etag"]}).status == 304


def test_groups_by_name(service: RunningService) -> None:
    runs = ("ranked/a", "ranked/a/rank00", "ranked/a/rank01", "ranked/b/rank7", "ranked/b/rankless")
    for value, run in enumerate(runs):
        service.send("PUT", f"/runs/{run}", {"config": {"run": {"ranks": "own"}}})
        service.report(run, {"step": 1, "scalars": {"loss": value}})
    question = {"runs": runs, "tags": ["loss"]}
    ranks = chart(service, question | {"group": "run.ranks"})["groups"]
    assert [(group["value"], group["runs"], group["points"]["min"], group["points"]["max"]) for group in ranks] == [
        ("ranked/a", 3, [0], [2]), ("ranked/b", 1, [3], [3]), ("ranked/b/rankless", 1, [4], [4]),
    ]  # fmt: skip
    (together,) = chart(service, question | {"group": "run.all"})["groups"]
    assert (together["value"], together["runs"], together["points"]["mean"]) == (None, 5, [2])
    (own,) = chart(service, question | {"group": "config.run.ranks"})["groups"]
    assert (own["value"], own["runs"]) == ("own", 5)


def test_an_etag_of_groups_hangs_on_the_config(trained: RunningService) -> None:
    question = {"runs": ["seeds/one"], "group": "note"}
    etag = query(trained, question).headers["etag"]
    assert query(trained, question, If_None_Match=etag).status == 304
    trained.send("PATCH", "/runs/seeds/one", {"config": {"note": "new"}})
    changed = query(trained, question, If_None_Match=etag)
    assert (changed.status, changed.json()["groups"][0]["value"]) == (200, "new")


def test_since_brings_only_what_is_new(trained: RunningService) -> None:
    run = "live/a"
    train(trained, run, [1.0, 2.0])
    train(trained, run, [5.0], tag="val", first=1)
    question: Document = {"runs": ["live/*"], "tags": ["*"], "buckets": 100}
    first = chart(trained, question)
    assert [series.get("append") for series in first["series"]] == [None, None]
    nothing = chart(trained, question | {"since": first["cursor"]})
    assert (nothing["series"], nothing["missing"]) == ([], [])
    train(trained, run, [3.0, 4.0], first=2)
    train(trained, "live/b", [9.0])
    news = chart(trained, question | {"since": nothing["cursor"]})
    assert names(news) == [(run, "loss"), ("live/b", "loss")]
    assert [series["append"] for series in news["series"]] == [True, False]
    assert news["series"][0]["points"]["step"] == [2, 3]
    trained.send("POST", f"/rewind/{run}", {"next_steps": {"global_step": 1}})
    rewound = chart(trained, question | {"since": news["cursor"]})
    assert [(s["tag"], s["append"], s["points"]["step"]) for s in rewound["series"]] == [("loss", False, [0])]
    assert rewound["missing"] == [{"run": run, "tag": "val"}]
    assert trained.request("DELETE", "/api/v1/runs/live/b").status == 204
    gone = chart(trained, question | {"since": rewound["cursor"]})
    assert (gone["series"], gone["missing"]) == ([], [{"run": "live/b"}])


def test_a_run_that_began_anew_replaces_the_old_one(trained: RunningService) -> None:
    train(trained, "reborn/a", [1.0, 2.0])
    before = chart(trained, {"runs": ["reborn/a"]})
    trained.request("DELETE", "/api/v1/runs/reborn/a")
    trained.send("PUT", "/runs/reborn/a", {})
    train(trained, "reborn/a", [7.0])
    after = chart(trained, {"runs": ["reborn/a"], "since": before["cursor"]})
    assert after["missing"] == [{"run": "reborn/a"}]
    assert [(s["append"], s["points"]["value"]) for s in after["series"]] == [(False, [7.0])]


def test_a_cursor_of_another_question_or_none_is_refused(trained: RunningService) -> None:
    cursor = chart(trained, {"runs": ["long/b"]})["cursor"]
    for wrong in ("", "x", "####", cursor[:-4], cursor + "AAAA"):
        answer = query(trained, {"runs": ["long/b"], "since": wrong})
        assert (answer.status, answer.json()["code"], answer.json()["field"]) == (422, "invalid_query", "since")
        assert "leave it out" in answer.json()["detail"]
    other = query(trained, {"runs": ["long/b"], "buckets": 5, "since": cursor})
    assert (other.status, other.json()["field"]) == (422, "since")
    assert "another question" in other.json()["detail"]
    assert query(trained, {"runs": ["long/b"], "since": cursor}, Accept=MSGPACK).status == 200


@pytest.mark.parametrize(("changes", "field"), [
    ({"runs": []}, "runs"), ({"buckets": 0}, "buckets"), ({"buckets": 10_001}, "buckets"),
    ({"attempts": "all", "group": "lr"}, "attempts"), ({"group": ""}, "group"),
    ({"group": "lr", "since": "x"}, "since"), ({"tags": [f"t{i}" for i in range(10_001)]}, "tag"),
    ({"runs": [f"a/{i}" for i in range(10_001)]}, "run"), ({"x": "tokens"}, "x"),
    ({"group": "lr", "fields": ["x"]}, "fields"),
])  # fmt: skip
def test_a_wrong_question_names_the_field(trained: RunningService, changes: Document, field: str) -> None:
    answer = query(trained, {"runs": ["long/b"]} | changes)
    assert (answer.status, answer.json()["field"]) == (422, field), answer.body


@pytest.mark.parametrize(("body", "field"), [
    (b'{"runs": ["a/b"], "tag": "loss"}', "$.tag"), (b'{"runs": "a/b"}', "$.runs"), (b"{}", "$.runs"),
    (b'{"runs": ["a/b"], "from": "1"}', "$.from"), (b'{"runs": ["a/b"], "attempts": "some"}', "$.attempts"),
])  # fmt: skip
def test_a_wrong_body_is_refused(trained: RunningService, body: bytes, field: str) -> None:
    answer = trained.request("POST", "/api/v1/query", body, {"Content-Type": JSON})
    assert (answer.status, answer.json()["code"], answer.json()["field"]) == (422, "invalid_body", field)


def test_bounds_must_be_finite_in_msgpack_too(trained: RunningService) -> None:
    body = msgspec.msgpack.encode({"runs": ["long/b"], "to": float("inf")})
    answer = trained.request("POST", "/api/v1/query", body, {"Content-Type": MSGPACK})
    assert (answer.status, answer.json()["field"]) == (422, "to")


@pytest.mark.parametrize(("query_string", "field"), [
    ("buckets=0", "buckets"), ("buckets=10001", "buckets"), ("buckets=many", "buckets"), ("attempts=some", "attempts"),
    ("group=", "group"), ("since=x", "since"),
])  # fmt: skip
def test_a_wrong_parameter_is_named(trained: RunningService, query_string: str, field: str) -> None:
    answer = trained.get(f"/scalars?run=long/b&{query_string}")
    assert (answer.status, answer.json()["field"]) == (422, field), answer.body


def test_answers_in_buckets_are_bounded_too(start_service: StartService) -> None:
    service = start_service(points_per_answer_max=100)
    for run in ("a/x", "a/y"):
        train(service, run, [1.0] * 90)
    whole = query(service, {"runs": ["a/*"]})
    assert (whole.status, whole.json()["code"]) == (413, "too_many_points")
    assert "buckets=1000" in whole.json()["detail"]
    assert len(chart(service, {"runs": ["a/*"], "buckets": 50})["series"]) == 2
    many = query(service, {"runs": ["a/*"], "buckets": 60})
    assert (many.status, many.json()["code"]) == (413, "too_many_points")
    assert "fewer buckets" in many.json()["detail"]
    grouped = query(service, {"runs": ["a/*"], "group": "lr"})
    assert len(grouped.json()["groups"][0]["points"]["x"]) == 90


def test_series_are_bounded_however_they_are_asked_for(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start_service()
    for run in ("a/x", "a/y"):
        for tag in ("loss", "acc"):
            train(service, run, [1.0, 2.0], tag=tag, counter=tag)
    for writer in range(3):
        assert service.report("a/y", {"rewind": {"next_steps": {"loss": 0}}}).status == 200
        train(service, "a/y", [float(writer)], counter="loss")
    monkeypatch.setattr("tallyboard_server.api.query.SERIES_MAX", 4)
    assert len(chart(service, {"runs": ["a/*"], "tags": ["*"]})["series"]) == 4
    assert len(chart(service, {"runs": ["a/y"], "tags": ["loss"], "attempts": "all"})["series"]) == 4
    monkeypatch.setattr("tallyboard_server.api.query.SERIES_MAX", 3)
    for question in (
        {"runs": ["a/*"], "tags": ["*"]},
        {"runs": ["a/*"], "tags": ["*"], "group": "lr"},
        {"runs": ["a/*"], "group": "lr", "buckets": 10},
        {"runs": ["a/y"], "tags": ["loss"], "attempts": "all"},
    ):
        answer = query(service, question)
        assert (answer.status, answer.json()["code"]) == (413, "too_many_points"), answer.body
        assert "more than 3 series" in answer.json()["detail"]

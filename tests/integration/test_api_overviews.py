"""POST and GET /tags, GET /columns on a real service."""

from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from tallyboard.wire import JSON, MSGPACK
from tallyboard_server.api import examples, overviews
from tests.service import RunningService


@pytest.fixture(scope="module")
def library(service: RunningService) -> RunningService:
    """A sweep, and a SummaryWriter's run that has an image, too."""
    for i in range(4):
        config = {"lr": [0.1, 0.01][i % 2], "opt": "adam", "net": {"depth": i}, "a.b": True}
        opening = {"config": config, "counters": {"global_step": {"total": 100}} if i else {}}
        service.send("PUT", f"/runs/sweep/r{i}", opening)
        service.report(f"sweep/r{i}", {"step": 1, "scalars": {"loss": 1.0, "my tag": 2.0}, "at": {"epoch": 0}})
    service.report("sweep/r0", {"counter": "epoch", "step": 1, "scalars": {"val/acc": 0.5}})
    service.send("PATCH", "/runs/sweep/r0", {"summary": {"best": 0.5}})
    service.report("writer/w", {"counter": "tag:loss", "step": 1, "scalars": {"loss": 1.0}})
    assert service.send("POST", "/events/writer/w", examples.EVENTS["an image"]).status == 200
    return service


def tags(service: RunningService, *runs: str, **more: Any) -> Any:
    answer = service.send("POST", "/tags", {"runs": runs} | more)
    assert answer.status == 200, answer.body
    return answer.json()


def test_tags_of_names_and_patterns(library: RunningService) -> None:
    found = tags(library, "sweep/*", "writer/w", "sweep/r0", "sweep/no", "nobody/*")
    assert found == {
        "runs": 5,
        "tags": [
            {"tag": "loss", "runs": 5, "counters": {"global_step": 4, "tag:loss": 1}},
            {"tag": "my tag", "runs": 4, "counters": {"global_step": 4}},
            {"tag": "val/acc", "runs": 1, "counters": {"epoch": 1}},
        ],
        "kinds": [{"kind": "images", "tags": ["samples"], "runs": 1}],
        "missing": ["sweep/no", "nobody/*"],
        "truncated": False,
    }
    few = tags(library, "sweep/*", limit=1)
    assert ([row["tag"] for row in few["tags"]], few["truncated"]) == (["loss"], True)


def test_the_same_by_get_and_in_msgpack(library: RunningService) -> None:
    asked = "/tags?run=sweep/*&run=nobody&limit=7"
    found = library.get(asked).json()
    assert found == tags(library, "sweep/*", "nobody", limit=7)
    packed = library.get(asked, headers={"Accept": MSGPACK})
    assert (packed.headers["content-type"], packed.json()) == (MSGPACK, found)


def test_columns_say_what_a_table_can_show(library: RunningService) -> None:
    found = library.get("/columns?project=sweep").json()
    assert found["runs"] == 4
    keys = {key["column"]: key for key in found["config"]}
    assert list(keys) == ['config."a.b"', "config.lr", "config.net.depth", "config.opt"]
    assert keys["config.lr"] == {
        "column": "config.lr", "runs": 4, "sorts": {"number": 4}, "distinct": 2, "values": [0.01, 0.1],
        "least": 0.01, "greatest": 0.1,
    }  # fmt: skip
    assert keys["config.opt"]["values"] == ["adam"]
    assert keys['config."a.b"']["values"] == [True]
    assert [(key["column"], key["runs"]) for key in found["summary"]] == [("summary.best", 1)]
    assert found["tags"] == [
        {"column": "last.loss", "tag": "loss", "runs": 4},
        {"column": 'last."my tag"', "tag": "my tag", "runs": 4},
        {"column": "last.val/acc", "tag": "val/acc", "runs": 1},
    ]
    assert found["counters"] == [
        {"column": "counters.epoch", "counter": "epoch", "runs": 1, "totals": 0},
        {"column": "counters.global_step", "counter": "global_step", "runs": 4, "totals": 3},
    ]
    assert found["truncated"] is False


def test_every_column_is_one_that_the_table_takes(library: RunningService) -> None:
    found = library.get("/columns").json()
    assert found["runs"] == 5
    told = {row["column"]: row["runs"] for part in ("config", "summary", "tags", "counters") for row in found[part]}
    columns = list(told)
    table = library.get(f"/runs?columns={quote(','.join(columns))}&limit=1000").json()
    assert table["columns"] == columns
    for place, column in enumerate(columns):
        having = sum(row[place] is not None for row in table["rows"])
        assert having == told[column], column


def test_an_answer_that_the_reader_has_is_not_made_again(library: RunningService) -> None:
    body = msgspec.json.encode({"runs": ["sweep/*", "etag/*"]})
    questions = [
        ("POST", "/api/v1/tags", body), ("GET", "/api/v1/tags?run=etag/*", None), ("GET", "/api/v1/columns", None),
    ]  # fmt: skip
    etags = []
    for method, path, sent in questions:
        first = library.request(method, path, sent, {"Content-Type": JSON})
        again = library.request(method, path, sent, {"Content-Type": JSON, "If-None-Match": first.headers["etag"]})
        assert (first.status, again.status, again.body) == (200, 304, b"")
        etags.append(first.headers["etag"])
    assert len(set(etags)) == 3
    library.report("etag/new", {"step": 1, "scalars": {"x": 1.0}})
    for (method, path, sent), etag in zip(questions, etags, strict=True):
        changed = library.request(method, path, sent, {"Content-Type": JSON, "If-None-Match": etag})
        assert (changed.status, changed.headers["etag"] != etag) == (200, True)
    library.request("DELETE", "/api/v1/runs/etag/new")


@pytest.mark.parametrize(("body", "status", "field"), [
    ({"runs": []}, 422, "runs"), ({}, 422, None), ({"runs": "a"}, 422, None),
    ({"runs": ["a"], "limit": 0}, 422, "limit"), ({"runs": ["a"], "limit": 10_001}, 422, "limit"),
    ({"runs": ["a"], "tags": []}, 422, None),
    ({"runs": ["a"] * 10_001}, 422, "runs"), ([], 422, None),
])  # fmt: skip
def test_what_tags_can_t_be_asked(service: RunningService, body: Any, status: int, field: str | None) -> None:
    answer = service.send("POST", "/tags", body)
    assert answer.status == status, answer.body
    assert field is None or answer.json()["field"] == field


@pytest.mark.parametrize("path", [
    "/tags", "/tags?run=a&limit=0", "/tags?run=a&limit=x", "/tags?runs=a", "/columns?limit=0", "/columns?limit=2001",
    "/columns?projects=a",
])  # fmt: skip
def test_what_is_no_parameter_is_refused(service: RunningService, path: str) -> None:
    answer = service.get(path)
    assert (answer.status, answer.json()["code"]) == (422, "invalid_query")


def test_more_runs_than_an_answer_is_about(library: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overviews, "RUNS_MAX", 3)
    refused = library.send("POST", "/tags", {"runs": ["sweep/*"]})
    assert (refused.status, refused.json()["field"]) == (422, "runs")
    assert "more than 3 runs" in refused.json()["detail"]
    cut = library.get("/columns?project=sweep").json()
    assert (cut["runs"], cut["truncated"]) == (3, True)
    monkeypatch.setattr(overviews, "SCANNED_MAX", 2)
    refused = library.send("POST", "/tags", {"runs": ["sw*p/none"]})
    assert "looked for among more than 2" in refused.json()["detail"]

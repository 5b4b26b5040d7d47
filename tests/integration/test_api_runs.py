"""Runs over HTTP: create, continue, search, change, delete."""

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
import pytest

from tallyboard_server.settings import Settings
from tests.conftest import StartService
from tests.service import RunningService, serving
from tests.stores import on

pytestmark = on("sqlite", "postgres")


def test_put_creates_once_and_then_continues(service: RunningService, run_name: str) -> None:
    opening = {
        "config": {"lr": 0.1}, "group": "g", "notes": "n", "tags": ["a"], "counters": {"epoch": {"total": 9}},
        "provenance": {"host": "h"},
    }  # fmt: skip
    created = service.send("PUT", f"/runs/{run_name}", opening)
    assert (created.status, created.headers["location"]) == (201, f"/api/v1/runs/{quote(run_name)}")
    run = created.json()
    assert (run["run"], run["group"], run["notes"], run["tags"]) == (run_name, "g", "n", ["a"])
    assert (run["config"], run["provenance"]) == ({"lr": 0.1}, {"host": "h"})
    assert run["counters"]["epoch"]["total"] == 9
    again = service.send("PUT", f"/runs/{run_name}", {"config": {"wd": 0.0}})
    assert (again.status, again.json()["config"]) == (200, {"lr": 0.1, "wd": 0.0})
    assert service.request("PUT", f"/api/v1/runs/{run_name}").status == 200


def test_put_new_takes_the_next_free_name(service: RunningService, run_name: str) -> None:
    names = [service.request("PUT", f"/api/v1/runs/{run_name}?resume=new").json()["run"] for _ in range(3)]
    assert names == [run_name, f"{run_name}-2", f"{run_name}-3"]


def test_put_with_the_same_uid_finds_the_same_run(service: RunningService, run_name: str) -> None:
    opening = {"uid": f"uid-{run_name}", "resume": "new"}
    first, again = (service.send("PUT", f"/runs/{run_name}", opening) for _ in range(2))
    assert (first.status, again.status) == (201, 200)
    assert first.json()["run"] == again.json()["run"] == run_name


def test_put_must_wants_the_run_to_be_there(service: RunningService, run_name: str) -> None:
    absent = service.request("PUT", f"/api/v1/runs/{run_name}?resume=must")
    assert (absent.status, absent.json()["code"]) == (404, "run_not_found")
    service.request("PUT", f"/api/v1/runs/{run_name}")
    assert service.send("PUT", f"/runs/{run_name}?resume=must", {"resume": "new"}).status == 200


def test_put_continue_hands_the_counters_over(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"producer": "old", "seq": 1, "step": 5, "scalars": {"loss": 1.0}})
    service.request("PUT", f"/api/v1/runs/{run_name}?resume=continue&producer=new")
    next_report = {"step": 6, "scalars": {"loss": 1.0}}
    assert service.report(run_name, {"producer": "old", "seq": 2, **next_report}).status == 409
    assert service.report(run_name, {"producer": "new", "seq": 1, **next_report}).status == 200
    (attempt,) = service.get(f"/runs/{run_name}").json()["counters"]["global_step"]["attempts"]
    assert (attempt["writer"], attempt["last_step"]) == ("new", 6)


def test_a_run_shows_who_writes_what(service: RunningService, run_name: str) -> None:
    opening = {"provenance": {"host": "node7", "pid": 4711, "user": "ada"}}
    body = {"producer": "p", "seq": 1, "open": opening, "step": 3, "scalars": {"b": 1.0, "a": 2.0}}
    assert service.report(run_name, body).status == 200
    run = service.get(f"/runs/{run_name}").json()
    counter = run["counters"]["global_step"]
    assert (counter["last_step"], counter["attempt"], counter["tags"]) == (3, 1, ["a", "b"])
    (attempt,) = counter["attempts"]
    assert (attempt["host"], attempt["pid"], attempt["user"]) == ("node7", 4711, "ada")
    assert (attempt["reports"], attempt["scalars"], attempt["limit"]) == (1, 2, None)
    assert attempt["last_seen"] == run["health"]["last_seen"]
    assert run["health"]["silent_s"] >= 0


def test_a_tag_without_visible_points_is_not_shown(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"step": 1, "scalars": {"kept": 1.0}})
    service.report(run_name, {"step": 5, "scalars": {"gone": 1.0}})
    service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 2}})
    assert service.get(f"/runs/{run_name}").json()["counters"]["global_step"]["tags"] == ["kept"]


def test_patch_replaces_and_merges(service: RunningService, run_name: str) -> None:
    service.send("PUT", f"/runs/{run_name}", {"config": {"lr": 0.1, "net": {"depth": 3, "width": 64}}, "notes": "n"})
    changes = {
        "status": "finished", "display_name": "best", "notes": None, "tags": ["x"], "archived": True, "group": "g",
        "config": {"lr": None, "net": {"depth": 4}}, "summary": {"acc": 0.9},
    }  # fmt: skip
    answer = service.send("PATCH", f"/runs/{run_name}", changes)
    run = answer.json()
    assert answer.status == 200
    assert (run["status"], run["display_name"], run["notes"], run["tags"]) == ("finished", "best", None, ["x"])
    assert (run["archived"], run["group"], run["summary"]) == (True, "g", {"acc": 0.9})
    assert run["config"] == {"net": {"depth": 4, "width": 64}}
    assert run["health"]["silent_s"] is None
    assert service.get(f"/runs/{run_name}").json()["config"] == run["config"]


def test_a_deleted_run_comes_back_only_when_asked_for(service: RunningService, run_name: str) -> None:
    report = {"step": 9, "scalars": {"loss": 1.0}}
    service.report(run_name, report)
    assert service.request("DELETE", f"/api/v1/runs/{run_name}").status == 204
    for answer in (
        service.report(run_name, report),
        service.get(f"/runs/{run_name}"),
        service.get(f"/refused/{run_name}"),
        service.request("POST", f"/api/v1/heartbeat/{run_name}"),
        service.request("DELETE", f"/api/v1/runs/{run_name}"),
        service.send("PATCH", f"/runs/{run_name}", {"status": "failed"}),
    ):
        assert (answer.status, answer.json()["code"]) == (410, "run_deleted")
    assert service.request("PUT", f"/api/v1/runs/{run_name}").status == 201
    assert service.points(run_name, "loss") == []
    assert service.report(run_name, {"step": 0, "scalars": {"loss": 1.0}}).status == 200


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("DELETE", None), ("PATCH", {"status": "failed"})])
def test_an_absent_run_is_404(service: RunningService, method: str, body: Any) -> None:
    answer = service.send(method, "/runs/test/nobody", body)
    assert (answer.status, answer.json()["code"]) == (404, "run_not_found")
    assert "test/nobody" in answer.json()["detail"]


@pytest.fixture(scope="module")
def library(service: RunningService) -> RunningService:
    """Sixty runs of two projects."""
    for i in range(40):
        config = {"lr": 0.1 * (i % 2), "net": {"depth": i % 4}, "opt": "sgd" if i % 2 else "adam", "amp": i % 2 == 0}
        service.send("PUT", f"/runs/vision/r{i:02}", {"config": config, "group": f"g{i % 3}"})
    for i in range(20):
        service.send("PUT", f"/runs/visionary/r{i:02}", {})
    service.send("PATCH", "/runs/vision/r07", {"display_name": "Blue Harbour", "archived": True, "status": "failed"})
    return service


def names(page: Any) -> list[str]:
    return [run["run"] for run in page["runs"]]


@pytest.mark.parametrize(("query", "expected"), [
    ({"project": "vision"}, set(range(40))),
    ({"project": "vision", "config.opt": "sgd"}, set(range(1, 40, 2))),
    ({"project": "vision", "config.opt": '"sgd"'}, set()),
    ({"project": "vision", "config.net.depth": "3"}, set(range(3, 40, 4))),
    ({"project": "vision", "config.net.depth": "3.0", "config.lr": "0.1"}, set(range(3, 40, 4))),
    ({"project": "vision", "config.amp": "true"}, set(range(0, 40, 2))),
    ({"project": "vision", "config.amp": "1"}, set()),
    ({"project": "vision", "config.nothing": "1"}, set()),
    ({"project": "vision", "group": "g1"}, set(range(1, 40, 3))),
    ({"project": "vision", "q": "blue harb"}, {7}),
    ({"q": "VISION/R1"}, set(range(10, 20))),
    ({"project": "vision", "status": "failed"}, {7}),
    ({"project": "vision", "archived": "false"}, set(range(40)) - {7}),
    ({"project": "nobody"}, set()),
])  # fmt: skip
def test_search(library: RunningService, query: dict[str, str], expected: set[int]) -> None:
    page = library.get(f"/runs?{urlencode(query)}").json()
    assert names(page) == [f"vision/r{i:02}" for i in sorted(expected)]
    assert page["cursor"] is None


@pytest.mark.parametrize("limit", [1, 7, 59, 60, 61])
def test_pages_hold_every_run_once(library: RunningService, limit: int) -> None:
    seen: list[str] = []
    cursor = ""
    for _ in range(100):
        page = library.get(f"/runs?q=vision&limit={limit}{cursor}").json()
        assert len(page["runs"]) <= limit
        seen += names(page)
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == [f"vision/r{i:02}" for i in range(40)] + [f"visionary/r{i:02}" for i in range(20)]


def test_a_list_shows_counters_and_may_be_msgpack(library: RunningService) -> None:
    library.report("solo/run", {"step": 4, "scalars": {"loss": 1.0}})
    answer = library.get("/runs?project=solo", {"Accept": "application/msgpack"})
    assert answer.headers["content-type"] == "application/msgpack"
    (run,) = answer.json()["runs"]
    assert run["counters"] == {"global_step": {"last_step": 4, "attempt": 1, "total": None, "stalled": False}}


def test_a_page_is_bounded_in_bytes(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard_server.runtable.table.PAGE_BYTES_MAX", 50_000)
    service = start_service()
    for i in range(5):
        service.send("PUT", f"/runs/big/r{i}", {"config": {"text": "x" * 30_000}})
    page = service.get("/runs").json()
    assert names(page) == ["big/r0", "big/r1"]
    assert names(service.get(f"/runs?cursor={page['cursor']}").json()) == ["big/r2", "big/r3"]


def test_a_page_looks_at_a_bounded_number_of_runs(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard_server.runtable.table.SCANNED_MAX", 50)
    service = start_service()
    for i in range(60):
        service.request("PUT", f"/api/v1/runs/p/r{i:02}")
    page = service.get("/runs?q=r59").json()
    assert (page["runs"], page["cursor"] is None) == ([], False)
    assert names(service.get(f"/runs?q=r59&cursor={page['cursor']}").json()) == ["p/r59"]


def test_runs_outlive_a_restart(tmp_path: Path) -> None:

    settings = Settings(data_dir=tmp_path / "kept", port=0)
    with serving(settings) as first:
        first.report("a/b", {"step": 3, "scalars": {"loss": 0.25}})
        first.send("PATCH", "/runs/a/b", {"notes": "kept"})
        before = first.get("/runs/a/b").json()
    with serving(settings) as second:
        after = second.get("/runs/a/b").json()
        assert second.points("a/b", "loss") == [(3, 0.25)]
        assert second.report("a/b", {"step": 2, "scalars": {"loss": 0.25}}).status == 409
    del before["health"], after["health"]
    assert msgspec.json.encode(after) == msgspec.json.encode(before)

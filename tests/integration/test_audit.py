"""The audit by HTTP and by the command line: who did what; and docs/audit.md, which lists what there is."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyboard_server.ingest.auditing import ACTIONS
from tests.cli_process import Cli, report
from tests.conftest import StartService
from tests.integration.test_prune import filled, post
from tests.service import RunningService, until

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def entries(service: RunningService, **query: object) -> list[dict[str, Any]]:
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    answer = service.get(f"/audit?{asked}")
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def actions(service: RunningService, run: str) -> list[str]:
    """What was done to a run, in the order of doing."""
    return [entry["action"] for entry in reversed(entries(service, run=run))]


def repaired_file(service: RunningService, run: str) -> Any:
    """The new event file, None if there was none yet."""
    return service.send("POST", f"/repair/{run}", {"reason": "looks odd"}).json()["event_file"]


def test_it_tells_what_was_done_by_whom_from_where(service: RunningService, run_name: str) -> None:
    report(service, run_name, range(10))
    service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 4}, "reason": "try again"})
    service.send("PATCH", f"/runs/{run_name}", {"notes": "n", "tags": ["x"]})
    assert until(lambda: repaired_file(service, run_name) is not None)  # before there is a file, nothing is done
    service.request("DELETE", f"/api/v1/runs/{run_name}")
    found = entries(service, run=run_name)
    assert [entry["action"] for entry in reversed(found)] == [
        "run.create", "run.rewind", "run.change", "run.repair", "run.delete",
    ]  # fmt: skip
    rewound, changed, repaired = (found[index]["detail"] for index in (3, 2, 1))
    assert rewound == {"next_steps": {"global_step": 4}, "reason": "try again"}
    assert (changed, repaired) == ({"fields": ["notes", "tags"]}, {"reason": "looks odd"})
    assert {(entry["actor"], entry["address"]) for entry in found} == {("anybody", "127.0.0.1")}


def test_what_was_refused_or_done_before_leaves_nothing(service: RunningService, run_name: str) -> None:
    report(service, run_name, range(10))
    rewind = {"id": "r1", "next_steps": {"global_step": 4}}
    for _ in range(2):
        assert service.send("POST", f"/rewind/{run_name}", rewind).status == 200
    assert service.report(run_name, {"step": 2, "scalars": {"loss": 1.0}}).status == 409
    assert service.send("POST", "/rewind/not/there", rewind).status == 404
    assert service.send("PATCH", f"/runs/{run_name}", {"notes": 7}).status == 422
    assert service.request("DELETE", "/api/v1/runs/not/there").status == 404
    assert actions(service, run_name) == ["run.create", "run.rewind"]
    assert entries(service, run="not/there") == []


def test_a_counter_that_another_writer_takes_over_is_told(service: RunningService, run_name: str) -> None:
    batch = {"producer": "p1", "seq": 1, "reports": [{"step": 1, "scalars": {"loss": 1.0}}]}
    assert service.report(run_name, batch).status == 200
    taken = {"producer": "p2", "seq": 1, "open": {"resume": "continue"}}
    assert service.report(run_name, taken).status == 200
    newest = entries(service, run=run_name)[0]
    assert (newest["action"], newest["detail"]) == ("run.take_over", {"counters": {"global_step": ["p1", "p2"]}})


def test_what_went_by_pruning_and_that_a_backup_left(start_service: StartService) -> None:
    service = start_service(export_interval_s=0.05, export_sync_interval_s=0.05)
    filled(service, steps=1_000, back_to=700)
    post(service, "a/b", superseded=True)  # only looks
    assert actions(service, "a/b") == ["run.create", "run.rewind"]
    assert post(service, "a/b", superseded=True, dry_run=False)["outcome"]["superseded"] == 300
    pruned, begun = entries(service, run="a/b")[:2]
    assert (begun["action"], begun["detail"]) == ("run.prune", {"superseded": True, "thin": None})
    assert (pruned["action"], pruned["detail"]) == ("run.pruned", {"superseded": 300, "thinned": 0})
    post(service, "a/b", superseded=True, dry_run=False)  # nothing is left to go
    post(service, "a/b", whole=True, dry_run=False)
    assert actions(service, "a/b")[2:] == ["run.prune", "run.pruned", "run.delete"]
    assert {entry["actor"] for entry in entries(service)} == {"anybody"}
    size = len(service.get("/backup").body)
    (left,) = entries(service, action="backup.download")
    assert (left["run"], left["detail"]) == (None, {"bytes": size})


def test_what_the_service_does_by_itself_is_its_own(start_service: StartService) -> None:
    service = start_service(retention_runs_days=0.0)
    report(service, "a/b", range(3))
    retention = service.parts.views["retention"]
    retention.sweep()  # type: ignore[attr-defined]
    assert until(lambda: len(entries(service, run="a/b")) == 2)
    gone, _ = entries(service, run="a/b")
    assert (gone["action"], gone["actor"], gone["address"]) == ("run.delete", "service", "")


def test_pages_follow_each_other(start_service: StartService) -> None:
    service = start_service()
    for number in range(5):
        report(service, f"{'pq'[number % 2]}/{number}", range(1))
    first = service.get("/audit?limit=3").json()
    second = service.get(f"/audit?limit=3&before={first['before']}").json()
    assert [entry["run"] for page in (first, second) for entry in page["entries"]] == [
        "p/4", "q/3", "p/2", "q/1", "p/0",
    ]  # fmt: skip
    assert second["before"] is None
    assert [entry["run"] for entry in entries(service, project="p", limit=2)] == ["p/4", "p/2"]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "before=x", "who=me", f"before={2**63}"])
def test_what_can_t_be_asked_is_said(service: RunningService, query: str) -> None:
    answer = service.get(f"/audit?{query}")
    assert (answer.status, answer.json()["code"]) == (422, "invalid_query")


def test_the_command_line_shows_it(service: RunningService, cli: Cli) -> None:
    report(service, "clip/one", range(10))
    report(service, "clip/[red]two", range(1))
    service.send("POST", "/rewind/clip/one", {"next_steps": {"global_step": 4}, "reason": "again\x1b[31m"})
    shown = cli("audit", "clip/one").out.splitlines()
    assert shown[0].split() == ["time", "who", "from", "action", "run", "detail"]
    assert "run.rewind" in shown[1]
    assert 'next_steps {"global_step":4}  reason again\ufffd[31m' in shown[1]
    assert "run.create" in shown[2]
    assert "clip/[red]two" in cli("audit", "--project", "clip", "--action", "run.create").out
    told = [
        msgspec.json.decode(line) for line in cli("audit", "--project", "clip", "--json", "-n", "2").out.splitlines()
    ]
    assert [(entry["action"], entry["run"]) for entry in told] == [
        ("run.rewind", "clip/one"), ("run.create", "clip/[red]two"),
    ]  # fmt: skip
    assert "no such entry" in cli("audit", "nobody/here").err


def test_the_page_lists_every_action() -> None:
    listed = re.findall(r"^\| `([a-z_.]+)` \|", PAGE, re.MULTILINE)
    own = [action for action in listed if action.startswith(("run.", "backup."))]
    assert own == list(ACTIONS)

"""Verify, repair and backup over HTTP: what they answer when all is well, and when it is not."""

import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from tallyboard_server.api import safety
from tallyboard_server.api.safety import remove_unfinished_copies
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.store.sqlite.backup import check_backup
from tests.cli_process import report
from tests.conftest import StartService
from tests.service import RunningService, until
from tests.stores import on


def verify(service: RunningService, run: str) -> dict[str, object]:
    """The last line of GET /verify."""
    answer = service.get(f"/verify/{run}")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
    lines = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    assert all("report" not in line for line in lines[:-1])
    found: dict[str, object] = lines[-1]
    return found


def event_file(service: RunningService, run: str) -> Path:
    return sorted((service.logdir / run).glob("*tfevents*"))[-1]


@pytest.fixture
def quick(start_service: StartService) -> RunningService:
    """A service whose event files follow at once."""
    return start_service(export_interval_s=0.05, export_sync_interval_s=0.05)


def test_a_run_that_was_just_reported_is_waited_for(quick: RunningService) -> None:
    report(quick, "a/b", range(50))
    line = verify(quick, "a/b")
    found = line["report"]
    assert isinstance(found, dict)
    assert (found["ok"], found["differences"], found["pos"]) == (True, [], found["exported_pos"])
    assert [(a["sent"], a["stored"], a["in_file"]) for a in found["attempts"]] == [(50, 50, 50)]
    assert line["scalars_read"] == 100


def test_a_changed_event_file_is_told_and_repaired(quick: RunningService) -> None:
    report(quick, "a/b", range(50))
    verify(quick, "a/b")
    path = event_file(quick, "a/b")
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    found = verify(quick, "a/b")["report"]
    assert isinstance(found, dict)
    assert not found["ok"]
    assert "damaged at byte" in found["differences"][0]["detail"]
    answer = quick.send("POST", "/repair/a/b", {"reason": "a test"})
    assert answer.status == 200
    assert (answer.json()["done"], answer.json()["event_file"]) == (True, event_file(quick, "a/b").name)
    assert event_file(quick, "a/b") != path
    again = verify(quick, "a/b")["report"]
    assert isinstance(again, dict)
    assert again["ok"]
    assert quick.request("GET", "/readyz").json()["checks"]["export_repairs_total"] == 1


def test_a_repair_that_takes_long_is_answered_before(quick: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    report(quick, "a/b", range(5))
    verify(quick, "a/b")
    monkeypatch.setattr(safety, "REPAIR_TIMEOUT_S", 0.0)
    monkeypatch.setattr(quick.parts.event_files, "rebuild", lambda _run_id: None)
    answer = quick.send("POST", "/repair/a/b", {})
    assert (answer.status, answer.json()["done"]) == (202, False)


def test_nothing_visible_needs_no_repair(quick: RunningService) -> None:
    quick.send("PUT", "/runs/a/empty", {})
    answer = quick.request("POST", "/api/v1/repair/a/empty")
    assert (answer.status, answer.json()["event_file"]) == (200, None)


@pytest.mark.parametrize(("method", "path"), [("GET", "/verify/no/run"), ("POST", "/repair/no/run")])
def test_runs_that_are_not_there(service: RunningService, method: str, path: str) -> None:
    answer = service.request(method, f"/api/v1{path}")
    assert (answer.status, answer.json()["code"]) == (404, "run_not_found")


def test_trouble_in_the_middle_is_the_last_line(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    report(service, "a/trouble", range(5))

    def broken(*_: object, **__: object) -> object:
        raise StoreError("the disk is failing")

    monkeypatch.setattr("tallyboard_server.verify.stored.read_page", broken)
    problem = verify(service, "a/trouble")["problem"]
    assert isinstance(problem, dict)
    assert (problem["code"], problem["detail"]) == ("store_error", "the disk is failing")


def test_a_backup_is_taken_while_reports_go_on(start_service: StartService, tmp_path: Path) -> None:
    service = start_service()
    report(service, "a/b", range(200))
    stop = threading.Event()

    def more() -> None:
        step = 200
        while not stop.is_set():
            report(service, "a/b", range(step, step + 20))
            step += 20

    reporter = threading.Thread(target=more)
    reporter.start()
    try:
        answer = service.get("/backup")
    finally:
        stop.set()
        reporter.join()
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert answer.headers["content-disposition"].startswith('attachment; filename="tallyboard-')
    path = tmp_path / "copy.sqlite3"
    path.write_bytes(answer.body)
    check_backup(path)
    assert not list(service.parts.settings.data_dir.glob("backup-*"))


def test_one_backup_is_made_at_a_time(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start_service()
    making, go_on = threading.Event(), threading.Event()
    really = safety.make_copy

    def slowly(*arguments: object) -> object:
        making.set()
        assert go_on.wait(20)
        return really(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(safety, "make_copy", slowly)
    first: list[int] = []
    taker = threading.Thread(target=lambda: first.append(service.get("/backup").status))
    taker.start()
    assert making.wait(10)
    second = service.get("/backup")
    go_on.set()
    taker.join()
    assert (first, second.status, second.json()["code"]) == ([200], 503, "too_busy")


@on("postgres")
def test_a_store_on_postgresql_is_copied_elsewhere(service: RunningService) -> None:
    answer = service.get("/backup")
    assert (answer.status, answer.json()["code"]) == (501, "backup_elsewhere")
    assert "pg_dump" in answer.json()["detail"]


def test_a_backup_without_room_is_refused(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start_service()
    real = shutil.disk_usage(service.parts.settings.data_dir)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: real._replace(free=1000))
    answer = service.get("/backup")
    assert (answer.status, answer.json()["code"]) == (507, "store_full")
    assert "make room" in answer.json()["detail"]


def test_what_a_killed_backup_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "backup-xyz"
    left.mkdir()
    (left / "copy.sqlite3").write_text("half")
    (tmp_path / "backup-notes.txt").write_text("somebody's")
    remove_unfinished_copies(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["backup-notes.txt"]


class TestReadiness:
    def ready(self, service: RunningService) -> tuple[int, list[str], list[str]]:
        answer = service.request("GET", "/readyz")
        return answer.status, answer.json()["reasons"], answer.json()["warnings"]

    def test_foreign_files_are_warned_of(self, quick: RunningService) -> None:
        directory = quick.logdir / "a" / "b"
        directory.mkdir(parents=True)
        foreign = directory / "events.out.tfevents.5.elsewhere"
        foreign.write_bytes(b"x")
        report(quick, "a/b", range(5))
        verify(quick, "a/b")
        status, reasons, warnings = self.ready(quick)
        assert (status, reasons) == (200, [])
        assert len(warnings) == 1
        assert str(foreign) in warnings[0]

    def test_a_run_s_own_trouble_is_warned_of(self, quick: RunningService, tmp_path: Path) -> None:
        logdir = quick.logdir
        (logdir / "a").symlink_to(tmp_path)
        report(quick, "a/b", range(5))
        assert until(lambda: bool(self.ready(quick)[2]))
        status, _, warnings = self.ready(quick)
        assert status == 200
        assert "leads out of" in warnings[0]

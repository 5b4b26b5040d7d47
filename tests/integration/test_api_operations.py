"""Health, readiness, metrics, the root page, and what happens under load and failure."""

import threading
import time
from pathlib import Path

import pytest

from tallyboard_server.api import operations
from tallyboard_server.eventfiles import Exporter, read_event_file
from tests.conftest import StartService
from tests.service import RunningService


def test_healthz_says_only_that_it_lives(service: RunningService) -> None:
    answer = service.request("GET", "/healthz", headers={"Host": "anything"})
    assert (answer.status, answer.body) == (200, b"ok")


def test_readyz_is_ready(service: RunningService) -> None:
    answer = service.request("GET", "/readyz")
    assert (answer.status, answer.json()["ready"], answer.json()["reasons"]) == (200, True, [])
    assert answer.json()["checks"]["free_bytes"] > 0


def test_readyz_tells_of_a_full_disk(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "FREE_BYTES_MIN", 2**62)
    answer = service.request("GET", "/readyz")
    assert (answer.status, answer.json()["ready"]) == (503, False)
    assert "make room" in answer.json()["reasons"][0]


def test_readyz_tells_of_a_stopped_writer(start_service: StartService) -> None:
    service = start_service()
    service.parts.ingest.close()
    answer = service.request("GET", "/readyz")
    assert (answer.status, answer.json()["reasons"]) == (503, ["the writer has stopped; restart the service"])
    refused = service.report("a/b", {"step": 1, "scalars": {"loss": 1.0}})
    assert (refused.status, refused.json()["code"]) == (503, "overloaded")


def test_readyz_tells_of_a_store_that_can_t_commit(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "WRITE_TIMEOUT_S", 0.05)
    service = start_service()
    held, release = threading.Event(), threading.Event()

    def hold(_transaction: object) -> None:
        held.set()
        release.wait(20)

    holder = threading.Thread(target=service.parts.ingest.record, args=(hold,))
    holder.start()
    try:
        assert held.wait(10)
        answer = service.request("GET", "/readyz")
    finally:
        release.set()
        holder.join()
    assert answer.status == 503
    assert "did not commit" in answer.json()["reasons"][0]
    assert service.request("GET", "/readyz").status == 200


def test_without_the_dashboard_the_root_page_says_how_to_begin(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(static=tmp_path / "nothing")
    answer = service.request("GET", "/")
    page = answer.body.decode()
    assert f"curl {service.url}/api/v1/scalars/mnist/try1 --json" in page
    assert str(service.logdir) in page
    assert "http" not in page.replace(service.url, "")
    assert "The dashboard is not built" in page
    assert "npm run" in page
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(("method", "path", "status", "code"), [
    ("GET", "/nobody", 404, "route_not_found"), ("GET", "/api/v1/nobody", 404, "route_not_found"),
    ("GET", "/api/v1/scalars/a/b", 405, "method_not_allowed"), ("POST", "/api/v1/runs", 405, "method_not_allowed"),
    ("PROPFIND", "/healthz", 405, "method_not_allowed"),
])  # fmt: skip
def test_what_is_not_there_is_a_problem_too(
    service: RunningService, method: str, path: str, status: int, code: str
) -> None:
    answer = service.request(method, path)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_nobody_foresaw_is_a_problem_with_an_id_that_the_log_has(
    service: RunningService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret inner detail")

    monkeypatch.setattr("tallyboard_server.api.runs.find_runs", broken)
    answer = service.get("/runs")
    problem = answer.json()
    assert (answer.status, problem["code"]) == (500, "internal_error")
    assert "secret" not in problem["detail"]
    assert problem["request_id"] in caplog.text
    assert "secret inner detail" in caplog.text


def test_a_full_disk_answers_507_and_loses_nothing(start_service: StartService) -> None:
    service = start_service()
    reports = [{"step": s, "scalars": {f"t{i}": s * 1.1 + i for i in range(50)}} for s in range(200)]
    service.report("a/b", {"reports": reports[:100]})
    kept = service.points("a/b", "t7")
    store = service.parts.store

    def limit(pages: int) -> None:
        service.parts.ingest.record(lambda _: store._writer.execute(f"PRAGMA max_page_count={pages}").get and None)  # type: ignore[attr-defined]

    limit(1)  # SQLite takes it as the present size: not one page more
    full = [service.report(f"a/new{i}", {"reports": reports}) for i in range(10)][-1]
    assert (full.status, full.json()["code"]) == (507, "store_full")
    assert "Retry-After" in full.headers
    assert service.points("a/b", "t7") == kept
    limit(2**30)
    assert service.report("a/b", {"reports": reports[100:]}).status == 200
    assert len(service.points("a/b", "t7")) == 200


def test_too_many_requests_at_once_are_told_to_wait(start_service: StartService) -> None:
    service = start_service(requests_in_flight_max=1)
    held, release = threading.Event(), threading.Event()

    def hold(_transaction: object) -> None:
        held.set()
        release.wait(20)

    holder = threading.Thread(target=service.parts.ingest.record, args=(hold,))
    holder.start()
    assert held.wait(10)
    waiting = threading.Thread(target=service.report, args=("a/b", {"step": 1, "scalars": {"loss": 1.0}}))
    waiting.start()
    try:
        for _ in range(2000):
            if service.parts.traffic.in_flight:
                break
            time.sleep(0.005)
        answer = service.get("/runs")
    finally:
        release.set()
        holder.join()
        waiting.join()
    assert (answer.status, answer.json()["code"], answer.headers["retry-after"]) == (503, "too_busy", "1")
    assert service.points("a/b", "loss") == [(1, 1.0)]


def test_the_data_dir_is_made(start_service: StartService, tmp_path: Path) -> None:
    service = start_service(data_dir=tmp_path / "deep" / "er")
    assert service.report("a/b", {"step": 1, "scalars": {"loss": 1.0}}).status == 200
    assert any((tmp_path / "deep" / "er").iterdir())


def test_what_is_reported_reaches_the_event_file(start_service: StartService) -> None:
    service = start_service(export_interval_s=0.05)
    service.report("mnist/try 1", {"reports": [{"step": s, "scalars": {"loss": s / 4}} for s in range(8)]})
    service.send("POST", "/rewind/mnist/try 1".replace(" ", "%20"), {"next_steps": {"global_step": 6}})
    exporter = service.parts.views["exporter"]
    assert isinstance(exporter, Exporter)
    assert exporter.drain(20.0)
    (path, *_) = sorted(service.logdir.glob("mnist/try 1/*tfevents*"), reverse=True)
    points = [(point.step, point.value) for point in read_event_file(path).points]
    assert points == [(s, s / 4) for s in range(6)]


def test_readyz_tells_of_event_files_that_can_t_be_written(start_service: StartService) -> None:
    service = start_service()
    exporter = service.parts.views["exporter"]
    assert isinstance(exporter, Exporter)
    exporter.stop()
    answer = service.request("GET", "/readyz")
    assert answer.status == 503
    assert answer.json()["reasons"] == ["the exporter has stopped, so event files do not grow; restart the service"]

"""Runs that fell silent are shown as lost, wherever runs are shown, and as running when they come back."""

import time

from tests.conftest import StartService
from tests.service import RunningService


def batch(seq: int) -> dict[str, object]:
    return {"producer": "p", "seq": seq, "step": seq, "scalars": {"loss": 1.0}}


def status(service: RunningService, run: str) -> str:
    found: str = service.get(f"/runs/{run}").json()["status"]
    return found


def listed(service: RunningService, status: str) -> list[str]:
    return [row["run"] for row in service.get(f"/runs?status={status}").json()["runs"]]


def test_a_silent_run_is_lost_until_it_is_heard_of_again(start_service: StartService) -> None:
    service = start_service(lost_after_s=0.4)
    for run in ("a/beats", "a/reports", "a/dies", "a/done"):
        assert service.report(run, batch(1)).status == 200
    assert service.report("a/curl", {"step": 1, "scalars": {"loss": 1.0}}).status == 200
    service.send("PATCH", "/runs/a/done", {"status": "finished"})
    time.sleep(0.5)
    assert listed(service, "lost") == ["a/beats", "a/dies", "a/reports"]
    assert (listed(service, "running"), listed(service, "finished")) == (["a/curl"], ["a/done"])
    assert service.send("POST", "/heartbeat/a/beats", {}).status == 200
    assert service.report("a/reports", batch(2)).status == 200
    assert listed(service, "running") == ["a/beats", "a/curl", "a/reports"]
    assert [status(service, f"a/{run}") for run in ("beats", "reports", "dies", "done")] == [
        "running", "running", "lost", "finished",
    ]  # fmt: skip
    assert service.get("/runs/a/dies").json()["health"]["silent_s"] > 0.4


def test_lost_is_never_sent(start_service: StartService) -> None:
    service = start_service()
    service.report("a/b", batch(1))
    answer = service.send("PATCH", "/runs/a/b", {"status": "lost"})
    assert (answer.status, answer.json()["code"]) == (422, "invalid_body")

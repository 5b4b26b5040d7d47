"""Alerts from the client to the person who reads them, and counters that stall: on real services, through mishaps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tallyboard
from tallyboard import lifecycle
from tallyboard.wire import JSON, MSGPACK, limits
from tallyboard_server.model import STALLED_FROM
from tallyboard_server.settings import Settings
from tests.cli_process import Cli
from tests.faults.proxy import proxied
from tests.service import RunningService, serving


@pytest.fixture(autouse=True)
def _nothing_left_running(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RANK", raising=False)
    yield
    lifecycle.finish_active()


def kept(service: RunningService, run: str, query: str = "") -> list[Any]:
    answer = service.get(f"/alerts/{run}{query}")
    assert answer.status == 200, answer.body
    document = answer.json()
    assert document["run"] == run
    found: list[Any] = document["alerts"]
    return found


def viewed(service: RunningService, run: str) -> Any:
    answer = service.get(f"/runs/{run}")
    assert answer.status == 200, answer.body
    return answer.json()


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_job_says_is_there_with_its_place(service: RunningService, run_name: str) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        run.counter("epoch").set(2)
        run.log({"loss": 9.0}, 40)
        run.alert("loss is high", "9.0\nat batch 40")
        run.alert("done", level="info")
    newest, first = kept(service, run_name)
    assert (newest["title"], newest["text"], newest["level"]) == ("done", "", "info")
    assert (first["title"], first["text"], first["level"]) == ("loss is high", "9.0\nat batch 40", "warn")
    assert first["at"] == {"epoch": 2, "global_step": 40}
    assert first["wall_time"] <= newest["wall_time"] <= newest["received_at"] + 5.0
    assert (first["producer"], first["received_at"]) == (newest["producer"], newest["received_at"])
    health = viewed(service, run_name)["health"]
    assert (health["alerts_kept"], health["alerted_at"]) == (2, newest["received_at"])
    assert kept(service, run_name, "?limit=1") == [newest]
    assert service.points(run_name, "loss") == [(40, 9.0)]


def test_a_lost_answer_doubles_no_alert(service: RunningService, run_name: str) -> None:
    with proxied(service.port, seed=3, faults=("lose answer", "duplicate", "cut answer"), probability=0.7) as proxy:
        with tallyboard.init(run_name, url=proxy.url, exit_timeout_s=60.0) as run:
            for number in range(12):
                run.log({"loss": 1.0}, number)
                run.alert(f"alert {number}")
                assert run.flush(60.0)
        assert sum(proxy.met.values()) > proxy.met["none"]
    assert [alert["title"] for alert in kept(service, run_name)] == [f"alert {number}" for number in range(11, -1, -1)]


def test_a_numbered_batch_that_comes_again_raises_none(service: RunningService, run_name: str) -> None:
    body = {"producer": "p", "seq": 1, "alerts": [{"title": "once"}]}
    first, again = service.report(run_name, body), service.report(run_name, body)
    assert (first.status, again.status) == (200, 200)
    assert (first.json()["replayed"], again.json()["replayed"]) == (False, True)
    assert len(kept(service, run_name)) == 1


def test_a_batch_that_is_refused_whole_takes_its_alerts_with_it(service: RunningService, run_name: str) -> None:
    reports = [{"step": step, "scalars": {"loss": 0.5}} for step in (2, 1)]
    body = {"reports": reports, "alerts": [{"title": "spike"}]}
    assert service.report(run_name, {"step": 0, "scalars": {"loss": 1.0}}).status == 200
    assert service.report(run_name, body).status == 409
    assert kept(service, run_name) == []
    assert service.report(run_name, body | {"partial": True}).status == 200
    assert len(kept(service, run_name)) == 1


def test_what_was_said_offline_comes_from_the_disk(service: RunningService, run_name: str, tmp_path: Path) -> None:
    run = tallyboard.init(run_name, mode="offline", spool_dir=tmp_path, strict=True)
    run.log({"loss": 1.0}, 1)
    run.alert("offline", "nobody heard", level="error")
    run.finish()
    (sent,) = tallyboard.sync(tmp_path, url=service.url)
    assert (sent.state, sent.reports) == ("sent", 1)
    (alert,) = kept(service, run_name)
    assert (alert["title"], alert["text"], alert["level"]) == ("offline", "nobody heard", "error")
    assert alert["at"] == {"global_step": 1}
    assert tallyboard.sync(tmp_path, url=service.url) == []


def test_one_by_hand_needs_a_run_and_gets_the_servers_time(service: RunningService, run_name: str) -> None:
    assert service.send("POST", f"/alerts/{run_name}", {"title": "a"}).status == 404
    assert service.get(f"/alerts/{run_name}").status == 404
    assert service.report(run_name, {"step": 1, "scalars": {"loss": 0.5}}).status == 200
    receipt = service.send("POST", f"/alerts/{run_name}", {"title": "a", "at": {"epoch": 3.0}})
    assert (receipt.status, receipt.json()["accepted"]) == (200, 0)
    body = msgspec.msgpack.encode({"title": "b", "level": "info", "wall_time": 1.5})
    assert service.request("POST", f"/api/v1/alerts/{run_name}", body, {"Content-Type": MSGPACK}).status == 200
    newest, first = kept(service, run_name)
    assert (newest["title"], newest["wall_time"], newest["producer"]) == ("b", 1.5, "anonymous")
    assert first["wall_time"] == pytest.approx(first["received_at"], abs=5.0)
    assert first["at"] == {"epoch": 3}
    assert "epoch" not in viewed(service, run_name)["counters"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"title": ""}', "$.title"),
        (b'{"text": "x"}', "$.title"),
        (b'{"title": "a", "level": "fatal"}', "$.level"),
        (b'{"title": "a", "wall_time": "soon"}', "$.wall_time"),
        (b'{"title": "a", "at": {"epoch": -1}}', "$.at.epoch"),
        (b'{"title": "a", "text": "%s"}' % (b"x" * (limits.ALERT_TEXT_BYTES_MAX + 1)), "$.text"),
    ],
)
def test_what_is_wrong_with_one_is_named(service: RunningService, run_name: str, body: bytes, field: str) -> None:
    assert service.report(run_name, {"step": 1, "scalars": {"loss": 0.5}}).status == 200
    answer = service.request("POST", f"/api/v1/alerts/{run_name}", body, {"Content-Type": JSON})
    assert (answer.status, answer.json()["field"]) == (422, field)
    assert kept(service, run_name) == []


def test_they_go_with_their_run_and_outlive_a_restart(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=0)
    with serving(settings) as service:
        for run in ("p/a", "p/b"):
            assert service.report(run, {"alerts": [{"title": f"of {run}"}]}).status == 200
        assert service.send("DELETE", "/runs/p/a", None).status == 204
        assert service.get("/alerts/p/a").status == 410
        assert service.send("POST", "/alerts/p/a", {"title": "late"}).status == 410
        assert service.send("PUT", "/runs/p/a", {}).status == 201
        assert kept(service, "p/a") == []
    with serving(settings) as service:
        assert [alert["title"] for alert in kept(service, "p/b")] == ["of p/b"]


def test_the_command_shows_them_without_what_a_terminal_would_obey(
    cli: Cli, service: RunningService, run_name: str
) -> None:
    assert service.report(run_name, {"step": 1, "scalars": {"loss": 0.5}}).status == 200
    assert "has raised no alert" in cli("alerts", run_name).err
    said = {
        "title": "hot",
        "text": "GPU 3:\n\x1b[31m91 °C [bold]",
        "level": "error",
        "wall_time": 0.0,
        "at": {"epoch": 3},
    }
    for alert in (said, {"title": "cooler", "wall_time": 1e300}):
        assert service.send("POST", f"/alerts/{run_name}", alert).status == 200
    outcome = cli("alerts", run_name)
    assert outcome.out.splitlines() == [
        "1e+300 s  warn   cooler",
        "1970-01-01 00:00:00  error  hot  (epoch 3)",
        "    GPU 3:",
        "    \ufffd[31m91 °C [bold]",
    ]
    assert cli("alerts", run_name, "-n", "1").out.splitlines() == ["1e+300 s  warn   cooler"]
    assert cli("alerts", "no/such").code == 4


def test_the_doctor_tells_the_newest(cli: Cli, service: RunningService, run_name: str) -> None:
    assert service.report(run_name, {"step": 1, "scalars": {"loss": 0.5}}).status == 200
    assert "✓ the job raised no alert" in cli("doctor", run_name).out
    for alert, line in (
        ({"title": "warm"}, "✓ 1 alert of the job; the newest 0 s ago: warm (warn)"),
        ({"title": "hot", "level": "error"}, "✗ 2 alerts of the job; the newest 0 s ago: hot (error)"),
    ):
        assert service.send("POST", f"/alerts/{run_name}", alert).status == 200
        assert line in cli("doctor", run_name).out


# ── counters that stall ──────────────────────────────────────────────────────────────────────────────────────────


def test_an_increment_that_was_forgotten_is_seen(cli: Cli, service: RunningService, run_name: str) -> None:
    with tallyboard.init(run_name, url=service.url) as run:
        run.counter("global_step").set(0)
        for _ in range(STALLED_FROM):
            run.log({"lr": 0.1})
        assert run.flush()
        assert viewed(service, run_name)["health"]["stalled"] == []
        run.log({"lr": 0.1})
        assert run.flush()
        view = viewed(service, run_name)
        assert view["health"]["stalled"] == ["global_step"]
        assert view["counters"]["global_step"]["stalled"] is True
        assert view["counters"]["global_step"]["attempts"][0]["unmoved"] == STALLED_FROM
        (row,) = service.get(f"/runs?q={run_name}").json()["runs"]
        assert row["counters"]["global_step"]["stalled"] is True
        told = "global_step is stalled at 0: 10 reports in a row brought nothing new"
        assert told in cli("counters", run_name).err
        doctor = cli("doctor", run_name)
        assert doctor.code == 1
        assert f"✗ {run_name}: {told}" in doctor.out
    view = viewed(service, run_name)
    assert (view["status"], view["health"]["stalled"]) == ("finished", [])
    assert view["counters"]["global_step"]["stalled"] is True


@pytest.mark.parametrize("partial", [True, False])
def test_a_counter_that_stalls_does_so_after_a_restart_and_until_it_moves(tmp_path: Path, partial: bool) -> None:
    """Whether its reports are refused one by one (409 each, and nothing of them is stored) or listed in receipts."""
    settings = Settings(data_dir=tmp_path / "data", port=0)
    body = {"step": 0, "partial": partial}
    with serving(settings) as service:
        assert service.report("p/a", body | {"scalars": {"loss": 0.0}}).status == 200
        for value in range(1, STALLED_FROM):
            answer = service.report("p/a", body | {"scalars": {"loss": float(value)}})
            assert answer.status == (200 if partial else 409)
        assert viewed(service, "p/a")["health"]["stalled"] == []
    with serving(settings) as service:
        answer = service.report("p/a", {"step": 0, "scalars": {"loss": 99.0}})
        assert answer.status == 409
        assert "global_step has been 0 for 11 reports; is it being incremented?" in answer.json()["detail"]
        assert viewed(service, "p/a")["health"]["stalled"] == ["global_step"]
        assert service.points("p/a", "loss") == [(0, 0.0)]
    with serving(settings) as service:
        assert viewed(service, "p/a")["health"]["stalled"] == ["global_step"]
        assert service.report("p/a", {"step": 1, "scalars": {"loss": 0.0}}).status == 200
        assert viewed(service, "p/a")["health"]["stalled"] == []


def test_tags_own_counters_are_never_named(service: RunningService, run_name: str) -> None:
    for _ in range(STALLED_FROM + 2):
        assert service.report(run_name, {"step": 0, "counter": "tag:lr", "scalars": {"lr": 0.1}}).status == 200
    assert viewed(service, run_name)["health"]["stalled"] == []

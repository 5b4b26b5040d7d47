"""The client against a real service: what was logged is there, whatever happened in between."""

import random
import socket
from pathlib import Path
from typing import Any

import pytest

import tallyboard
from tallyboard.delivery.transmit import Transmitter
from tallyboard.delivery.transport import HttpTransport
from tallyboard.errors import CounterTakenError, RunNotFoundError
from tallyboard_server.settings import Settings
from tests.conftest import StartService
from tests.service import RunningService, serving

pytestmark = pytest.mark.usefixtures("no_run_left")


def described(service: RunningService, run: str) -> dict[str, Any]:
    answer = service.get(f"/runs/{run}")
    assert answer.status == 200, answer.body
    document = answer.json()
    assert isinstance(document, dict)
    return document


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


# ── the main way ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_logged_is_there(service: RunningService, run_name: str) -> None:
    run = tallyboard.init(
        run_name, config={"lr": 0.1}, group="sweep", tags=["small"], notes="first try", url=service.url,
        counters={"val/*": "epoch"}, strict=True,
    )  # fmt: skip
    step, epoch = run.counter("global_step", total=300), run.counter("epoch")
    run.config.update(batch=64)
    for i in range(300):
        step.increment()
        run.log({"loss": 1 / (i + 1), "acc": i / 300})
        if step.value % 100 == 0:
            epoch.increment()
            run.log({"val/loss": 2.0 * epoch.value})
    run.summary["test/acc"] = 0.93
    assert run.flush()
    assert run.stats().accepted == 303
    run.finish()

    assert service.points(run_name, "loss") == [(i + 1, 1 / (i + 1)) for i in range(300)]
    assert service.points(run_name, "acc") == [(i + 1, i / 300) for i in range(300)]
    assert service.points(run_name, "val/loss") == [(1, 2.0), (2, 4.0), (3, 6.0)]
    told = described(service, run_name)
    assert (told["status"], told["group"], told["tags"], told["notes"]) == ("finished", "sweep", ["small"], "first try")
    assert told["config"] == {"lr": 0.1, "batch": 64}
    assert told["summary"] == {"test/acc": 0.93}
    assert told["counters"]["global_step"]["total"] == 300
    assert told["counters"]["epoch"]["last_step"] == 3
    assert {"host", "pid", "user", "argv"} <= told["provenance"].keys()
    assert run.url == f"{service.url}/?run={run_name}"


def test_the_other_counters_are_an_x_axis(service: RunningService, run_name: str) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        step, episode = run.counter("env_step"), run.counter("episode")
        for length in (5, 7, 3):
            step.increment(by=length)
            episode.increment()
            episode.log({"return": float(length)})
    (series,) = service.get(f"/scalars?run={run_name}&tag=return&x=env_step").json()["series"]
    assert (series["x_source"], series["points"]["x"]) == ("recorded", [5, 12, 15])


def test_a_name_that_is_taken_gets_a_number(service: RunningService, run_name: str) -> None:
    names = []
    for _ in range(3):
        with tallyboard.init(run_name, url=service.url) as run:
            run.log({"loss": 1.0})
            names.append(run.name)
    assert names == [run_name, f"{run_name}-2", f"{run_name}-3"]
    for name in names:
        assert service.points(name, "loss") == [(1, 1.0)]


def test_a_second_init_finishes_the_first(service: RunningService, run_name: str) -> None:
    first = tallyboard.init(f"{run_name}/a", url=service.url)
    first.log({"loss": 1.0})
    second = tallyboard.init(f"{run_name}/b", url=service.url)
    first.log({"loss": 2.0})
    second.finish()
    assert described(service, f"{run_name}/a")["status"] == "finished"
    assert first.stats().dropped_reports == 1
    assert service.points(f"{run_name}/a", "loss") == [(1, 1.0)]


def test_an_exception_ends_it_as_failed(service: RunningService, run_name: str) -> None:
    def train() -> None:
        with tallyboard.init(run_name, url=service.url) as run:
            run.log({"loss": 1.0})
            raise ZeroDivisionError("lr is 0")

    with pytest.raises(ZeroDivisionError):
        train()
    told = described(service, run_name)
    assert told["status"] == "failed"
    assert "ZeroDivisionError: lr is 0" in told["summary"]["exception"]


# ── resume and rewind ────────────────────────────────────────────────────────────────────────────────────────────


def test_a_continued_run_goes_on_where_it_stood(service: RunningService, run_name: str) -> None:
    for _ in range(2):
        with tallyboard.init(run_name, resume="continue", url=service.url, strict=True) as run:
            step = run.counter()
            for _ in range(5):
                step.increment()
                step.log({"loss": float(step.value)})
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(1, 11)]
    assert len(described(service, run_name)["counters"]["global_step"]["attempts"]) == 1


def test_resume_and_rewind_in_one(service: RunningService, run_name: str) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        for step in range(1, 11):
            run.log({"loss": float(step)}, step)
    with tallyboard.init(run_name, resume="must", next_steps={"global_step": 6}, url=service.url, strict=True) as run:
        assert run.name == run_name
        step_counter = run.counter()
        assert step_counter.value == 5
        for _ in range(3):
            step_counter.increment()
            step_counter.log({"loss": -float(step_counter.value)})
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(1, 6)] + [(6, -6.0), (7, -7.0), (8, -8.0)]


def test_a_checkpoint_makes_the_curve_whole(service: RunningService, run_name: str) -> None:
    def train(run: tallyboard.Run, until: int) -> None:
        step, epoch = run.counter(), run.counter("epoch")
        while step.value < until:
            step.increment()
            run.log({"loss": 1.0 / step.value})
            if step.value % 4 == 0:
                epoch.increment()
                epoch.log({"val": float(epoch.value)})

    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        train(run, 10)
        checkpoint = run.state_dict()
        train(run, 17)  # and then the machine is gone
    with tallyboard.init(run_name, resume="continue", url=service.url, strict=True) as run:
        run.load_state_dict(checkpoint)
        train(run, 20)
    assert service.points(run_name, "loss") == [(i, 1.0 / i) for i in range(1, 21)]
    assert service.points(run_name, "val") == [(i, float(i)) for i in range(1, 6)]


def test_a_rewind_in_the_middle_keeps_its_place(service: RunningService, run_name: str) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        for step in range(10):
            run.log({"loss": 1.0}, step)
        run.rewind({"global_step": 5}, "diverged")
        for step in range(5, 8):
            run.log({"loss": 2.0}, step)
    assert service.points(run_name, "loss") == [(i, 1.0 if i < 5 else 2.0) for i in range(8)]


def test_must_wants_the_run_to_be_there(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RunNotFoundError, match="there is no run"):
        tallyboard.init(run_name, resume="must", url=service.url)
    assert service.get(f"/runs/{run_name}").status == 404
    assert [record.message for record in caplog.records] == [], "what is raised is all that is said"


def take_over(service: RunningService, run: str) -> None:
    """Another process resumes the run, and so takes its counters."""
    opening = {"producer": "thief", "seq": 1, "partial": True, "open": {"resume": "continue"}}
    assert service.report(run, opening).status == 200


def test_who_lost_its_counter_is_told_once(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tallyboard.init(run_name, url=service.url) as run:
        run.log({"loss": 1.0}, 1)
        assert run.flush()
        take_over(service, run_name)
        for step in (2, 3):
            run.log({"loss": 1.0}, step)
            assert run.flush()
        run.config["late"] = True  # takes nothing back
        run.log({"loss": 1.0}, 4)
        run.log({"mine": 1.0}, 1, counter="eval")
    assert service.points(run_name, "loss") == [(1, 1.0)]
    assert service.points(run_name, "mine") == [(1, 1.0)]
    assert described(service, run_name)["config"] == {"late": True}
    assert caplog.text.count("the server refused a report") == 1
    assert "thief" in caplog.text
    assert run.stats().refused == 3


def test_a_taken_counter_is_raised_in_a_strict_run(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
    run = tallyboard.init(run_name, url=service.url, resume="continue", strict=True)
    run.log({"loss": 1.0}, 2)
    assert run.flush()
    take_over(service, run_name)
    run.log({"loss": 1.0}, 3)
    with pytest.raises(CounterTakenError, match="thief"):
        run.flush()
    run.finish()


# ── services in trouble ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_service_that_comes_late_gets_everything(start_service: StartService, run_name: str) -> None:
    port = free_port()
    run = tallyboard.init(run_name, url=f"http://127.0.0.1:{port}", strict=True)
    for step in range(100):
        run.log({"loss": float(step)}, step)
    assert run.flush(timeout_s=0.2) is False
    service = start_service(port=port)
    assert run.flush()
    run.finish()
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(100)]


def test_a_service_that_restarts_loses_nothing_and_gets_nothing_twice(tmp_path: Path, run_name: str) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=free_port())
    with serving(settings) as service:
        run = tallyboard.init(run_name, url=service.url, strict=True)
        for step in range(50):
            run.log({"loss": float(step)}, step)
        assert run.flush()
    for step in range(50, 100):
        run.log({"loss": float(step)}, step)
    assert run.flush(timeout_s=0.2) is False
    with serving(settings) as service:
        assert run.flush()
        run.finish()
        assert service.points(run_name, "loss") == [(i, float(i)) for i in range(100)]


def test_a_wrong_token_stops_the_sending_and_not_the_training(
    start_service: StartService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = start_service(token="right")
    run = tallyboard.init(run_name, url=service.url, token="wrong", exit_timeout_s=5.0)
    for step in range(10):
        run.log({"loss": 1.0}, step)
    run.finish()
    assert "TALLYBOARD_TOKEN" in caplog.text
    assert "10 reports kept on disk; send them with: tallyboard sync " in caplog.text
    with tallyboard.init(run_name, url=service.url, token="right", strict=True) as run:
        run.log({"loss": 1.0}, 1)
    assert service.points(run_name, "loss") == [(1, 1.0)]


def test_a_run_that_is_deleted_stays_deleted(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = tallyboard.init(run_name, url=service.url)
    run.log({"loss": 1.0}, 1)
    assert run.flush()
    assert service.request("DELETE", f"/api/v1/runs/{run_name}").status == 204
    run.log({"loss": 1.0}, 2)
    assert run.flush() is False
    run.finish()
    assert "was deleted" in caplog.text
    assert service.get(f"/runs/{run_name}").status in (404, 410)


def test_refused_reports_are_kept_for_people(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tallyboard.init(run_name, url=service.url) as run:
        for step in (1, 2, 3, 2, 4):
            run.log({"loss": float(step)}, step)
        run.log({"loss": 9.0}, 4)
        run.log({"loss": 9.0}, 1, counter="epoch")
    reasons = [kept["refusal"]["reason"] for kept in service.get(f"/refused/{run_name}").json()["refused"]]
    assert sorted(reasons) == ["step_decreased", "tag_of_other_counter", "tag_repeated"]
    assert service.points(run_name, "loss") == [(i, float(i)) for i in (1, 2, 3, 4)]
    assert "7 reports sent, 3 refused, 0 dropped" in caplog.text
    assert caplog.text.count("test_client.py:") == 3


def test_a_disabled_run_counts_as_an_online_one_does(service: RunningService, run_name: str) -> None:
    states = []
    for mode in ("online", "disabled"):
        run = tallyboard.init(f"{run_name}/{mode}", mode=mode, url=service.url, counters={"val/*": "epoch"})
        run.log({"loss": 1.0})
        run.log({"loss": 1.0, "val/loss": 1.0})
        run.counter("other").increment(by=3)
        run.log({"x": 1.0}, 8, counter="explicit")
        run.log({"x": 1.0}, counter="explicit")
        run.config["lr"] = 0.1
        run.summary["acc"] = 0.5
        assert run.flush()
        states.append(run.state_dict())
        run.finish()
    assert states[0] == states[1]
    assert run.url == ""
    assert service.get(f"/runs/{run_name}/disabled").status == 404


def test_a_heartbeat_is_understood(service: RunningService, run_name: str) -> None:
    run = tallyboard.init(run_name, url=service.url)
    before = described(service, run_name)["health"]["last_seen"]
    transmitter = Transmitter(HttpTransport(service.url, None, "test"), random.Random(1))
    assert transmitter.heartbeat(run_name, "another")
    transmitter.close()
    assert described(service, run_name)["health"]["last_seen"] >= before
    run.finish()

"""Counters as trainings use them, against a real service: tracked, resumed, forgotten, and standing aside."""

from functools import partial
from pathlib import Path

import pytest

import tallyboard
from tallyboard.errors import ConfigurationError
from tallyboard.wire.names import SYSTEM_COUNTER
from tallyboard_server.settings import Settings
from tests.integration.test_client import described, free_port
from tests.service import RunningService, serving
from tests.stores import on

pytestmark = [pytest.mark.usefixtures("no_run_left"), on("sqlite", "postgres")]


def norm(batch: int) -> dict[str, float]:
    return {"norm": float(batch)}


def train(run: tallyboard.Run, epochs: int, batches: int, steps_max: int | None = None) -> None:
    """Epochs around batches, until the job is preempted."""
    step, epoch = run.counter("global_step"), run.counter("epoch")
    for _ in epoch.track(range(epochs)):
        for batch in step.track(range(batches)):
            run.log({"loss": 1 / step.value})
            step.log_every(10, partial(norm, batch))
            if step.value == steps_max:
                return
        run.log({"acc": epoch.value / epochs}, counter="epoch")


def test_epochs_around_batches_are_there_with_their_totals(service: RunningService, run_name: str) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        train(run, epochs=3, batches=8)
    assert service.points(run_name, "loss") == [(i, 1 / i) for i in range(1, 25)]
    assert service.points(run_name, "norm") == [(1, 0.0), (11, 2.0), (21, 4.0)]
    assert service.points(run_name, "acc") == [(i, i / 3) for i in (1, 2, 3)]
    told = described(service, run_name)["counters"]
    assert (told["global_step"]["total"], told["epoch"]["total"]) == (24, 3)
    (series,) = service.get(f"/scalars?run={run_name}&tag=loss&x=epoch").json()["series"]
    assert series["points"]["x"] == [1] * 8 + [2] * 8 + [3] * 8


def test_a_job_that_is_resumed_logs_at_the_steps_where_it_would_have(service: RunningService, run_name: str) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        train(run, epochs=3, batches=8, steps_max=13)
        checkpoint = run.state_dict()
        run.log({"loss": 9.0}, 14)
    with tallyboard.init(run_name, url=service.url, strict=True, resume="must") as run:
        run.load_state_dict(checkpoint)
        step = run.counter(create="existing")
        with pytest.raises(ConfigurationError, match="has a counter 'epoch'"):
            run.counter("epoch", create="new")
        with pytest.raises(ConfigurationError, match=r"there are epoch, global_step$"):
            run.counter("evaluation", create="existing")
        for _ in step.track(range(3)):
            run.log({"loss": 1 / step.value})
            assert step.log_every(10, {"norm": 0.5}) is False
        for _ in step.track(range(8)):
            run.log({"loss": 1 / step.value})
            step.log_every(10, {"norm": 0.5})
    assert service.points(run_name, "loss") == [(i, 1 / i) for i in range(1, 25)]
    assert service.points(run_name, "norm") == [(1, 0.0), (11, 2.0), (21, 0.5)]


def test_a_server_that_comes_late_tells_what_was_asked_wrongly(
    tmp_path: Path, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path / "data", port=free_port())
    url = f"http://127.0.0.1:{settings.port}"
    with serving(settings), tallyboard.init(run_name, url=url) as run:
        run.log({"loss": 1.0}, 7)
    run = tallyboard.init(run_name, url=url, resume="continue", spool_dir=tmp_path / "spool")
    step, epoch = run.counter(create="new"), run.counter("epoch", create="existing")
    fresh = run.counter("evaluation", total=5, create="new")
    fresh.increment()
    fresh.log({"score": 1.0})
    with serving(settings) as service:
        assert run.flush()
        assert (step.value, epoch.value) == (7, 0)
        assert caplog.text.count("'global_step' was asked for with create='new'") == 1
        assert caplog.text.count("'epoch' was asked for with create='existing'") == 1
        assert "'evaluation' was asked for" not in caplog.text
        run.finish()
        assert service.points(run_name, "score") == [(1, 1.0)]


def test_a_forgotten_increment_is_asked_about(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        c = run.counter()
        for _ in range(10):
            run.log({"learning_rate": 0.1}, step=c.value)
    assert caplog.text.count("global_step has been 0 for 10 reports; is it being incremented?") == 1
    assert "test_client_counters.py:" in caplog.text
    assert service.points(run_name, "learning_rate") == [(0, 0.1)]


def test_the_machines_counter_stands_aside(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with tallyboard.init(run_name, url=service.url, strict=True) as run:
        for step in range(1, 6):
            run.log({"loss": 1.0}, step)
            run.log({"gpu": 0.5}, counter=SYSTEM_COUNTER)
        checkpoint = run.state_dict()
    with tallyboard.init(run_name, url=service.url, strict=True, resume="must") as run:
        run.load_state_dict(checkpoint)
        assert run.recorder.is_placed(SYSTEM_COUNTER)
        run.log({"gpu": 0.6}, counter=SYSTEM_COUNTER)
        run.log({"loss": 1.0}, 6)
    assert service.points(run_name, "gpu") == [*((i, 0.5) for i in range(1, 6)), (6, 0.6)]
    (gpu,) = service.get(f"/scalars?run={run_name}&tag=gpu&x=global_step").json()["series"]
    assert (gpu["x_source"], gpu["points"]["x"]) == ("recorded", [1, 2, 3, 4, 5, 5])
    (loss,) = service.get(f"/scalars?run={run_name}&tag=loss&x={SYSTEM_COUNTER}").json()["series"]
    assert loss["x_source"] != "recorded"
    assert "not rewound" not in caplog.text


def test_a_report_that_differs_at_each_step_is_told_of_once_and_for_the_right_reason(
    service: RunningService, run_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is refused travels after the rows of later steps: the service would advise to rewind to the first of all."""
    with tallyboard.init(run_name, url=service.url, system_metrics=False) as run:
        step = run.counter()
        for _ in step.track(range(30)):
            run.log({"lr": 0.1})
            run.log({"loss": 1 / step.value})
            for value in (1.0, 2.0):
                run.log({"a": value, "b": value, "g": value})
    assert (run.stats().refused, run.stats().violations) == (30, 30)
    (said,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "'a' was reported at global_step 1 already, with another value" in said
    assert service.points(run_name, "a") == [(i, 1.0) for i in range(1, 31)]

"""A stock Hugging Face Trainer: what it logs is what the service holds, and nothing is refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PretrainedConfig, TrainerControl, TrainerState

import tallyboard
from tallyboard.integrations.transformers import TallyboardCallback
from tests.frameworks import kit_hf
from tests.frameworks.transformers_training import Classifier, digits, trainer
from tests.service import RunningService

STEPS = 36
"""Of two epochs."""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("named"),
    pytest.mark.filterwarnings("default"),  # the framework's own are its own
]


def finished(callback: TallyboardCallback) -> str:
    """The name of its run, which is over and had nothing refused."""
    run = callback.run
    assert run is not None
    run.finish()
    stats = run.stats()
    assert (stats.refused, stats.dropped_reports, stats.dropped_scalars, stats.waiting) == (0, 0, 0, 0)
    return run.name


def logged(history: Sequence[Mapping[str, float]], offset: int = 0) -> set[tuple[str, int | None, float]]:
    """(tag, step, value) of all that a Trainer logged; of evaluations, which count by themselves, without the step."""
    found: set[tuple[str, int | None, float]] = set()
    for entry in history:
        evaluation = any(name.startswith("eval_") for name in entry)
        for name, value in entry.items():
            tag = f"eval/{name.removeprefix('eval_')}" if evaluation else f"train/{name}"
            if name != "step":
                found.add((tag, None if evaluation else offset + int(entry["step"]), float(value)))
    return found


def held(service: RunningService, run: str) -> set[tuple[str, int | None, float]]:
    """The same of what the service holds."""
    return {
        (tag, None if tag.startswith("eval/") else step, value)
        for tag, curve in kit_hf.curves(service, run).items()
        for step, value in curve
    }


def test_every_value_that_it_logs_is_there_and_none_is_refused(service: RunningService, tmp_path: Path) -> None:
    callback = TallyboardCallback()
    job = trainer(
        tmp_path, [callback], num_train_epochs=2, logging_steps=5, save_strategy="epoch", load_best_model_at_end=True,
        metric_for_best_model="accuracy",
    )  # fmt: skip

    expected = set()
    for number in range(2):
        job.train()
        job.evaluate()  # of the best model, at the step of the last evaluation, with other figures
        expected |= logged(job.state.log_history, number * STEPS)
    run = finished(callback)

    assert held(service, run) == expected
    found = kit_hf.steps(kit_hf.curves(service, run))
    assert found["train/loss"] == [5, 10, 15, 20, 25, 30, 35, 41, 46, 51, 56, 61, 66, 71]
    assert found["eval/loss"] == [1, 2, 3, 4, 5, 6]
    document = service.get(f"/runs/{run}").json()
    assert {name: counter["total"] for name, counter in document["counters"].items()} == {
        "global_step": 2 * STEPS, "epoch": 4, "evaluation": None,
    }  # fmt: skip
    assert document["config"]["gradient_accumulation_steps"] == 2
    summary = document["summary"]
    assert summary["best_metric"] == job.state.best_metric
    assert summary["eval/accuracy"] == job.state.log_history[-1]["eval_accuracy"]
    assert summary["train/train_loss"] == job.state.log_history[-2]["train_loss"]


def test_an_evaluation_knows_where_the_training_stood(service: RunningService, tmp_path: Path) -> None:
    callback = TallyboardCallback()
    job = trainer(tmp_path, [callback], num_train_epochs=2, save_strategy="no")
    job.train()
    run = finished(callback)

    assert kit_hf.stood(service, run, "eval/loss", "global_step") == [18, 36]
    assert kit_hf.stood(service, run, "eval/loss", "epoch") == [1, 2]


def test_datasets_of_one_evaluation_share_its_number(service: RunningService, tmp_path: Path) -> None:
    callback = TallyboardCallback()
    job = trainer(tmp_path, [callback], num_train_epochs=2, save_strategy="no")
    job.eval_dataset = {"near": digits(288, 32), "far": digits(400, 32)}
    job.train()
    job.evaluate()
    run = finished(callback)

    found = kit_hf.steps(kit_hf.curves(service, run))
    assert found["eval/near_loss"] == found["eval/far_loss"] == [1, 2, 3]


def test_predictions_and_evaluations_by_another_name_are_told_apart(service: RunningService, tmp_path: Path) -> None:
    callback = TallyboardCallback()
    job = trainer(tmp_path, [callback], num_train_epochs=1, save_strategy="no")
    job.evaluate(metric_key_prefix="before")
    predicted = job.predict(digits(400, 32))
    job.train()
    run = finished(callback)

    found = kit_hf.steps(kit_hf.curves(service, run))
    assert found["eval/before_loss"] == [1]
    assert found["eval/loss"] == [2]
    assert found["train/loss"][0] == 2
    assert service.get(f"/runs/{run}").json()["summary"]["test/loss"] == predicted.metrics["test_loss"]


def test_a_checkpoint_that_knows_nothing_of_us_is_resumed_where_it_stands(
    service: RunningService, tmp_path: Path
) -> None:
    trainer(tmp_path, [], num_train_epochs=1, save_steps=12).train()
    callback = TallyboardCallback()
    job = trainer(tmp_path, [callback], num_train_epochs=2, save_steps=12)
    job.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    run = finished(callback)

    assert kit_hf.steps(kit_hf.curves(service, run))["train/loss"] == list(range(14, STEPS + 1, 2))


@pytest.mark.parametrize("restored", [True, False])
def test_a_training_that_is_resumed_goes_on_in_the_run_of_its_checkpoint(
    service: RunningService, tmp_path: Path, named: str, restored: bool
) -> None:
    service.report(named, {"scalars": {"x": 1.0}, "step": 1, "counter": "global_step"})  # the name is taken
    first = TallyboardCallback()
    trainer(tmp_path, [first], num_train_epochs=1, save_steps=12).train()
    run = finished(first)
    assert run == f"{named}-2"

    second = TallyboardCallback()
    job = trainer(
        tmp_path, [second], num_train_epochs=2, save_steps=12, restore_callback_states_from_checkpoint=restored
    )
    job.train(resume_from_checkpoint=str(tmp_path / "checkpoint-12"))
    callback = next(each for each in job.callback_handler.callbacks if isinstance(each, TallyboardCallback))

    assert (callback is second) is not restored
    assert finished(callback) == run
    assert kit_hf.steps(kit_hf.curves(service, run))["train/loss"] == list(range(2, STEPS + 1, 2))


def test_a_run_of_the_callers_own_is_found_and_left_to_them(service: RunningService, tmp_path: Path) -> None:
    run = tallyboard.init(config={"mine": 1})
    job = trainer(tmp_path, [TallyboardCallback()], num_train_epochs=1, save_strategy="no")
    job.train()
    second = trainer(tmp_path, [TallyboardCallback(run=run)], num_train_epochs=1, save_strategy="no")
    second.train()

    assert not run.finished
    run.finish()
    assert run.stats().refused == 0
    assert kit_hf.steps(kit_hf.curves(service, run.name))["train/loss"] == list(range(2, STEPS + 1, 2))
    assert service.get(f"/runs/{run.name}").json()["config"]["mine"] == 1


def test_only_the_worlds_first_process_reports(tmp_path: Path) -> None:
    callback = TallyboardCallback()
    job = trainer(tmp_path, [callback], num_train_epochs=1)
    state = TrainerState(is_world_process_zero=False, max_steps=10, stateful_callbacks=[callback, TrainerControl()])

    callback.on_train_begin(job.args, state, TrainerControl())
    callback.on_log(job.args, state, TrainerControl(), logs={"loss": 1.0})
    callback.on_step_end(job.args, state, TrainerControl())
    callback.on_train_end(job.args, state, TrainerControl())

    assert callback.run is None
    assert callback.state()["attributes"] == {}


def test_each_trial_of_a_search_is_a_run(service: RunningService, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("TALLYBOARD_RUN")
    callback = TallyboardCallback()
    job = trainer(tmp_path / "search", [callback], num_train_epochs=1)
    model = Classifier()
    model.config = PretrainedConfig(width=10)
    names = []
    for number in range(2):
        state = TrainerState(
            is_hyper_param_search=True, trial_name=f"trial-{number}", trial_params={"learning_rate": number / 10},
            max_steps=10, num_train_epochs=1,
        )  # fmt: skip
        callback.on_train_begin(job.args, state, TrainerControl(), model=model)
        callback.on_log(job.args, state, TrainerControl(), logs={"loss": float(number)})
        assert callback.run is not None
        callback.run.flush()
        names.append(callback.run.name)
    finished(callback)

    assert [name.split("/")[-2:] for name in names] == [["search", "trial-0"], ["search", "trial-1"]]
    documents = [service.get(f"/runs/{name}").json() for name in names]
    assert [document["config"]["learning_rate"] for document in documents] == [0.0, 0.1]
    assert [document["config"]["model"]["width"] for document in documents] == [10, 10]
    assert [document["status"] for document in documents] == ["finished", "finished"]


@pytest.mark.slow
def test_a_training_that_fails_is_a_failed_run(service: RunningService, tmp_path: Path, named: str) -> None:
    said = kit_hf.failing("transformers_training.py", service, named, tmp_path, "step_end:3")

    document = service.get(f"/runs/{named}").json()
    assert document["status"] == "failed"
    assert said in document["summary"]["exception"]

"""Keras itself, on both of its backends that are here: what it reports, and jobs that are killed and resumed."""

import json
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.frameworks import jobs
from tests.service import RunningService

Script = Callable[..., jobs.Told]
TRAINING = Path(__file__).with_name("keras_training.py")
BATCHES, EPOCHS = 23, 4
"""An epoch is 1,437 images, in batches of 64."""
STEPS = BATCHES * EPOCHS
LASTS = dict.fromkeys(["train/loss", "train/accuracy", "learning_rate"], STEPS) | dict.fromkeys(
    ["epoch/loss", "epoch/accuracy", "val/loss", "val/accuracy"], EPOCHS
)

pytestmark = pytest.mark.timeout(600)
backends = pytest.mark.parametrize("backend", ["torch", "jax"])


@pytest.fixture
def script(tmp_path: Path, service: RunningService, run_name: str) -> Script:
    """Runs code after the BEGINNING, in a process of its own with a strict run; nothing may be lost."""

    def run(code: str, backend: str = "jax") -> jobs.Told:
        path = tmp_path / "train.py"
        path.write_text(BEGINNING + textwrap.dedent(code), encoding="utf-8")
        variables = {"TALLYBOARD_STRICT": "1", "KERAS_BACKEND": backend}
        return jobs.train([str(path)], service, run_name, variables, cwd=tmp_path)

    return run


BEGINNING = """
import json
import keras
import tallyboard
from tallyboard.integrations.keras import TallyboardCallback, resume
from tests.frameworks.keras_training import Witness, compiled, digits
model, (images, labels, validation), witness = compiled(), digits(), Witness()
fit = {"batch_size": 64, "verbose": 0, "shuffle": False}
"""


def numbered(values: list[float]) -> list[tuple[int, float]]:
    """Values as the points of a curve that begins at step 1."""
    return list(enumerate(values, 1))


def train(folder: Path, service: RunningService, run: str, backend: str, kill: str = "") -> jobs.Told:
    """A life of the training; what it printed."""
    variables = {"KERAS_BACKEND": backend, "FOLDER": str(folder), "KILL": kill}
    return jobs.train([str(TRAINING)], service, run, variables, killed=bool(kill))


@backends
def test_every_figure_that_keras_tells_is_found(
    script: Script, service: RunningService, run_name: str, backend: str
) -> None:
    done = script(
        """
        with tallyboard.init(config={"optimizer": "mine"}) as run:
            callbacks = [TallyboardCallback(run), witness]
            evaluations = []
            for epochs in (2, 1):
                model.fit(images, labels, epochs=epochs, validation_data=validation, callbacks=callbacks, **fit)
                for _ in range(2):
                    evaluations.append(model.evaluate(*validation, verbose=0, return_dict=True, callbacks=callbacks))
        print(json.dumps([witness.batches, witness.epochs, evaluations]))
        """,
        backend,
    )
    batches, epochs, evaluations = json.loads(done.out)
    assert (len(batches), len(epochs), len(evaluations)) == (3 * BATCHES, 3, 4)
    for name in ("loss", "accuracy"):
        assert service.points(run_name, f"train/{name}") == numbered([batch[name] for batch in batches])
        assert service.points(run_name, f"epoch/{name}") == numbered([epoch[name] for epoch in epochs])
        assert service.points(run_name, f"val/{name}") == numbered([epoch[f"val_{name}"] for epoch in epochs])
        assert service.points(run_name, f"evaluation/{name}") == numbered([each[name] for each in evaluations])
    rates = service.points(run_name, "learning_rate")
    assert jobs.steps(rates) == list(range(1, 3 * BATCHES + 1))
    assert [rate for _, rate in rates] == pytest.approx([0.01 * 0.9 ** (k / 10) for k in range(3 * BATCHES)], rel=1e-5)
    found = service.get(f"/runs/{run_name}").json()
    assert found["status"] == "finished"
    assert {name: counter["total"] for name, counter in found["counters"].items()} == {
        "global_step": 3 * BATCHES, "epoch": 3, "evaluation": None,
    }  # fmt: skip
    assert_config(found["config"])
    chart = service.get(f"/scalars?run={run_name}&tag=evaluation/loss&x=global_step").json()
    assert chart["series"][0]["points"]["x"] == [2 * BATCHES, 2 * BATCHES, 3 * BATCHES, 3 * BATCHES]


def assert_config(config: Any) -> None:
    keras = config["keras"]
    assert config["optimizer"] == "mine"
    assert keras["model"] == {"name": "digits", "parameters": 64 * 16 + 16 + 16 * 10 + 10}
    assert (keras["epochs"], keras["steps"], keras["loss"]) == (1, BATCHES, "sparse_categorical_crossentropy")
    assert keras["optimizer"]["name"] == "adam"
    assert keras["optimizer"]["learning_rate"]["config"]["decay_rate"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("several", "reported"),
    [(1, [1, 11, 21, 31, 41]), (5, [5, 15, 23, 33, 43])],  # 23 batches are 5 + 5 + 5 + 5 + 3
)
def test_log_every_counts_batches_on_through_epochs(
    script: Script, service: RunningService, run_name: str, several: int, reported: list[int]
) -> None:
    script(
        f"""
        model.compile(model.optimizer, model.loss, metrics=["accuracy"], steps_per_execution={several})
        with tallyboard.init() as run:
            model.fit(images, labels, epochs=2, callbacks=[TallyboardCallback(run, log_every=10)], **fit)
            assert run.counter().value == {2 * BATCHES}
        """,
    )
    assert jobs.steps(service.points(run_name, "train/loss")) == reported
    assert jobs.steps(service.points(run_name, "learning_rate")) == reported


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "kills"),
    [
        # before there is a backup; in the third epoch; in the last epoch's save, between counters and weights
        ("jax", ["batch 10", f"batch {2 * BATCHES + 7}", "saving"]),
        ("torch", [f"batch {2 * BATCHES + 7}"]),
    ],
    ids=["jax", "torch"],
)
def test_killed_and_resumed_it_leaves_the_curves_of_an_uninterrupted_training(
    tmp_path: Path, service: RunningService, run_name: str, backend: str, kills: list[str]
) -> None:
    told = json.loads(train(tmp_path / "whole", service, f"{run_name}-whole", backend).out)
    for kill in kills:
        train(tmp_path / "killed", service, run_name, backend, kill)
    train(tmp_path / "killed", service, run_name, backend)
    jobs.assert_uninterrupted(service, run_name, f"{run_name}-whole", LASTS)
    assert service.points(run_name, "train/loss") == numbered([batch["loss"] for batch in told["batches"]])
    assert service.points(run_name, "val/loss") == numbered([epoch["val_loss"] for epoch in told["epochs"]])
    found = service.get(f"/runs/{run_name}").json()
    assert found["status"] == "finished"
    assert {name: found["counters"][name]["total"] for name in ("global_step", "epoch")} == {
        "global_step": STEPS, "epoch": EPOCHS,
    }  # fmt: skip


@pytest.mark.slow
def test_killed_where_keras_trains_an_epoch_twice_the_steps_go_on(
    tmp_path: Path, service: RunningService, run_name: str
) -> None:
    """Keras writes the weights, then the epoch: killed in between, it trains that epoch again on the newer weights."""
    train(tmp_path / "killed", service, run_name, "jax", "saved")
    train(tmp_path / "killed", service, run_name, "jax")
    assert jobs.steps(service.points(run_name, "train/loss")) == list(range(1, STEPS + BATCHES + 1))
    assert jobs.steps(service.points(run_name, "val/loss")) == list(range(1, EPOCHS + 2))
    assert service.get(f"/runs/{run_name}").json()["counters"]["global_step"]["total"] == STEPS + BATCHES


def test_a_checkpoint_that_is_loaded_by_hand_takes_the_run_back(
    script: Script, service: RunningService, run_name: str
) -> None:
    done = script(
        """
        run = tallyboard.init()
        callbacks = [
            TallyboardCallback(run, checkpoints=[keras.callbacks.ModelCheckpoint("at-{epoch}.keras")]), witness
        ]
        model.evaluate(*validation, verbose=0, callbacks=callbacks)
        model.fit(images, labels, epochs=3, callbacks=callbacks, **fit)
        loaded = keras.models.load_model("at-2.keras")
        assert resume(run, loaded, "at-2.keras")
        again = Witness()
        loaded.fit(images, labels, initial_epoch=2, epochs=3, callbacks=[TallyboardCallback(run), again], **fit)
        print(json.dumps([witness.batches, again.batches]))
        """,
    )
    first, again = ([batch["loss"] for batch in batches] for batches in json.loads(done.out))
    assert again == first[2 * BATCHES :]
    assert service.points(run_name, "train/loss") == numbered(first)
    assert jobs.steps(service.points(run_name, "evaluation/loss")) == [1]
    superseded = jobs.curves(service, run_name, superseded=True)["train/loss"]
    assert jobs.steps(superseded) == list(range(2 * BATCHES + 1, 3 * BATCHES + 1))


def test_what_makes_no_sense_is_said_and_harms_no_training(
    script: Script, service: RunningService, run_name: str
) -> None:
    done = script(
        """
        run = tallyboard.init()
        callback = TallyboardCallback(run)
        model.fit(images, labels, epochs=1, callbacks=[callback], **fit)
        model.save_weights("by-hand.weights.h5")
        assert not resume(run, model, "by-hand.weights.h5")
        open("odd.weights.h5.tallyboard.json", "w").write('{"saves": [{"counters": 3, "iterations": 23}]}')
        assert not resume(run, model, "odd.weights.h5")
        try:
            TallyboardCallback(run, log_every=0)
        except tallyboard.ConfigurationError as error:
            assert "it counts batches, at least 1" in str(error)
        else:
            raise AssertionError
        model.fit(images, labels, epochs=1, callbacks=[callback], **fit)
        """,
    )
    assert done.err.count("knows nothing of a save after 23 iterations") == 2
    assert jobs.steps(service.points(run_name, "train/loss")) == list(range(1, 2 * BATCHES + 1))


def test_a_folder_that_takes_no_counters_harms_no_training(
    script: Script, service: RunningService, run_name: str
) -> None:
    done = script(
        """
        import os
        os.mkdir("kept.weights.h5.tallyboard.json")
        run = tallyboard.init()
        keep = keras.callbacks.ModelCheckpoint("kept.weights.h5", save_weights_only=True)
        model.fit(images, labels, epochs=1, callbacks=[TallyboardCallback(run, checkpoints=[keep])], **fit)
        assert os.path.getsize("kept.weights.h5") > 0
        assert "save_weights" not in vars(model)
        """,
    )
    assert done.err.count("the counters could not be saved beside the checkpoint") == 1
    assert len(service.points(run_name, "train/loss")) == BATCHES

"""A training with Keras on the digits, told by the environment where to be killed; prints what Keras told it, as JSON.

KILL: `batch N` after this life's Nth batch, `saving` after the counters are saved but not the weights, `saved` after
the weights are but not what Keras keeps beside them; the latter two at this life's second save.
"""

import itertools
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import keras
from sklearn.datasets import load_digits

import tallyboard
from tallyboard.integrations.keras import TallyboardCallback

EPOCHS = 4
BATCH_SIZE = 64


class Witness(keras.callbacks.Callback):
    """Writes down what Keras tells its callbacks, and kills the process after a number of batches."""

    def __init__(self, batches_max: int | None = None) -> None:
        super().__init__()
        self.batches: list[dict[str, float]] = []
        self.epochs: list[dict[str, float]] = []
        self._batches_max = batches_max

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches.append(dict(logs))
        if len(self.batches) == self._batches_max:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(dict(logs))


def kill_at_save(number: int, where: str) -> None:
    """Have the process killed at its save of that number, before or after the weights are written."""
    save, saves = keras.Model.save_weights, itertools.count(1)

    def save_weights(model: Any, *arguments: Any, **options: Any) -> None:
        last = next(saves) == number
        if last and where == "saving":
            os.kill(os.getpid(), signal.SIGKILL)
        save(model, *arguments, **options)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    keras.Model.save_weights = save_weights


def compiled() -> Any:
    """A small classifier, the same each time, whose learning rate falls."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10)], name="digits"
    )
    rate = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=10, decay_rate=0.9)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def digits() -> tuple[Any, Any, tuple[Any, Any]]:
    """(1,437 training images, their labels, (360 other images, their labels))."""
    images, labels = load_digits(return_X_y=True)
    images = images.astype("float32") / 16
    return images[360:], labels[360:], (images[:360], labels[:360])


def main(folder: Path, kill: str) -> None:
    """Train for EPOCHS with Keras' own answer to preemption."""
    where, _, count = kill.partition(" ")
    if where in ("saving", "saved"):
        kill_at_save(2, where)
    backup = keras.callbacks.BackupAndRestore(str(folder / "backup"), double_checkpoint=True)
    witness = Witness(int(count) if where == "batch" else None)
    run = tallyboard.init(resume="continue", strict=True)
    model = compiled()
    images, labels, validation = digits()
    model.fit(
        images, labels, batch_size=BATCH_SIZE, epochs=EPOCHS, validation_data=validation, shuffle=False, verbose=0,
        callbacks=[TallyboardCallback(run, checkpoints=[backup]), witness],
    )  # fmt: skip
    run.finish()
    json.dump({"batches": witness.batches, "epochs": witness.epochs}, sys.stdout)


if __name__ == "__main__":
    main(Path(os.environ["FOLDER"]), os.environ.get("KILL", ""))

"""Train on scikit-learn's handwritten digits with JAX and Optax.

JAX computes ahead: a step returns before it is done, and whoever asks for its numbers waits for them. So the figures
stay on the device for a while, and are fetched and reported together (`Late`). The checkpoint holds the run's counters:
kill the job at any moment and start it again, and the curves are those of a training that was never killed.

    tallyboard serve                      # in one terminal
    python digits_optax.py                # in another
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from sklearn.datasets import load_digits

import tallyboard

BATCH_SIZE = 64
VALIDATION = 360
"""Images that are kept back."""
LATE_MAX = 20
"""Steps whose figures wait on the device: the host is never further ahead."""

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class Late:
    """Figures that are still being computed, each with its step, until they are reported together."""

    def __init__(self, run: tallyboard.Run) -> None:
        self._run = run
        self._waiting: list[tuple[int, Mapping[str, jax.Array]]] = []

    def put(self, step: int, figures: Mapping[str, jax.Array]) -> None:
        """Take the figures of a step; nothing waits for the device, but for every LATE_MAX-th."""
        self._waiting.append((step, figures))
        if len(self._waiting) >= LATE_MAX:
            self.report()

    def report(self) -> None:
        """Fetch and report what waits: before another counter moves on, a checkpoint is saved, or the training ends."""
        waiting, self._waiting = self._waiting, []
        for step, figures in jax.device_get(waiting):
            self._run.log(figures, step)


def initial_parameters(hidden: int = 32) -> list[dict[str, jax.Array]]:
    """64 pixels → `hidden` rectified units → 10 classes."""
    keys = jax.random.split(jax.random.key(0))
    sizes = [(64, hidden), (hidden, 10)]
    return [
        {"w": jax.random.normal(key, size) * np.sqrt(2 / size[0]), "b": jnp.zeros(size[1])}
        for key, size in zip(keys, sizes, strict=True)
    ]


def loss_and_accuracy(parameters: list[dict[str, jax.Array]], batch: Batch) -> tuple[jax.Array, jax.Array]:
    """(mean cross-entropy in nats, accuracy in 0…1)."""
    images, labels = batch
    hidden = jax.nn.relu(images @ parameters[0]["w"] + parameters[0]["b"])
    logits = hidden @ parameters[1]["w"] + parameters[1]["b"]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, (logits.argmax(-1) == labels).mean()


class Job:
    """What a training consists of, and what its checkpoint holds."""

    def __init__(self, run: tallyboard.Run, learning_rate: float, epochs: int) -> None:
        images, labels = load_digits(return_X_y=True)
        images = (images / 16).astype(np.float32)
        self.training = images[VALIDATION:], labels[VALIDATION:]
        self.validation = images[:VALIDATION], labels[:VALIDATION]
        self.batches = len(self.training[1]) // BATCH_SIZE
        steps = epochs * self.batches
        schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, steps // 10, steps)
        # The rate of each update stays in the optimizer's state, on the device: nothing computes it a second time.
        self.optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=schedule)
        self.parameters = initial_parameters()
        self.state = self.optimizer.init(self.parameters)
        self.run, self.late = run, Late(run)
        self.global_step, self.epoch = run.counter("global_step", total=steps), run.counter("epoch", total=epochs)
        self._update = jax.jit(self._updated)
        self._evaluate = jax.jit(loss_and_accuracy)

    def _updated(self, parameters: Any, state: Any, batch: Batch) -> tuple[Any, Any, dict[str, jax.Array]]:
        (loss, accuracy), gradients = jax.value_and_grad(loss_and_accuracy, has_aux=True)(parameters, batch)
        updates, state = self.optimizer.update(gradients, state, parameters)
        figures = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "train/gradient_norm": optax.global_norm(gradients),
            "learning_rate": state.hyperparams["learning_rate"],
        }
        return optax.apply_updates(parameters, updates), state, figures

    def train_step(self, batch: Batch) -> None:
        """One update, on its way when this returns."""
        self.parameters, self.state, figures = self._update(self.parameters, self.state, batch)
        self.late.put(self.global_step.increment(), figures)

    def end_epoch(self) -> None:
        """Report what waits, and then how the epoch has ended."""
        self.late.report()
        loss, accuracy = self._evaluate(self.parameters, self.validation)
        self.epoch.increment()
        self.run.log({"val/loss": loss, "val/accuracy": accuracy})  # val/* counts on epoch: see main()

    def rest_of_epoch(self) -> Iterator[Batch]:
        """The batches that this epoch still has: after a resume, not all."""
        images, labels = self.training
        order = np.random.default_rng(self.epoch.value).permutation(len(labels))  # the same after a resume
        for number in range(self.global_step.value - self.epoch.value * self.batches, self.batches):
            rows = order[number * BATCH_SIZE : (number + 1) * BATCH_SIZE]
            yield images[rows], labels[rows]

    def save(self, path: Path) -> None:
        """Keep what was reported so far, then a checkpoint that goes on from here: in that order, and whole or not."""
        self.late.report()
        self.run.flush(kept=True)
        leaves = {f"leaf{i}": leaf for i, leaf in enumerate(jax.tree.leaves((self.parameters, self.state)))}
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            np.savez(file, counters=json.dumps(self.run.state_dict()), **jax.device_get(leaves))
        new.replace(path)

    def load(self, path: Path) -> None:
        """Go back to a checkpoint; so does the run, to the very step."""
        with np.load(path) as saved:
            old, structure = jax.tree.flatten((self.parameters, self.state))
            leaves = [jnp.asarray(saved[f"leaf{i}"]) for i in range(len(old))]
            self.run.load_state_dict(json.loads(str(saved["counters"])))
        self.parameters, self.state = jax.tree.unflatten(structure, leaves)


def train(job: Job, epochs: int, checkpoint: Path, save_every: int) -> None:
    """Train to the end of the last epoch, with a checkpoint every so many steps."""
    while job.epoch.value < epochs:
        for batch in job.rest_of_epoch():
            job.train_step(batch)
            if job.global_step.value % save_every == 0:
                job.save(checkpoint)
        job.end_epoch()


def main() -> None:
    """Train, or go on from the checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--name", default="digits/optax", help="of the run, by which it is found again after a kill")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--checkpoint", type=Path, default=Path("digits_optax.npz"))
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS")
    arguments = parser.parse_args()
    resumed = arguments.checkpoint.exists()
    run = tallyboard.init(
        arguments.name,
        config={"learning_rate": arguments.learning_rate, "batch_size": BATCH_SIZE, "epochs": arguments.epochs},
        counters={"val/*": "epoch"},
        resume="continue",
        next_steps=None if resumed else {"global_step": 1, "epoch": 1},  # killed before there was a checkpoint
    )
    job = Job(run, arguments.learning_rate, arguments.epochs)
    if resumed:
        job.load(arguments.checkpoint)
    train(job, arguments.epochs, arguments.checkpoint, arguments.save_every)
    run.finish()


if __name__ == "__main__":
    main()

"""Train a linear classifier of scikit-learn's handwritten digits with a scheduled learning rate and averaged weights.

The learning rate is a schedule bound to `global_step` and reported beside the loss; on `epoch` count the loss's mean
over the epoch, and how well the weights do, and their moving average:

    tallyboard serve                      # in one terminal
    python digits_schedule.py             # in another
"""

import argparse

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tallyboard
from tallyboard.schedules import cosine_decay
from tallyboard.statistics import EpochTotals, ExponentialMovingAverage, GradientNorms

Floats = npt.NDArray[np.float64]
Weights = dict[str, Floats]

BATCH_SIZE = 32
INITIAL = 0.5
"""Learning rate at the beginning, high enough for the weights to jump about: that is what averages are for."""


def probabilities(weights: Weights, images: Floats) -> Floats:
    """Of each digit, for rows of 64 pixels."""
    logits = images @ weights["w"] + weights["b"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    found: Floats = exponentials / exponentials.sum(axis=1, keepdims=True)
    return found


def accuracy(weights: Weights, images: Floats, labels: npt.NDArray[np.int64]) -> float:
    """Share of the images that are told right."""
    return float((probabilities(weights, images).argmax(axis=1) == labels).mean())


def train(run: tallyboard.Run, *, epochs: int = 20, seed: int = 0) -> float:
    """Train one classifier, report to `run`, and return the accuracy (0…1) of the averaged weights."""
    digits = load_digits()
    split = train_test_split(digits.data / 16.0, digits.target, test_size=0.2, random_state=seed)
    images, val_images, labels, val_labels = split
    rng = np.random.default_rng(seed)
    iterations = -(-len(images) // BATCH_SIZE)
    weights = {"w": np.zeros((64, 10)), "b": np.zeros(10)}

    global_step, epoch = run.counter("global_step", total=epochs * iterations), run.counter("epoch", total=epochs)
    learning_rate = cosine_decay(INITIAL, decay_steps=epochs * iterations).bind(global_step)
    averaged = ExponentialMovingAverage(0.99, num_updates=global_step)
    averaged.apply(weights)
    norms = GradientNorms(global_step)
    totals = EpochTotals(iterations, epoch)
    found = 0.0
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(images)), iterations):
            guessed = probabilities(weights, images[rows])
            loss = float(-np.log(guessed[np.arange(len(rows)), labels[rows]]).mean())
            guessed[np.arange(len(rows)), labels[rows]] -= 1.0
            gradients = {"w": images[rows].T @ guessed / len(rows), "b": guessed.mean(axis=0)}
            global_step.set(totals.add({"epoch/loss": loss}, weight=len(rows)))
            for name, gradient in gradients.items():
                weights[name] -= learning_rate.value * gradient
            averaged.apply(weights)
            run.log({"train/loss": loss, "learning_rate": learning_rate})
            norms.update(gradients, log=global_step.every(10))
        totals.end()
        norms.reset()
        found = accuracy(
            {name: np.asarray(average) for name, average in averaged.averages.items()}, val_images, val_labels
        )
        epoch.log({"val/accuracy": accuracy(weights, val_images, val_labels), "val/accuracy_averaged": found})
    run.summary["val/accuracy_averaged"] = found
    return found


def main() -> None:
    """Train one classifier."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = tallyboard.init(
        "schedule", project="digits", config={"learning_rate": INITIAL, "batch_size": BATCH_SIZE, **vars(arguments)}
    )
    found = train(run, epochs=arguments.epochs, seed=arguments.seed)
    run.finish()
    print(f"{run.name}: validation accuracy of the averaged weights {found:.3f}")


if __name__ == "__main__":
    main()

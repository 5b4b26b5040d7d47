"""Train small networks on scikit-learn's handwritten digits, one run per learning rate.

Loss and accuracy of the training batches count on `global_step`, the validation figures on `epoch`:

    tallyboard serve                      # in one terminal
    python digits_classifier.py           # in another
"""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import tallyboard

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

LEARNING_RATES = (0.02, 0.05, 0.1, 0.3)
BATCH_SIZE = 32
CLASSES = 10


class Digits(NamedTuple):
    """Images as rows of 64 pixels in 0…1, and the digit each shows (0…9)."""

    images: Floats
    labels: Labels


def load(validation_share: float = 0.2, seed: int = 0) -> tuple[Digits, Digits]:
    """The 1,797 images, shuffled and split into (training, validation)."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    images, labels = images[order] / 16.0, labels[order].astype(np.int64)
    cut = int(len(labels) * validation_share)
    return Digits(images[cut:], labels[cut:]), Digits(images[:cut], labels[:cut])


class Classifier:
    """64 pixels → `hidden` rectified units → 10 classes, trained by plain stochastic gradient descent."""

    def __init__(self, hidden: int, rng: np.random.Generator) -> None:
        self.w1 = rng.normal(0.0, np.sqrt(2 / 64), (64, hidden))
        self.b1 = np.zeros(hidden)
        self.w2 = rng.normal(0.0, np.sqrt(2 / hidden), (hidden, CLASSES))
        self.b2 = np.zeros(CLASSES)

    def evaluate(self, digits: Digits) -> tuple[float, float]:
        """(mean cross-entropy in nats, accuracy in 0…1)."""
        _, probabilities = self._forward(digits.images)
        return _loss_and_accuracy(probabilities, digits.labels)

    def train_step(self, digits: Digits, learning_rate: float) -> tuple[float, float]:
        """One step of gradient descent on a batch; its (loss, accuracy) before the step."""
        hidden, probabilities = self._forward(digits.images)
        grad_logits = probabilities.copy()
        grad_logits[np.arange(len(digits.labels)), digits.labels] -= 1.0
        grad_logits /= len(digits.labels)
        grad_hidden = (grad_logits @ self.w2.T) * (hidden > 0)
        self.w2 -= learning_rate * (hidden.T @ grad_logits)
        self.b2 -= learning_rate * grad_logits.sum(axis=0)
        self.w1 -= learning_rate * (digits.images.T @ grad_hidden)
        self.b1 -= learning_rate * grad_hidden.sum(axis=0)
        return _loss_and_accuracy(probabilities, digits.labels)

    def _forward(self, images: Floats) -> tuple[Floats, Floats]:
        hidden = np.maximum(images @ self.w1 + self.b1, 0.0)
        logits = hidden @ self.w2 + self.b2
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return hidden, exponentials / exponentials.sum(axis=1, keepdims=True)


def _loss_and_accuracy(probabilities: Floats, labels: Labels) -> tuple[float, float]:
    likelihoods = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(likelihoods, 1e-12)).mean()
    return float(loss), float((probabilities.argmax(axis=1) == labels).mean())


def _batches(digits: Digits, rng: np.random.Generator) -> Iterator[Digits]:
    order = rng.permutation(len(digits.labels))
    for first in range(0, len(order), BATCH_SIZE):
        rows = order[first : first + BATCH_SIZE]
        yield Digits(digits.images[rows], digits.labels[rows])


def train(run: tallyboard.Run, learning_rate: float, *, epochs: int = 20, seed: int = 0) -> float:
    """Train one classifier, report to `run`, and return its accuracy (0…1) on the validation images."""
    rng = np.random.default_rng(seed)
    training, validation = load()
    model = Classifier(hidden=32, rng=rng)
    global_step = run.counter("global_step", total=epochs * -(-len(training.labels) // BATCH_SIZE))
    epoch = run.counter("epoch", total=epochs)
    accuracy = 0.0
    for _ in range(epochs):
        for batch in _batches(training, rng):
            batch_loss, batch_accuracy = model.train_step(batch, learning_rate)
            global_step.increment()
            run.log({"train/loss": batch_loss, "train/accuracy": batch_accuracy})
        epoch.increment()
        loss, accuracy = model.evaluate(validation)
        run.log({"val/loss": loss, "val/accuracy": accuracy})  # val/* counts on epoch: see main()
    run.summary["val/accuracy"] = accuracy
    return accuracy


def main() -> None:
    """Train one classifier for each learning rate."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rates", type=float, nargs="+", default=LEARNING_RATES)
    arguments = parser.parse_args()
    for learning_rate in arguments.learning_rates:
        run = tallyboard.init(
            f"classifier-lr{learning_rate:g}",
            project="digits",
            config={"learning_rate": learning_rate, "batch_size": BATCH_SIZE, "epochs": arguments.epochs},
            counters={"val/*": "epoch"},
        )
        accuracy = train(run, learning_rate, epochs=arguments.epochs)
        run.finish()
        print(f"{run.name}: validation accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()

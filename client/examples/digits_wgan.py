"""Train a Wasserstein GAN on scikit-learn's handwritten digits: a critic that is far ahead, and two counters.

The critic takes five steps for each of the generator's, and more in the beginning (after Arjovsky et al., 2017), so
neither counter tells the other. Each report says where both stand, and either loss can be drawn over either:

    tallyboard serve                      # in one terminal
    python digits_wgan.py                 # in another
    curl 'localhost:6007/api/v1/scalars?run=digits/wgan&tag=D/loss&x=G_global_step'
    curl 'localhost:6007/api/v1/scalars?run=digits/wgan&tag=G/loss&x=D_global_step'
"""

import argparse

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import tallyboard
from tallyboard.schedules import Bound, exponential_decay, piecewise_constant
from tallyboard.statistics import ExponentialMovingAverage, GradientNorms

Floats = npt.NDArray[np.float64]
Weights = dict[str, Floats]

PIXELS = 64
NOISE = 8
HIDDEN = 64
BATCH_SIZE = 64
CLIP = 0.1
"""The critic's weights stay in -CLIP…CLIP, which bounds how steep it can be."""
D_STEPS = piecewise_constant([10], [25, 5])
"""Critic steps before a generator step: a schedule like any other, of G_global_step."""
EVALUATE_EVERY = 20
"""Generator steps between two measurements of the images' quality."""
LOG_GRADIENTS_EVERY = 10


def layers(inputs: int, outputs: int, rng: np.random.Generator) -> Weights:
    """Weights of one hidden layer and an output layer."""
    return {
        "hidden/w": rng.normal(0.0, np.sqrt(2 / inputs), (inputs, HIDDEN)),
        "hidden/b": np.zeros(HIDDEN),
        "output/w": rng.normal(0.0, np.sqrt(1 / HIDDEN), (HIDDEN, outputs)),
        "output/b": np.zeros(outputs),
    }


def forward(weights: Weights, inputs: Floats) -> tuple[Floats, Floats]:
    """(hidden activations, outputs) of a batch of rows."""
    hidden = np.maximum(inputs @ weights["hidden/w"] + weights["hidden/b"], 0.0)
    return hidden, hidden @ weights["output/w"] + weights["output/b"]


def backward(weights: Weights, inputs: Floats, hidden: Floats, grad: Floats) -> tuple[Weights, Floats]:
    """(gradients of the weights, gradient of the inputs), given that of the outputs."""
    grad_hidden = (grad @ weights["output/w"].T) * (hidden > 0)
    gradients = {
        "hidden/w": inputs.T @ grad_hidden,
        "hidden/b": grad_hidden.sum(0),
        "output/w": hidden.T @ grad,
        "output/b": grad.sum(0),
    }
    return gradients, grad_hidden @ weights["hidden/w"].T


class RmsProp:
    """Steps along gradients divided by their running size; no momentum, which disturbs a critic (Arjovsky et al.)."""

    def __init__(self, weights: Weights, learning_rate: Bound) -> None:
        self.weights = weights
        self.learning_rate = learning_rate
        self._squares = {name: np.zeros_like(weight) for name, weight in weights.items()}

    def descend(self, gradients: Weights) -> None:
        """One step down, at the learning rate of the counter's step."""
        rate = self.learning_rate.value
        for name, gradient in gradients.items():
            self._squares[name] += 0.1 * (gradient**2 - self._squares[name])
            self.weights[name] -= rate * gradient / (np.sqrt(self._squares[name]) + 1e-8)


class Wgan:
    """A generator (noise → pixels in 0…1) and a critic (pixels → how real, without a scale)."""

    def __init__(self, run: tallyboard.Run, rng: np.random.Generator) -> None:
        self.rng = rng
        self.d_step, self.g_step = run.counter("D_global_step"), run.counter("G_global_step")
        self.critic, self.generator = layers(PIXELS, 1, rng), layers(NOISE, PIXELS, rng)
        rate = exponential_decay(3e-3, decay_steps=2000, decay_rate=0.5)
        self._d_optimizer = RmsProp(self.critic, rate.bind(self.d_step, "D/learning_rate", log=True))
        self._g_optimizer = RmsProp(self.generator, rate.bind(self.g_step, "G/learning_rate", log=True))
        self._d_norms = GradientNorms(self.d_step, "D/gradients")
        self.averaged = ExponentialMovingAverage(0.99, num_updates=self.g_step)

    def generate(self, noise: Floats, weights: Weights) -> tuple[Floats, Floats]:
        """(hidden activations, images as rows of 64 pixels) of a generator with these weights."""
        hidden, outputs = forward(weights, noise)
        return hidden, 0.5 + 0.5 * np.tanh(outputs)

    def critic_step(self, real: Floats) -> float:
        """Teach the critic to tell real images from generated ones. Returns its loss, minus the distance it sees."""
        _, generated = self.generate(self.rng.normal(size=(len(real), NOISE)), self.generator)
        images = np.concatenate([real, generated])
        signs = np.concatenate([np.full((len(real), 1), -1.0), np.full((len(real), 1), 1.0)]) / len(real)
        hidden, scores = forward(self.critic, images)
        gradients, _ = backward(self.critic, images, hidden, signs)
        self.d_step.increment()
        self._d_optimizer.descend(gradients)
        for weight in self.critic.values():
            np.clip(weight, -CLIP, CLIP, out=weight)
        self._d_norms.update(gradients, log=self.d_step.every(LOG_GRADIENTS_EVERY))
        return float((signs * scores).sum())

    def generator_step(self, n: int) -> float:
        """Teach the generator to please the critic with n images. Returns its loss, minus their mean score."""
        noise = self.rng.normal(size=(n, NOISE))
        hidden, images = self.generate(noise, self.generator)
        critic_hidden, scores = forward(self.critic, images)
        _, grad_images = backward(self.critic, images, critic_hidden, np.full((n, 1), -1.0 / n))
        gradients, _ = backward(self.generator, noise, hidden, grad_images * 2.0 * images * (1.0 - images))
        self.g_step.increment()
        self._g_optimizer.descend(gradients)
        self.averaged.apply(self.generator)
        return -float(scores.mean())

    def distance(self, real: Floats, directions: int = 64) -> float:
        """Sliced Wasserstein distance of images by the averaged weights from real ones (Rabin et al., 2011)."""
        rng = np.random.default_rng(0)  # the same each time, so that distances can be compared
        averaged = {name: np.asarray(weight) for name, weight in self.averaged.averages.items()}
        _, images = self.generate(rng.normal(size=(len(real), NOISE)), averaged)
        slices = rng.normal(size=(PIXELS, directions))
        slices /= np.linalg.norm(slices, axis=0)
        return float(np.abs(np.sort(real @ slices, axis=0) - np.sort(images @ slices, axis=0)).mean())


def train(run: tallyboard.Run, *, generator_steps: int = 400, seed: int = 0) -> tuple[float, float]:
    """Train one pair, report to `run`, and return the images' distance from real ones (before, after) training."""
    rng = np.random.default_rng(seed)
    real = load_digits().data / 16.0
    gan = Wgan(run, rng)
    d_step, g_step = gan.d_step, gan.g_step
    d_steps = D_STEPS.bind(g_step)
    gan.averaged.apply(gan.generator)  # it starts as the weights do
    before = gan.distance(real)
    for _ in range(generator_steps):
        for _ in range(int(d_steps.value)):
            loss = gan.critic_step(real[rng.integers(len(real), size=BATCH_SIZE)])
            run.log({"D/loss": loss}, counter=d_step.name, at={g_step.name: g_step.value})
        figures = {"G/loss": gan.generator_step(BATCH_SIZE)}
        if g_step.every(EVALUATE_EVERY):
            figures["G/distance"] = gan.distance(real)
        run.log(figures, counter=g_step.name, at={d_step.name: d_step.value})
    after = gan.distance(real)
    run.summary["G/distance"] = after
    return before, after


def main() -> None:
    """Train one pair."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--generator-steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = tallyboard.init("wgan", project="digits", config={"noise": NOISE, "batch_size": BATCH_SIZE, "clip": CLIP})
    before, after = train(run, generator_steps=arguments.generator_steps, seed=arguments.seed)
    run.finish()
    print(f"{run.name}: sliced Wasserstein distance {before:.3f} → {after:.3f}")


if __name__ == "__main__":
    main()

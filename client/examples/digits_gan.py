"""Train a generative adversarial network on scikit-learn's handwritten digits: two networks, two counters.

The discriminator takes several steps for each of the generator's, so no single step could count for both:
its figures count on `D_global_step`, the generator's on `G_global_step`.

    tallyboard serve                      # in one terminal
    python digits_gan.py                  # in another
"""

import argparse

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits

import tallyboard

Floats = npt.NDArray[np.float64]

PIXELS = 64
NOISE = 16
HIDDEN = 64
BATCH_SIZE = 64
D_STEPS_PER_G_STEP = 3
EVALUATE_EVERY = 20
"""Generator steps between two measurements of the images' quality."""


class Network:
    """One hidden layer of leaky rectified units, trained by Adam (Kingma & Ba, 2014)."""

    SLOPE = 0.2

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator, learning_rate: float = 1e-3) -> None:
        self.parameters: list[Floats] = [
            rng.normal(0.0, np.sqrt(2 / inputs), (inputs, HIDDEN)),
            np.zeros(HIDDEN),
            rng.normal(0.0, np.sqrt(1 / HIDDEN), (HIDDEN, outputs)),
            np.zeros(outputs),
        ]
        self.learning_rate = learning_rate
        self._first_moments = [np.zeros_like(p) for p in self.parameters]
        self._second_moments = [np.zeros_like(p) for p in self.parameters]
        self._steps = 0

    def forward(self, inputs: Floats) -> tuple[Floats, Floats]:
        """(hidden activations, outputs before any squashing) of a batch of rows."""
        w1, b1, w2, b2 = self.parameters
        before = inputs @ w1 + b1
        hidden = np.where(before > 0, before, self.SLOPE * before)
        return hidden, hidden @ w2 + b2

    def gradients(self, inputs: Floats, hidden: Floats, grad_outputs: Floats) -> tuple[list[Floats], Floats]:
        """(gradients of the parameters, gradient of the inputs), given that of the outputs."""
        w1, _, w2, _ = self.parameters
        grad_hidden = (grad_outputs @ w2.T) * np.where(hidden > 0, 1.0, self.SLOPE)
        parameters = [
            inputs.T @ grad_hidden,
            grad_hidden.sum(0),
            hidden.T @ grad_outputs,
            grad_outputs.sum(0),
        ]
        return parameters, grad_hidden @ w1.T

    def descend(self, gradients: list[Floats]) -> None:
        """One step of Adam; β₁ = 0.5, as is usual for adversarial training."""
        self._steps += 1
        scale = self.learning_rate * np.sqrt(1 - 0.999**self._steps) / (1 - 0.5**self._steps)
        for parameter, gradient, first, second in zip(
            self.parameters, gradients, self._first_moments, self._second_moments, strict=True
        ):
            first += 0.5 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            parameter -= scale * first / (np.sqrt(second) + 1e-8)


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + e^-x), without overflow for any x."""
    result: Floats = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def cross_entropy(logits: Floats, target: float) -> float:
    """Mean binary cross-entropy in nats of logits against one target, 0 or 1."""
    return float((np.logaddexp(0.0, logits) - target * logits).mean())


def frechet_distance(real: Floats, generated: Floats) -> float:
    """Fréchet distance between Gaussians fitted to two sets of images: 0 if mean and covariance agree.

    The FID of Heusel et al. (2017) without its Inception network: 64 pixels are their own features.
    """
    mean_term = float(((real.mean(0) - generated.mean(0)) ** 2).sum())
    cov_real, cov_generated = np.cov(real, rowvar=False), np.cov(generated, rowvar=False)
    root_trace = np.sqrt(np.maximum(np.linalg.eigvals(cov_real @ cov_generated).real, 0.0)).sum()
    return mean_term + float(np.trace(cov_real) + np.trace(cov_generated) - 2.0 * root_trace)


class Gan:
    """A generator (noise → pixels in 0…1) and a discriminator (pixels → how real, as a logit)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.generator = Network(NOISE, PIXELS, rng)
        self.discriminator = Network(PIXELS, 1, rng)

    def generate(self, n: int) -> Floats:
        """n images as rows of 64 pixels."""
        return sigmoid(self.generator.forward(self.rng.normal(size=(n, NOISE)))[1])

    def discriminator_step(self, real: Floats) -> dict[str, float]:
        """Teach the discriminator to tell a batch of real images from as many generated ones."""
        generated = self.generate(len(real))
        images = np.concatenate([real, generated])
        targets = np.concatenate([np.ones((len(real), 1)), np.zeros((len(real), 1))])
        hidden, logits = self.discriminator.forward(images)
        gradients, _ = self.discriminator.gradients(images, hidden, (sigmoid(logits) - targets) / len(images))
        self.discriminator.descend(gradients)
        on_real, on_generated = logits[: len(real)], logits[len(real) :]
        return {
            "D/loss": (cross_entropy(on_real, 1.0) + cross_entropy(on_generated, 0.0)) / 2,
            "D/accuracy": float(((on_real > 0).mean() + (on_generated <= 0).mean()) / 2),
        }

    def generator_step(self, n: int) -> dict[str, float]:
        """Teach the generator to pass n images off as real."""
        noise = self.rng.normal(size=(n, NOISE))
        hidden, logits = self.generator.forward(noise)
        images = sigmoid(logits)
        d_hidden, d_logits = self.discriminator.forward(images)
        _, grad_images = self.discriminator.gradients(images, d_hidden, (sigmoid(d_logits) - 1.0) / n)
        gradients, _ = self.generator.gradients(noise, hidden, grad_images * images * (1.0 - images))
        self.generator.descend(gradients)
        return {"G/loss": cross_entropy(d_logits, 1.0)}


def train(run: tallyboard.Run, *, generator_steps: int = 600, seed: int = 0) -> tuple[float, float]:
    """Train one network pair, report to `run`, and return its Fréchet distance (before, after) training."""
    rng = np.random.default_rng(seed)
    real = load_digits().data / 16.0
    gan = Gan(rng)
    d_step = run.counter("D_global_step", total=generator_steps * D_STEPS_PER_G_STEP)
    g_step = run.counter("G_global_step", total=generator_steps)
    before = frechet_distance(real, gan.generate(len(real)))
    for _ in range(generator_steps):
        for _ in range(D_STEPS_PER_G_STEP):
            figures = gan.discriminator_step(real[rng.integers(len(real), size=BATCH_SIZE)])
            d_step.increment()
            d_step.log(figures)
        figures = gan.generator_step(BATCH_SIZE)
        g_step.increment()
        if g_step.every(EVALUATE_EVERY):
            figures["G/frechet_distance"] = frechet_distance(real, gan.generate(len(real)))
        g_step.log(figures)
    after = frechet_distance(real, gan.generate(len(real)))
    run.summary["G/frechet_distance"] = after
    return before, after


def main() -> None:
    """Train one network pair."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--generator-steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    run = tallyboard.init(
        "gan",
        project="digits",
        config={"noise": NOISE, "batch_size": BATCH_SIZE, "d_steps_per_g_step": D_STEPS_PER_G_STEP},
    )
    before, after = train(run, generator_steps=arguments.generator_steps, seed=arguments.seed)
    run.finish()
    print(f"{run.name}: Fréchet distance {before:.2f} → {after:.2f}")


if __name__ == "__main__":
    main()

"""Decays along a cosine, once or with warm restarts; formulas as in TensorFlow 1's `tf.train`."""

import math
from dataclasses import dataclass
from typing import ClassVar

from tallyboard.parameters import at_least, finite
from tallyboard.schedules.checks import period
from tallyboard.schedules.schedule import Schedule, power


def cosine_decay(initial: float, decay_steps: float, alpha: float = 0.0) -> Schedule:
    """Half a cosine from `initial` down to initial · alpha at decay_steps, where it stays (Loshchilov & Hutter, 2016).

    Raises ConfigurationError (a ValueError).
    """
    return _Cosine(finite("initial", initial), period("decay_steps", decay_steps), finite("alpha", alpha))


def cosine_decay_restarts(
    initial: float, first_decay_steps: float, t_mul: float = 2.0, m_mul: float = 1.0, alpha: float = 0.0
) -> Schedule:
    """Half a cosine over first_decay_steps, then again over t_mul times as many from m_mul times the height, ….

    A step at which a period begins has that period's first value. t_mul: 1 or more. m_mul: 0 or more. From Loshchilov
    & Hutter (2016), “SGDR”. Raises ConfigurationError (a ValueError).
    """
    return _CosineRestarts(
        finite("initial", initial),
        period("first_decay_steps", first_decay_steps),
        at_least(1.0, "t_mul", t_mul),
        at_least(0.0, "m_mul", m_mul),
        finite("alpha", alpha),
    )


def linear_cosine_decay(
    initial: float, decay_steps: float, num_periods: float = 0.5, alpha: float = 0.0, beta: float = 0.001
) -> Schedule:
    """initial · ((alpha + 1 - s) · (1 + cos(2π · num_periods · s)) / 2 + beta), s = step / decay_steps, at most 1.

    From Bello et al. (2017), “Neural Optimizer Search”. Raises ConfigurationError (a ValueError).
    """
    return _LinearCosine(
        finite("initial", initial),
        period("decay_steps", decay_steps),
        finite("num_periods", num_periods),
        finite("alpha", alpha),
        finite("beta", beta),
    )


@dataclass(slots=True, frozen=True, repr=False)
class _Cosine(Schedule):
    kind: ClassVar[str] = "cosine_decay"
    initial: float
    decay_steps: float
    alpha: float

    def at(self, step: int) -> float:
        share = step / self.decay_steps if step < self.decay_steps else 1.0
        return self.initial * ((1.0 - self.alpha) * 0.5 * (1.0 + math.cos(math.pi * share)) + self.alpha)


@dataclass(slots=True, frozen=True, repr=False)
class _CosineRestarts(Schedule):
    kind: ClassVar[str] = "cosine_decay_restarts"
    initial: float
    first_decay_steps: float
    t_mul: float
    m_mul: float
    alpha: float

    def at(self, step: int) -> float:
        restarts, share = self._place(step / self.first_decay_steps)
        height = 0.5 * power(self.m_mul, restarts) * (1.0 + math.cos(math.pi * share))
        return self.initial * ((1.0 - self.alpha) * height + self.alpha)

    def _place(self, done: float) -> tuple[int, float]:
        """(restarts so far, share of the period that is over), given how many first periods are done."""
        if self.t_mul == 1.0:
            restarts = math.floor(done)
            return restarts, done - restarts
        restarts = math.floor(math.log(1.0 + done * (self.t_mul - 1.0)) / math.log(self.t_mul))
        share = self._share(done, restarts)
        if share < 0.0:  # the logarithm was rounded up to a period that has not begun
            restarts -= 1
            share = self._share(done, restarts)
        elif share >= 1.0:
            restarts += 1
            share = self._share(done, restarts)
        return restarts, share

    def _share(self, done: float, restarts: int) -> float:
        length = power(self.t_mul, restarts)
        begin = (length - 1.0) / (self.t_mul - 1.0)  # 1 + t_mul + … + t_mul ^ (restarts - 1)
        return (done - begin) / length


@dataclass(slots=True, frozen=True, repr=False)
class _LinearCosine(Schedule):
    kind: ClassVar[str] = "linear_cosine_decay"
    initial: float
    decay_steps: float
    num_periods: float
    alpha: float
    beta: float

    def at(self, step: int) -> float:
        share = step / self.decay_steps if step < self.decay_steps else 1.0
        cosine = 0.5 * (1.0 + math.cos(2.0 * math.pi * self.num_periods * share))
        return self.initial * ((self.alpha + 1.0 - share) * cosine + self.beta)

"""Schedules: pure functions of a step, by TensorFlow 1's names and formulas, and what binds one to a counter.

learning_rate = exponential_decay(0.1, 1000, 0.96).bind(global_step, log=True)
global_step.increment()
train_on(batch, learning_rate.value)
"""

from tallyboard.schedules.bound import Bound
from tallyboard.schedules.cosines import cosine_decay, cosine_decay_restarts, linear_cosine_decay
from tallyboard.schedules.decays import (
    exponential_decay,
    inverse_time_decay,
    natural_exp_decay,
    piecewise_constant,
    polynomial_decay,
)
from tallyboard.schedules.schedule import Schedule

__all__ = [
    "Bound",
    "Schedule",
    "cosine_decay",
    "cosine_decay_restarts",
    "exponential_decay",
    "inverse_time_decay",
    "linear_cosine_decay",
    "natural_exp_decay",
    "piecewise_constant",
    "polynomial_decay",
]

"""Makes this folder's JSON file: `python make.py` in an environment that has TensorFlow.

Every case is a function of tf.compat.v1.train with arguments, evaluated eagerly at some steps; and moving averages as
tf.compat.v1.train.ExponentialMovingAverage keeps them in a session. Arithmetic is float64 where TensorFlow can do it
(its cosines are float32 whatever they are given); values are written so that they read back exactly.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

STEPS = (0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 14, 15, 16, 19, 20, 21, 29, 30, 31, 50, 69, 70, 71, 100, 1_000, 123_456)
CASES: dict[str, list[dict[str, Any]]] = {
    "exponential_decay": [
        {"initial": 0.1, "decay_steps": 10, "decay_rate": 2.0},
        {"initial": 0.1, "decay_steps": 7, "decay_rate": 0.96},
        {"initial": 0.1, "decay_steps": 7, "decay_rate": 0.96, "staircase": True},
        {"initial": 3.0, "decay_steps": 1000, "decay_rate": 0.0},
    ],
    "piecewise_constant": [
        {"boundaries": [5, 10, 15], "values": [0.1, 0.05, 0.01, 0.001]},
        {"boundaries": [0, 70], "values": [1.0, -2.0, 0.0]},
        {"boundaries": [20], "values": [0.5, 0.25]},
    ],
    "polynomial_decay": [
        {"initial": 0.1, "decay_steps": 10},
        {"initial": 0.1, "decay_steps": 10, "end_learning_rate": 0.01, "power": 0.5},
        {"initial": 0.1, "decay_steps": 10, "end_learning_rate": 0.01, "power": 2.0, "cycle": True},
        {"initial": 0.1, "decay_steps": 7, "cycle": True},
        {"initial": 0.01, "decay_steps": 70, "end_learning_rate": 0.1, "power": 0.0},
    ],
    "natural_exp_decay": [
        {"initial": 0.1, "decay_steps": 10, "decay_rate": 0.5},
        {"initial": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
        {"initial": 0.1, "decay_steps": 1000, "decay_rate": -0.25},
    ],
    "inverse_time_decay": [
        {"initial": 0.1, "decay_steps": 10, "decay_rate": 0.5},
        {"initial": 0.1, "decay_steps": 7, "decay_rate": 2.5, "staircase": True},
    ],
    "cosine_decay": [
        {"initial": 0.1, "decay_steps": 10},
        {"initial": 0.1, "decay_steps": 70, "alpha": 0.25},
    ],
    "cosine_decay_restarts": [
        {"initial": 0.1, "first_decay_steps": 10},
        {"initial": 0.1, "first_decay_steps": 10, "t_mul": 1.0, "m_mul": 0.5},
        {"initial": 0.1, "first_decay_steps": 7, "t_mul": 1.5, "m_mul": 0.9, "alpha": 0.125},
        {"initial": 0.1, "first_decay_steps": 5, "t_mul": 3.0, "m_mul": 2.0},
    ],
    "linear_cosine_decay": [
        {"initial": 0.1, "decay_steps": 10},
        {"initial": 0.1, "decay_steps": 70, "num_periods": 3.0, "alpha": 0.125, "beta": 0.25},
    ],
}
FLOAT32 = ("cosine_decay", "cosine_decay_restarts", "linear_cosine_decay")


def schedule_cases() -> list[dict[str, Any]]:
    """Each case with the values that TensorFlow has at STEPS."""
    cases = []
    for name, calls in CASES.items():
        dtype = tf.float32 if name in FLOAT32 else tf.float64
        for call in calls:
            values = [evaluate(name, call, step, dtype) for step in STEPS]
            cases.append({"name": name, "arguments": call, "dtype": dtype.name, "steps": STEPS, "values": values})
    return cases


def evaluate(name: str, call: dict[str, Any], step: int, dtype: Any) -> float:
    """The value of one call at one step."""
    function = getattr(tf.compat.v1.train, name)
    at = tf.constant(step, tf.int64)
    if name == "piecewise_constant":
        found = function(at, call["boundaries"], [tf.constant(value, dtype) for value in call["values"]])
    else:
        fixed = {key: tf.constant(value, dtype) if isinstance(value, float) else value for key, value in call.items()}
        found = function(fixed.pop("initial"), at, **fixed)
    return float((found() if callable(found) else found).numpy())


def average_cases() -> list[dict[str, Any]]:
    """Moving averages of a variable, and zero-debiased ones of a tensor, over the same values."""
    values = np.random.default_rng(0).normal(size=(20, 3))
    return [
        {"of": of, "decay": decay, "num_updates": counted, "values": values.tolist(), "averages": found.tolist()}
        for of, decay, counted in (
            ("variable", 0.75, False),
            ("variable", 0.99, True),
            ("variable", 0.25, True),
            ("tensor", 0.75, False),
            ("tensor", 0.99, False),
        )
        for found in (averages(of, decay, values, counted),)
    ]


def averages(of: str, decay: float, values: Any, counted: bool) -> Any:
    """The average after each value. A variable starts as values[0]; num_updates is 1 at the first update."""
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        fed = v1.placeholder(tf.float64, (3,))
        step = v1.get_variable("step", (), tf.float32, v1.zeros_initializer(), use_resource=False)
        variable = v1.get_variable("variable", initializer=tf.constant(values[0]), use_resource=False)
        given = variable if of == "variable" else tf.identity(fed, "given")
        average = v1.train.ExponentialMovingAverage(
            tf.constant(decay, tf.float32), step if counted else None, zero_debias=of == "tensor"
        )
        update = average.apply([given])
        shadow = average.average(given)
        move, assign = step.assign_add(1), variable.assign(fed)
        found = []
        with v1.Session() as session:
            session.run([step.initializer, variable.initializer])  # first: the shadow is initialised from it
            session.run(v1.global_variables_initializer())
            for value in values:
                session.run([move, assign], {fed: value})
                session.run(update, {fed: value})
                found.append(session.run(shadow))
    return np.array(found)


def main() -> None:
    """Write tensorflow-<version>.json beside this file."""
    target = Path(__file__).parent / f"tensorflow-{tf.__version__}.json"
    document = {"schedules": schedule_cases(), "averages": average_cases()}
    target.write_text(json.dumps(document).replace('{"name"', '\n{"name"').replace('{"of"', '\n{"of"') + "\n")
    print(f"{target.name}: {len(document['schedules'])} schedules", file=sys.stderr)


if __name__ == "__main__":
    main()

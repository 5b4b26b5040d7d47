"""The thousand-run demo's curves: formulas that look like trainings, by a trial's settings, with noise of its own."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tallyboard.wire import Batch, Columns, CounterSpec, Float64, Int64, Open, Rewind, Status
from tallyboard_server.cli.demo.sweeps import Task, Trial, steps_done

STEP: Final = "global_step"
EPOCH: Final = "epoch"
_THIRD: Final[dict[Task, tuple[str, int]]] = {"language": ("tokens", 65_536), "control": ("env_steps", 2_048)}
"""The third counter of a task, and how far one global step moves it."""
STEPS_AN_EPOCH: Final = 50
_SECONDS_A_STEP: Final = 2.0
_BEST_LR: Final[dict[Task, float]] = {"vision": 3e-3, "language": 1e-3, "control": 3e-4}
_FLOOR: Final[dict[Task, float]] = {"vision": 0.25, "language": 2.1, "control": 0.1}
_START: Final[dict[Task, float]] = {"vision": 2.3, "language": 9.0, "control": 1.5}
_SPREAD_S: Final = 3 * 86_400.0
"""Trials that have ended began within so long before the demo."""


@dataclass(slots=True, frozen=True)
class Curves:
    """A trial's points from the first step to the last, whatever becomes of it. columns: by counter."""

    trial: Trial
    columns: tuple[Columns, ...]

    def between(self, first: int, last: int) -> tuple[Columns, ...]:
        """The points of global steps first ≤ step ≤ last; of the other counters those that fall to them."""
        found = []
        for columns in self.columns:
            at = columns.steps if columns.counter == STEP else columns.at[STEP]
            begin, end = np.searchsorted(at, [first, last + 1]).tolist()
            if begin < end:
                found.append(_part(columns, slice(begin, end)))
        return tuple(found)


def curves(trial: Trial, seed: int, now: float) -> Curves:
    """The curves of a trial that was begun before `now` (seconds since the epoch)."""
    noise = np.random.default_rng([seed, trial.number])
    steps = np.arange(1, trial.total + 1)
    wall_times = _wall_times(trial, noise, steps, now)
    loss = _loss(trial, noise, steps)
    epochs = np.arange(STEPS_AN_EPOCH, trial.total + 1, STEPS_AN_EPOCH)
    found = [_training(trial, noise, steps, wall_times, loss), _validation(noise, epochs, wall_times, loss)]
    if trial.task in _THIRD:
        found.append(_third(trial, noise, np.arange(10, trial.total + 1, 10), wall_times, loss))
    return Curves(trial, tuple(found))


def batches(found: Curves) -> Iterator[Batch]:
    """What the trial's processes sent up to where it is when the demo begins, in order."""
    trial = found.trial
    end, half = trial.total, steps_done(trial)
    first = _opened(trial, 1)
    match trial.course:
        case "finished" | "diverged":
            yield replace(first, columns=found.between(1, end), status="finished", summary=_summary(found))
        case "failed":
            yield replace(first, columns=found.between(1, half), status="failed")
        case "lost" | "running":
            yield replace(first, columns=found.between(1, half))
        case "preempted":
            back = half - half % STEPS_AN_EPOCH - STEPS_AN_EPOCH // 2
            yield replace(first, columns=found.between(1, half))
            rest = replace(_opened(trial, 2), columns=found.between(back, end), rewind=_rewind(trial, back))
            yield replace(rest, status="finished", summary=_summary(found))
    if trial.refused:
        late = tuple(replace(columns, values=columns.values + 1.0) for columns in found.between(10, 12))
        yield Batch(producer=_producer(1), seq=2, partial=True, columns=late)


def going_on(found: Curves, step: int, wall_time: float) -> Batch:
    """What a trial that is running sends of one more global step."""
    columns = tuple(replace(c, wall_times=np.full(len(c), wall_time)) for c in found.between(step, step))
    status: Status | None = "finished" if step == found.trial.total else None
    seq = 1 + found.trial.refused + step - steps_done(found.trial)
    return Batch(producer=_producer(1), seq=seq, columns=columns, status=status)


def rank_batch(found: Curves, rank: int) -> Batch:
    """What one process of a trial reports to its own run: how long its steps took."""
    noise = np.random.default_rng([found.trial.number, rank])
    training = found.columns[0]
    seconds = _SECONDS_A_STEP * (1 + 0.02 * rank + 0.05 * np.abs(noise.standard_normal(len(training))))
    values = np.column_stack([seconds, training.values[:, 0]])
    columns = Columns(STEP, ("step_s", "train/loss"), training.steps, training.wall_times, values)
    return replace(_opened(found.trial, 1, rank=rank), columns=(columns,), status="finished")


def _opened(trial: Trial, job: int, *, rank: int | None = None) -> Batch:
    """The beginning of a job's first batch."""
    counters = {STEP: CounterSpec(total=trial.total), EPOCH: CounterSpec(total=trial.total // STEPS_AN_EPOCH)}
    if trial.task in _THIRD:
        name, a_step = _THIRD[trial.task]
        counters[name] = CounterSpec(total=trial.total * a_step)
    host = f"gpu-{(trial.number * 7 + job + (rank or 0) // 4) % 24:02}"
    opening = Open(
        config=dict(trial.config) if rank is None else {**trial.config, "rank": rank},
        group=trial.group,
        tags=("sweep", "spot") if trial.course == "preempted" else ("sweep",),
        counters=counters if rank is None else {STEP: counters[STEP]},
        provenance={"user": trial.user, "host": host, "pid": 4_000 + trial.number},
    )
    return Batch(producer=_producer(job), seq=1, open=opening)


def _producer(job: int) -> str:
    return f"job-{job}"


def _rewind(trial: Trial, step: int) -> Rewind:
    """Back to before a global step, on every counter."""
    next_steps = {STEP: step, EPOCH: (step - 1) // STEPS_AN_EPOCH + 1}
    if trial.task in _THIRD:
        name, a_step = _THIRD[trial.task]
        next_steps[name] = (step - 1) * a_step + 1
    return Rewind(next_steps=next_steps, reason="preempted", id="restart-1")


def _summary(found: Curves) -> dict[str, float]:
    """Best validation accuracy, if there is one; JSON has no NaN."""
    best = float(np.nanmax(found.columns[1].values[:, 1], initial=0.0))
    return {"best_val_acc": round(best, 5)}


def _wall_times(trial: Trial, noise: np.random.Generator, steps: Int64, now: float) -> Float64:
    took = np.cumsum(_SECONDS_A_STEP * noise.uniform(0.9, 1.2, len(steps)))
    if trial.course in ("running", "lost"):
        return np.asarray(now - took[steps_done(trial) - 1] + took, np.float64)
    return np.asarray(now - took[-1] - noise.uniform(60.0, _SPREAD_S) + took, np.float64)


def _loss(trial: Trial, noise: np.random.Generator, steps: Int64) -> Float64:
    """A power law down to a floor that the settings decide, then noise that shrinks with the batch and with time."""
    config = trial.config
    off = abs(math.log10(config["lr"] / _BEST_LR[trial.task]))
    depth, batch = config["model"]["depth"], config["batch_size"]
    floor = _FLOOR[trial.task] * (1 + 0.35 * off**2 + 0.4 / math.log2(2 + depth)) * float(noise.uniform(0.97, 1.03))
    speed = 40.0 * (1 + off) * (1.3 if config["optimizer"] in ("sgd", "adam") else 1.0)
    clean = floor + (_START[trial.task] - floor) * (1 + steps / speed) ** -0.9
    rough = 0.03 + 0.1 * np.exp(-steps / 200.0)
    loss = clean * (1 + rough * (64 / batch) ** 0.25 * noise.standard_normal(len(steps)))
    if trial.course == "diverged":
        return _diverging(loss, noise)
    for spike in noise.integers(50, len(steps), 1 if off > 0.9 else 0):
        loss[spike : spike + 6] *= np.array([3.0, 2.5, 2.0, 1.6, 1.3, 1.1])[: len(steps) - spike]
    return np.asarray(np.maximum(loss, 1e-3), np.float64)


def _diverging(loss: Float64, noise: np.random.Generator) -> Float64:
    """Up without end from some step on: to infinity, and then no number."""
    begin = int(noise.integers(len(loss) // 4, len(loss) // 2))
    with np.errstate(over="ignore"):
        loss[begin:] *= np.exp(np.minimum(np.arange(len(loss) - begin) ** 1.5 * 0.3, 800.0))
    loss[begin + 180 :] = np.nan
    return loss


def _training(trial: Trial, noise: np.random.Generator, steps: Int64, wall_times: Float64, loss: Float64) -> Columns:
    warm = np.minimum(1.0, steps / 50.0)
    lr = trial.config["lr"] * warm * 0.5 * (1 + np.cos(np.pi * steps / trial.total))
    norm = np.where(np.isfinite(loss), (0.5 + np.minimum(loss, 1e6)) * noise.lognormal(0.0, 0.25, len(steps)), np.nan)
    return Columns(STEP, ("train/loss", "train/acc", "train/grad_norm", "lr"), steps, wall_times,
                   np.column_stack([loss, _accuracy(loss), norm, lr]))  # fmt: skip


def _validation(noise: np.random.Generator, at: Int64, wall_times: Float64, loss: Float64) -> Columns:
    smooth = np.array([loss[max(0, step - STEPS_AN_EPOCH) : step].mean() for step in at.tolist()])
    late = 1.05 + 0.1 * np.arange(len(at)) / len(at)  # training goes on to fit what validation does not have
    val_loss = smooth * late * (1 + 0.01 * noise.standard_normal(len(at)))
    return Columns(EPOCH, ("val/loss", "val/acc"), at // STEPS_AN_EPOCH, wall_times[at - 1],
                   np.column_stack([val_loss, _accuracy(val_loss)]), {STEP: at})  # fmt: skip


def _third(trial: Trial, noise: np.random.Generator, at: Int64, wall_times: Float64, loss: Float64) -> Columns:
    counter, a_step = _THIRD[trial.task]
    here = loss[at - 1]
    speed = a_step / _SECONDS_A_STEP * noise.uniform(0.85, 1.0, len(at))
    if trial.task == "language":
        tags, values = ("perplexity", "tokens_per_s"), np.exp(np.minimum(here, 60.0))
    else:
        tags, values = ("episode/return", "env_steps_per_s"), 500.0 * _accuracy(here)
    return Columns(counter, tags, at * a_step, wall_times[at - 1], np.column_stack([values, speed]), {STEP: at})


def _accuracy(loss: Float64) -> Float64:
    """What share is right at a loss; it is bounded, whatever the loss."""
    with np.errstate(over="ignore"):
        return np.asarray(np.where(np.isnan(loss), 0.1, 0.1 + 0.9 * np.exp(-np.maximum(loss, 0.0))), np.float64)


def _part(columns: Columns, rows: slice) -> Columns:
    return replace(
        columns,
        steps=columns.steps[rows],
        wall_times=columns.wall_times[rows],
        values=columns.values[rows],
        at={name: column[rows] for name, column in columns.at.items()},
    )

"""The thousand-run demo's trials: what each is called, how it is set up, how it goes. The same for the same seed."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any, Final, Literal

Course = Literal["finished", "diverged", "failed", "preempted", "lost", "running"]
"""How a trial goes: to the end; to NaN; to an error halfway; preempted and carried on from a checkpoint, to the end;
silent halfway; still running."""
Task = Literal["vision", "language", "control"]

RANKS: Final = 8
_RANKED_EVERY: Final = 300
"""One trial in so many is trained by several processes, each of which reports a run of its own, too."""
_REFUSED_EVERY: Final = 40
"""In one trial in so many a forgotten process reports steps that the counter has passed."""
RUNNING_MAX: Final = 12

_RARE: Final[Mapping[Course, int]] = {"diverged": 25, "failed": 30, "preempted": 20, "lost": 60}
"""One trial in so many."""
_PLAIN: Final[list[Course]] = ["finished"]
_TOTALS: Final = (600, 800, 1_000)
_LEARNING_RATES: Final = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
_SEEDS: Final = (0, 1, 2)
_GRIDS: Final[Mapping[Task, Mapping[str, tuple[Any, ...]]]] = {
    "vision": {"optimizer": ("adamw", "sgd", "lion"), "batch_size": (64, 256), "depth": (18, 34, 50)},
    "language": {"optimizer": ("adamw", "muon"), "batch_size": (32, 128), "depth": (6, 12, 24)},
    "control": {"optimizer": ("adam",), "batch_size": (256, 1024), "depth": (2, 3), "gamma": (0.97, 0.99, 0.995)},
}
_MODELS: Final[Mapping[Task, str]] = {"vision": "resnet", "language": "gpt", "control": "ppo"}
_USERS: Final = ("ada", "grace", "katherine")


@dataclass(slots=True, frozen=True)
class Trial:
    """One run. total: steps of global_step that it is to take. ranks: runs of its processes, by their names.

    refused: whether a forgotten process reports, too.
    """

    name: str
    task: Task
    number: int
    group: str
    config: Mapping[str, Any]
    course: Course
    total: int
    user: str
    ranks: tuple[str, ...] = field(default=())
    refused: bool = False

    @property
    def runs(self) -> int:
        """How many runs it makes."""
        return 1 + len(self.ranks)


def trials(runs: int, seed: int) -> Iterator[Trial]:
    """Trials that make so many runs in all, in an order that mixes the tasks."""
    dice = random.Random(seed)
    courses = _courses(runs, dice)
    left = runs
    for number, (task, config) in enumerate(islice(_configs(), runs)):
        if left <= 0:
            return
        ranked = number % _RANKED_EVERY == _RANKED_EVERY // 2 and left > RANKS
        trial = _trial(number, task, config, courses[number], dice, ranked=ranked)
        left -= trial.runs
        yield trial


def steps_done(trial: Trial) -> int:
    """Up to which global step a trial has come that ends early, or is still running."""
    return trial.total * 3 // 5


def steps_left(trial: Trial) -> Iterator[int]:
    """The global steps that a running trial still has before it."""
    return iter(range(steps_done(trial) + 1, trial.total + 1))


def _trial(
    number: int, task: Task, config: Mapping[str, Any], course: Course, dice: random.Random, *, ranked: bool
) -> Trial:
    model = f"{_MODELS[task]}{config['model']['depth']}"
    name = f"{task}/{model}-{config['optimizer']}-lr{config['lr']:g}-b{config['batch_size']}"
    name += f"-g{config['gamma']:g}" if "gamma" in config else ""
    name += f"-s{config['seed']}" + (f"-r{config['repeat']}" if config["repeat"] else "")
    return Trial(
        name=name,
        task=task,
        number=number,
        group=model,
        config=config,
        course=course,
        total=dice.choice(_TOTALS),
        user=dice.choice(_USERS),
        ranks=tuple(f"{name}/rank{rank:02}" for rank in range(RANKS)) if ranked else (),
        refused=number % _REFUSED_EVERY == 7,
    )


def _configs() -> Iterator[tuple[Task, Mapping[str, Any]]]:
    """Settings without end, of the tasks in turn: when a task's grid is through, its trials are repeated."""
    grids: dict[Task, Iterator[Mapping[str, Any]]] = {task: _grid(task) for task in _GRIDS}
    while True:
        for task, grid in grids.items():
            yield task, next(grid)


def _grid(task: Task) -> Iterator[Mapping[str, Any]]:
    axes = _GRIDS[task]
    repeat = 0
    while True:
        for lr, seed, *values in product(_LEARNING_RATES, _SEEDS, *axes.values()):
            chosen = dict(zip(axes, values, strict=True))
            model = {"name": _MODELS[task], "depth": chosen.pop("depth")}
            yield {"lr": lr, "seed": seed, "repeat": repeat, **chosen, "model": model, "amp": seed != 2}
        repeat += 1


def _courses(runs: int, dice: random.Random) -> list[Course]:
    """One for each run: a few of each kind that is not plain, and the rest finished."""
    rare: list[Course] = ["running"] * min(RUNNING_MAX, max(1, runs // 80))
    for course, share in _RARE.items():
        rare += [course] * max(1, runs // share)
    found = [*rare, *_PLAIN * runs][:runs]
    dice.shuffle(found)
    return found

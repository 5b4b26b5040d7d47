"""A training job as a cluster runs it: resumes from its checkpoint if there is one, and reports as it goes.

It reports to Tallyboard, and beside that with plain tensorboardX into a directory. `python -m …demo.job` with the
arguments of `Job`.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any, Final

import numpy as np
from tensorboardX import SummaryWriter

import tallyboard
from tallyboard_server.cli.demo.trainings import load_example

RUN: Final = "digits/preempted"
COUNTER: Final = "global_step"
LOSS: Final = "train/loss"
ACCURACY: Final = "val/accuracy"
EPOCH_STEPS: Final = 20
LEARNING_RATE: Final = 0.05
_HIDDEN: Final = 16
_FLUSH_TIMEOUT_S: Final = 30.0
_POLL_S: Final = 0.05


@dataclass(slots=True, frozen=True)
class Job:
    """number: 1, 2, … of the jobs that carry the training on. steps: where it ends. pause_s: wait after each step.

    checkpoint_every: steps.
    """

    number: int
    url: str
    folder: Path
    steps: int
    checkpoint_every: int
    pause_s: float

    @property
    def arguments(self) -> list[str]:
        """The job as a command line."""
        return [
            str(self.number), self.url, str(self.folder), str(self.steps), str(self.checkpoint_every),
            str(self.pause_s),
        ]  # fmt: skip

    @property
    def points(self) -> Path:
        """What the job wrote down of what it reported: a JSON list [step, loss] a line."""
        return self.folder / f"job-{self.number}.points"

    @property
    def cue(self) -> Path:
        """How far the job may train by now: a step."""
        return self.folder / f"job-{self.number}.cue"

    @property
    def log(self) -> Path:
        """What the job says."""
        return self.folder / f"job-{self.number}.log"


def plain_logdir(folder: Path) -> Path:
    """Where tensorboardX writes."""
    return folder / "tensorboardx"


def reported(job: Job) -> dict[int, float]:
    """The loss at each step that a job has reported so far; a line that was torn by a kill is left out."""
    if not job.points.exists():
        return {}
    lines = job.points.read_text().splitlines(keepends=True)
    return dict(json.loads(line) for line in lines if line.endswith("\n"))


def checkpointed(folder: Path) -> int:
    """The step that the next job goes on after; 0 if there is no checkpoint."""
    path = _checkpoint_path(folder)
    if not path.exists():
        return 0
    with np.load(path) as saved:
        return int(_rest(saved)["counters"][COUNTER]["value"])


def replace(path: Path, data: bytes) -> None:
    """Write a file so that whoever reads it finds all of it, or what was there before."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(path)


class Checkpoint:
    """The file that the training goes on from; it belongs to the newest job that has claimed it."""

    def __init__(self, folder: Path, number: int) -> None:
        self._path = _checkpoint_path(folder)
        self._owner = folder / "owner"
        self._number = number
        replace(self._owner, str(number).encode())

    def load(self, model: Any) -> dict[str, Any] | None:
        """Put the model where the checkpoint has it; what else was saved, None if there is none."""
        if not self._path.exists():
            return None
        with np.load(self._path) as saved:
            for name in ("w1", "b1", "w2", "b2"):
                setattr(model, name, saved[name])
            return _rest(saved)

    def save(self, model: Any, rest: dict[str, Any]) -> None:
        """Save, unless a newer job has taken over."""
        if self._owner.read_text() != str(self._number):
            return
        unfinished = self._path.with_suffix(".tmp.npz")
        np.savez(unfinished, w1=model.w1, b1=model.b1, w2=model.w2, b2=model.b2, rest=json.dumps(rest))
        unfinished.replace(self._path)


def carry_out(job: Job) -> None:
    """Train from the checkpoint, or from scratch, to the last step."""
    example = load_example("digits_classifier")
    training, validation = example.load()
    rng = np.random.default_rng(job.number)
    model = example.Classifier(hidden=_HIDDEN, rng=np.random.default_rng(0))
    checkpoint = Checkpoint(job.folder, job.number)
    saved = checkpoint.load(model)
    run = tallyboard.init(RUN, url=job.url, resume="continue", counters={"val/*": "epoch"})
    global_step, epoch = run.counter(COUNTER, total=job.steps), run.counter("epoch")
    if saved is not None:
        run.load_state_dict(saved["counters"])
    writer = SummaryWriter(str(plain_logdir(job.folder) / RUN))
    with job.points.open("a") as points:
        while global_step.value < job.steps:
            while global_step.value >= int(job.cue.read_text()):
                time.sleep(_POLL_S)
            loss = _train(example, model, training, rng)
            _report(run, writer, points, {"step": global_step.increment(), "loss": loss})
            if global_step.value % EPOCH_STEPS == 0:
                accuracy = model.evaluate(validation)[1]
                writer.add_scalar(ACCURACY, accuracy, epoch.increment())
                run.log({ACCURACY: accuracy})
            if global_step.value % job.checkpoint_every == 0:
                writer.flush()
                if run.flush(_FLUSH_TIMEOUT_S, kept=True):  # a checkpoint vouches for what lies before it
                    checkpoint.save(model, {"counters": run.state_dict()})
            time.sleep(job.pause_s)
    writer.close()
    run.finish()


def _train(example: ModuleType, model: Any, training: Any, rng: np.random.Generator) -> float:
    rows = rng.choice(len(training.labels), 32, replace=False)
    loss, _ = model.train_step(example.Digits(training.images[rows], training.labels[rows]), LEARNING_RATE)
    return float(loss)


def _report(run: tallyboard.Run, writer: SummaryWriter, points: IO[str], point: dict[str, Any]) -> None:
    run.log({LOSS: point["loss"]})
    writer.add_scalar(LOSS, point["loss"], point["step"])
    points.write(json.dumps([point["step"], point["loss"]]) + "\n")
    points.flush()


def _checkpoint_path(folder: Path) -> Path:
    return folder / "checkpoint.npz"


def _rest(saved: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(saved["rest"]))
    return found


def main() -> None:
    """Carry out one job."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    for name, kind in (
        ("number", int),
        ("url", str),
        ("folder", Path),
        ("steps", int),
        ("every", int),
        ("pause", float),
    ):
        parser.add_argument(name, type=kind)
    given = parser.parse_args()
    carry_out(Job(given.number, given.url, given.folder, given.steps, given.every, given.pause))


if __name__ == "__main__":
    main()

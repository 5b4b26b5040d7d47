"""What the tests of transformers and Lightning share: jobs that are killed, and what a service holds of them."""

import os
import random
import signal
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import tallyboard
from tests import forked
from tests.cli_process import clean
from tests.service import RunningService

LIMIT_S = 120.0
ROOT = Path(__file__).parents[2]

Curve = list[tuple[int, float]]
"""(step, value) of each point."""


class Ended(NamedTuple):
    """How a life ended, and what it said on stderr."""

    returncode: int | None
    stderr: str


forked.preload(
    ("torch", "sklearn.datasets", "lightning", "lightning.pytorch.callbacks", "accelerate", "transformers.trainer")
)


def curves(service: RunningService, run: str) -> dict[str, Curve]:
    """Every visible curve of a run by its tag."""
    table = tallyboard.read(run, url=service.url)
    found: dict[str, Curve] = {}
    for tag, step, value in zip(table["tag"], table["step"], table["value"], strict=True):
        found.setdefault(str(tag), []).append((int(step), float(value)))
    return found


def stood(service: RunningService, run: str, tag: str, counter: str) -> list[int]:
    """Where a counter stood at each point of a tag."""
    return [int(x) for x in tallyboard.read(run, [tag], x=counter, url=service.url)["x"]]


def steps(found: Mapping[str, Curve]) -> dict[str, list[int]]:
    """Of each curve, without what it says."""
    return {tag: [step for step, _ in curve] for tag, curve in found.items()}


def values(found: Mapping[str, Curve]) -> Counter[tuple[str, float]]:
    """How often each tag has which value, wherever."""
    return Counter((tag, value) for tag, curve in found.items() for _, value in curve)


def live(script: str, service: RunningService, run: str, folder: Path, kill: str = "", **variables: str) -> None:
    """One life of a training script beside this module, killed at a moment (`hook:step`) or not."""
    done = _started(script, service, run, folder, {"KILL": kill} | variables)
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr
    assert kill or " 0 refused, 0 dropped" in done.stderr, done.stderr


def failing(script: str, service: RunningService, run: str, folder: Path, moment: str) -> str:
    """A life that ends by an exception at a moment; what that says."""
    done = _started(script, service, run, folder, {"FAIL": moment})
    assert done.returncode == 1, done.stderr
    assert f"RuntimeError: fails at {moment}" in done.stderr
    return f"fails at {moment}"


def _started(script: str, service: RunningService, run: str, folder: Path, variables: Mapping[str, str]) -> Ended:
    """A life of a script, forked from a process that has the frameworks, whose imports take longest of all."""
    ours = {"TALLYBOARD_URL": service.url, "TALLYBOARD_RUN": run, "FOLDER": str(folder)}
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said) / "out", Path(said) / "err"
        module = f"tests.frameworks.{script.removesuffix('.py')}"
        process = forked.start([module], out, clean(ours | dict(variables)), err=err, cwd=folder)
        process.join(LIMIT_S)
        process.kill()
        process.join()
        return Ended(process.exitcode, err.read_text())


def trained(
    script: str, service: RunningService, run: str, folder: Path, kills: Sequence[str] = (), **variables: str
) -> dict[str, Curve]:
    """The curves of a training that is killed at these moments, one in each of its lives, and resumed each time."""
    folder.mkdir(parents=True)
    for moment in (*kills, ""):
        live(script, service, run, folder, moment, **variables)
    return curves(service, run)


def moments(seed: int, hooks: Sequence[str], last_step: int, count: int = 3) -> list[str]:
    """Random moments of a training, one after the other."""
    rng = random.Random(seed)
    return [f"{rng.choice(hooks)}:{step}" for step in sorted(rng.sample(range(1, last_step), count))]


def die_at(hook: str, step: int) -> None:
    """In a job: be killed, or fail, if this is the moment."""
    moment = f"{hook}:{step}"
    if os.environ.get("KILL") == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("FAIL") == moment:
        raise RuntimeError(f"fails at {moment}")

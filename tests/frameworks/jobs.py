"""Trainings in processes of their own that are killed or not, and what a service holds of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import tallyboard
from tests.cli_process import clean
from tests.service import RunningService, until

LIMIT_S = 240.0
"""Frameworks are slow to import where several start at once on a busy machine."""
ROOT = Path(__file__).parents[2]
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("client", "server", "."))


Curve = list[tuple[int, float]]
"""(step, value) of each point."""


class Told(NamedTuple):
    """What a process printed."""

    out: str
    err: str


def environment(service: RunningService, run: str, variables: Mapping[str, str]) -> dict[str, str]:
    """What of the environment a job is told by its tests."""
    return {"TALLYBOARD_URL": service.url, "TALLYBOARD_RUN": run, "PYTHONPATH": PYTHONPATH, **variables}


def train(
    command: Sequence[str],
    service: RunningService,
    run: str,
    variables: Mapping[str, str],
    *,
    killed: bool = False,
    cwd: Path | None = None,
) -> Told:
    """One life of a training in Python; what it printed. Asserts that it was killed, or ended well, as was wanted."""
    with started(command, service, run, variables, cwd) as process:
        return end(process, killed=killed)


@contextmanager
def started(
    command: Sequence[str], service: RunningService, run: str, variables: Mapping[str, str], cwd: Path | None = None
) -> Iterator["subprocess.Popen[str]"]:
    """A training in Python on its way; killed when the block ends."""
    outside = clean({})
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=outside | environment(service, run, variables), cwd=cwd,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_S)


def end(process: "subprocess.Popen[str]", *, killed: bool = False) -> Told:
    """Wait for a training; what it printed. Asserts that it was killed, or ended well without losing a value."""
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == (-signal.SIGKILL if killed else 0), err
    assert killed or " 0 refused, 0 dropped" in err or "reports nothing" in err, err
    return Told(out, err)


def kill_at(step: int, service: RunningService, run: str, *processes: "subprocess.Popen[str]") -> None:
    """Kill the processes of a job once the service holds so many steps of it; asserts that they were still training."""
    path = f"/runs/{run}"

    def arrived() -> bool:
        counters = service.get(path).json().get("counters", {})
        return int(counters.get("global_step", {}).get("last_step") or 0) >= step or gone()

    def gone() -> bool:
        return any(process.poll() is not None for process in processes)

    assert until(arrived, LIMIT_S)
    for process in processes:
        process.kill()
    for process in processes:
        end(process, killed=True)


def curves(service: RunningService, run: str, *, superseded: bool = False) -> dict[str, Curve]:
    """Every visible curve of a run by its tag; or what was superseded of each."""
    table = tallyboard.read(run, url=service.url, attempts="all" if superseded else "visible")
    chosen = table["superseded"] if superseded else [True] * len(table["tag"])
    found: dict[str, Curve] = {}
    for tag, step, value, wanted in zip(table["tag"], table["step"], table["value"], chosen, strict=True):
        if wanted:
            found.setdefault(str(tag), []).append((int(step), float(value)))
    return found


def steps(curve: Curve) -> list[int]:
    """Its steps."""
    return [step for step, _ in curve]


def assert_uninterrupted(service: RunningService, run: str, whole: str, lasts: Mapping[str, int]) -> dict[str, Curve]:
    """The run holds each step of each tag once, 1 to its last, with the values of one that was never killed."""
    found = curves(service, run)
    assert {tag: steps(curve) for tag, curve in found.items()} == {
        tag: list(range(1, last + 1)) for tag, last in lasts.items()
    }
    assert found == curves(service, whole)
    return found

"""The runs that the SummaryWriters of this process report to: one for each logdir, however many writers it has.

Within a process, writers on one logdir are writers of one run, at the same time or one after the other, as they are for
TensorBoard.
"""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tallyboard import lifecycle
from tallyboard.run import Run

LEFT_MAX: Final = 10_000
"""Closed runs that are remembered; after that the oldest is forgotten, and would be begun anew."""


@dataclass(slots=True, frozen=True)
class Left:
    """A run as its last writer left it: its name, and where counters of single tags go on."""

    name: str
    next_steps: Mapping[str, int]


@dataclass(slots=True)
class _Process:
    """What this process has open, and had; a forked child begins with nothing."""

    pid: int = 0
    users: dict[str, int] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    left: dict[str, Left] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


_process = _Process()


def acquire(key: str, begin: Callable[[Left | None], Run]) -> tuple[Run, bool]:
    """The run of that key, and whether it was open already.

    begin: begins it, or goes on with what an earlier writer left.
    """
    process = _here()
    with process.lock:
        run = process.runs.get(key)
        if run is not None and not run.finished:
            process.users[key] += 1
            return run, True
        run = process.runs[key] = begin(process.left.get(key))
        process.users[key] = 1
        return run, False


def release(key: str, run: Run) -> None:
    """A writer needs the run no more; with the last one it is finished. Raises ContractError if the run is strict."""
    process = _here()
    with process.lock:
        if process.runs.get(key) is not run:
            return
        process.users[key] -= 1
        if process.users[key]:
            return
        del process.users[key], process.runs[key]
        if len(process.left) >= LEFT_MAX:
            del process.left[next(iter(process.left))]
        process.left[key] = Left(run.name, run.recorder.implicit_next_steps())
    lifecycle.dismiss(run)
    run.finish("failed" if run.crashed else "finished")


def _here() -> _Process:
    global _process
    if _process.pid != os.getpid():
        _process = _Process(os.getpid())
    return _process

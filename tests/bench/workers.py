"""Work in processes of its own: load generators and the baseline must not share an interpreter with the sampler."""

import os
import pickle  # noqa: TID251 - between a benchmark and its own children
import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Generic, ParamSpec, Self, TypeVar

from tests.cli_process import clean

_P = ParamSpec("_P")
_R = TypeVar("_R")
_KILL_TIMEOUT_S: Final = 10.0


class WorkerError(Exception):
    """A worker process ended without a result; the message holds the end of what it printed."""


class Worker(Generic[_R]):
    """A function running in a new interpreter; ended with the block that holds it."""

    def __init__(self, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """The function and its arguments must be picklable; the function is imported by name over there."""
        self._process = subprocess.Popen(
            (sys.executable, "-m", __name__),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=clean({"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}), start_new_session=True,
        )  # fmt: skip
        self._order = pickle.dumps((function, args, kwargs))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(_KILL_TIMEOUT_S)
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def begin(self) -> None:
        """Let it start; the interpreter itself is running already."""
        if self._process.stdin is None:
            raise WorkerError("the worker has no input")
        self._process.stdin.write(self._order)
        self._process.stdin.flush()
        self._process.stdin.close()
        self._process.stdin = None

    def result(self, timeout_s: float) -> _R:
        """What the function returned. Raises WorkerError if it raised, or took longer than timeout_s."""
        try:
            output, errors = self._process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise WorkerError(f"a worker did not end within {timeout_s:.0f} s") from error
        if self._process.returncode != 0:
            raise WorkerError(errors.decode(errors="replace").strip()[-2000:] or "a worker ended without a word")
        result: _R = pickle.loads(output)
        return result


def in_process(timeout_s: float, function: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Call a function in a process of its own and wait for what it returns. Raises WorkerError."""
    with Worker(function, *args, **kwargs) as worker:
        worker.begin()
        return worker.result(timeout_s)


def _work() -> None:
    function, args, kwargs = pickle.load(sys.stdin.buffer)
    results = sys.stdout.buffer
    sys.stdout = sys.stderr  # what the function prints is no result
    result: Any = function(*args, **kwargs)
    results.write(pickle.dumps(result))
    results.flush()


if __name__ == "__main__":
    _work()

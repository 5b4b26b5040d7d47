"""Child processes of the demo: started, waited for, and ended with the demo, whatever happens."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO, Final, Never

START_TIMEOUT_S: Final = 60.0
_STOP_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.1


class StartError(Exception):
    """A child ended, or did not come up in time."""


@contextmanager
def child(
    command: Sequence[str],
    answers: Callable[[], bool],
    output: IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends; entered once `answers` is true.

    Its output goes to `output` (None: where ours goes), its variables are `environment` (None: ours). It has a
    session of its own, so that Ctrl-C reaches only us, and it ends after all that we still have to tell it.
    Raises StartError.
    """
    process = subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=output, stderr=output, env=environment, start_new_session=True
    )
    try:
        _wait(process, answers)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
        process.kill()
        process.wait()


def free_port(host: str, wanted: int = 0) -> int:
    """The wanted port if nothing listens there, else one that is free."""
    for port in (wanted, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((host, port))
                return int(probe.getsockname()[1])
    raise StartError(f"no port can be had on {host}")


def interrupt(_number: int, _frame: FrameType | None) -> Never:
    """A signal's handler: end as by Ctrl-C."""
    raise KeyboardInterrupt


def _wait(process: subprocess.Popen[bytes], answers: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers():
        if process.poll() is not None:
            raise StartError(f"it ended at once with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise StartError(f"it did not answer within {START_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)

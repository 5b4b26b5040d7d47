"""A server process that can be killed and started again on the same data directory and port."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

from tallyboard_server.cli.demo.process import free_port
from tallyboard_server.cli.http import Service
from tests import forked
from tests.cli_process import clean
from tests.kill.kills import EXIT_TIMEOUT_S

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
_POLL_S = 0.02
QUICK = {"TALLYBOARD_EXPORT_INTERVAL_S": "0.05", "TALLYBOARD_EXPORT_SYNC_INTERVAL_S": "0.1"}


class Server:
    """`tallyboard serve` in a process of its own; its output is appended to folder/serve.log."""

    def __init__(self, folder: Path, *options: str) -> None:
        """options: further ones of `serve`."""
        self.folder = folder
        self._options: Sequence[str] = options
        self.data_dir = folder / "data"
        self.port = free_port("127.0.0.1")
        self.service = Service(f"http://127.0.0.1:{self.port}")
        self._process: BaseProcess | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return self.service.url

    def start(
        self,
        *,
        eager: bool = False,
        module: str = "tallyboard_server.cli",
        variables: Mapping[str, str] | None = None,
        wait: bool = True,
        files_max: int | None = None,
    ) -> None:
        """Start, and wait until it answers. files_max: how many descriptors it may have."""
        module = "tests.kill.eager" if eager else module
        arguments = [module, "serve", "--port", str(self.port), "--data-dir", str(self.data_dir), *self._options]
        log, settings = self.folder / "serve.log", clean(QUICK | dict(variables or {}))
        self._process = forked.start(arguments, log, settings, files_max=files_max)
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        """Return when it answers; an assertion if it ends first."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.service.is_alive():
            assert self.returncode() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """SIGKILL: nothing in the process runs any more."""
        assert self._process is not None
        assert self.end(signal.SIGKILL) == -signal.SIGKILL, self.log()

    def end(self, by: signal.Signals, timeout_s: float = EXIT_TIMEOUT_S) -> int | None:
        """Send a signal, if it still runs; how it ended, None if not in time."""
        with suppress(ProcessLookupError):
            if self.is_running:
                os.kill(self.pid, by)
        return self._ended(timeout_s)

    def pause(self) -> None:
        """SIGSTOP: nothing in the process runs until `resume`."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """Of its process."""
        assert self._process is not None
        assert self._process.pid is not None
        return self._process.pid

    def wait_for_death(self, timeout_s: float, why: str) -> None:
        """Wait until it has killed itself."""
        returncode = self._ended(timeout_s)
        assert returncode is not None, f"{why}: it lives on. {self.log()}"
        assert returncode == -signal.SIGKILL, f"{why}: {self.log()}"

    def stop(self) -> None:
        """End in order, if it runs."""
        if self._process is not None and self.returncode() is None:
            assert self.end(signal.SIGTERM, STOP_TIMEOUT_S) in (0, -signal.SIGTERM), self.log()

    def _ended(self, timeout_s: float) -> int | None:
        """How it ended; None if it still runs after so long."""
        assert self._process is not None
        self._process.join(timeout_s)
        return self._process.exitcode

    @property
    def is_running(self) -> bool:
        """Whether there is a process that has not ended."""
        return self._process is not None and self._process.exitcode is None

    def returncode(self) -> int | None:
        """How it ended; None while it runs."""
        return None if self._process is None else self._process.exitcode

    def log(self) -> str:
        """The end of what it said."""
        return (self.folder / "serve.log").read_text(errors="replace")[-4000:]

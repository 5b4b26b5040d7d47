"""A real TensorBoard process on a logdir, and the points that it shows."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import urllib3

from tallyboard_server.cli.demo.process import StartError, child, free_port

_POINTS_MAX: Final = 10_000_000
"""Points per curve that TensorBoard is asked to keep: all of them, where it keeps 1,000 at random by itself."""


class TensorBoard:
    """What a running TensorBoard shows; `url` has no trailing slash."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._pool = urllib3.PoolManager(timeout=30.0, retries=False)

    def scalars(self, run: str, tag: str) -> dict[int, float]:
        """The value at each step of one curve; empty if TensorBoard does not know it (yet)."""
        answer = self._pool.request("GET", f"{self.url}/data/plugin/scalars/scalars", fields={"run": run, "tag": tag})
        if answer.status != 200:
            return {}
        rows: list[tuple[float, int, Any]] = answer.json()
        return {step: float(value) for _, step, value in rows}

    def answers(self) -> bool:
        """Whether it serves requests."""
        try:
            return self._pool.request("GET", f"{self.url}/data/environment").status == 200
        except urllib3.exceptions.HTTPError:
            return False


@contextmanager
def tensorboard(logdir: Path) -> Iterator[TensorBoard]:
    """Run `tensorboard --logdir` with its default reader until the block ends. Raises StartError."""
    port = free_port("127.0.0.1")
    board = TensorBoard(f"http://127.0.0.1:{port}")
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--reload_interval", "1", "--samples_per_plugin", f"scalars={_POINTS_MAX}"]
    with tempfile.TemporaryFile() as output:
        try:
            with child(command, board.answers, output):
                yield board
        except StartError as error:
            output.seek(0)
            said = output.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise StartError(f"TensorBoard: {error}. {said}") from error

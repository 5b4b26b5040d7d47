"""Training scripts in processes of their own, that find their service and their run in the environment."""

import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.cli_process import clean

LIMIT_S = 60.0


class Script:
    """A training script in a file."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.path = path
        self.environ = clean(environ)

    def run(self, code: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        self.path.write_text(textwrap.dedent(code))
        return subprocess.run(
            [sys.executable, str(self.path)], capture_output=True, text=True, timeout=LIMIT_S, check=False,
            env=self.environ | environ, cwd=self.path.parent,
        )  # fmt: skip

    @contextmanager
    def started(self, code: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
        """Start it, and wait for the first line that it prints; killed when the block ends."""
        self.path.write_text(textwrap.dedent(code))
        process = subprocess.Popen(
            [sys.executable, str(self.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
            env=self.environ | environ, cwd=self.path.parent,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline(), process.communicate(timeout=LIMIT_S)[1]
            yield process
        finally:
            process.kill()
            process.communicate(timeout=LIMIT_S)

"""The real `tensorboard` as a process, with either of its readers, asked over HTTP what it shows; or another one."""

import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

Reader = Literal["rust", "python"]
READERS: tuple[Reader, Reader] = ("rust", "python")
"""The default reader (a data server written in Rust), and the one behind --load_fast=false."""

Curve = list[tuple[int, float]]
Curves = dict[str, dict[str, Curve]]
"""run → tag → [(step, value)], without tags that have no point."""

_START_TIMEOUT_S = 60.0
_URL = re.compile(rb"at (http://[^ ]+/)")


class Pages:
    """What the pages of a TensorBoard at some address show; `url` without a trailing slash."""

    def __init__(self, url: str) -> None:
        self.url = url

    def curves(self) -> Curves:
        """Every point that the scalars page would show."""
        found: Curves = {}
        for run, tags in self._get("/data/plugin/scalars/tags").items():
            curves = {tag: curve for tag in tags if (curve := self._curve(run, tag))}
            if curves:
                found[run] = curves
        return found

    def get(self, path: str, **query: str) -> Any:
        """What a route of a plugin answers (JSON): `images/tags`."""
        return json.loads(self.fetch(path, urllib.parse.urlencode(query)))

    def fetch(self, path: str, query: str) -> bytes:
        """What a route of a plugin answers, as it comes; the query is encoded already."""
        with urllib.request.urlopen(f"{self.url}/data/plugin/{path}?{query}", timeout=30) as response:
            found: bytes = response.read()
            return found

    def _curve(self, run: str, tag: str) -> Curve:
        return [(step, float(value)) for _, step, value in self._get("/data/plugin/scalars/scalars", run=run, tag=tag)]

    def _get(self, path: str, **query: str) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            return json.loads(response.read())


class TensorBoardProcess(Pages):
    """`with TensorBoardProcess(logdir, "rust") as board: board.curves()`"""

    def __init__(
        self,
        logdir: Path | str,
        reader: Reader,
        *,
        samples_max: int = 100_000,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """environment: beside this process's own."""
        self.reader = reader
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        command = [
            str(Path(sys.executable).with_name("tensorboard")),
            f"--logdir={logdir}",
            "--host=127.0.0.1",
            "--port=0",
            "--reload_interval=1",
            f"--load_fast={'true' if reader == 'rust' else 'false'}",
            f"--samples_per_plugin=scalars={samples_max}",
        ]
        environ = {**os.environ, **(environment or {})}
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=environ)
        try:
            super().__init__(self._wait_for_url())
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "TensorBoardProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started; its reader may be a child of it."""
        return self._process.pid

    def stop(self) -> None:
        """End the process and what it started."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def wait_for(self, expected: Callable[[], Curves], timeout_s: float = 30.0) -> None:
        """Return once TensorBoard shows what is expected; AssertionError with the difference if it does not."""
        until = time.monotonic() + timeout_s
        while True:
            try:
                shown = self.curves()
            except urllib.error.HTTPError as error:
                shown = {"": {f"HTTP {error.code}": []}}
            difference = _difference(shown, expected())
            if not difference:
                return
            if time.monotonic() > until:
                raise AssertionError(f"the {self.reader} reader differs:\n{difference}\n{self.log()[-2000:]}")
            time.sleep(0.2)

    def log(self) -> str:
        """What the process printed."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _wait_for_url(self) -> str:
        until = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < until and self._process.poll() is None:
            if found := _URL.search(self.log().encode()):
                return found[1].decode().rstrip("/")
            time.sleep(0.05)
        raise RuntimeError(f"tensorboard did not start: {self.log()}")


def _difference(shown: Curves, expected: Mapping[str, Mapping[str, Curve]]) -> str:
    places = [
        (run, tag)
        for run in sorted(shown.keys() | expected.keys())
        for tag in sorted(shown.get(run, {}).keys() | expected.get(run, {}).keys())
    ]
    pairs = [(run, tag, shown.get(run, {}).get(tag, []), expected.get(run, {}).get(tag, [])) for run, tag in places]
    return "\n".join(
        f"  {run} {tag}: shown {one}, expected {other}" for run, tag, one, other in pairs if not _equal(one, other)
    )


def _equal(one: Curve, other: Curve) -> bool:
    return len(one) == len(other) and all(
        a == c and (b == d or (math.isnan(b) and math.isnan(d))) for (a, b), (c, d) in zip(one, other, strict=True)
    )

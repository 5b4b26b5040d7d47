"""What docker/compose.scale.yaml lays out, as processes on loopback: its services and nginx, and a PostgreSQL of tests.

Commands, settings and configuration are the files' own; only addresses, paths and passwords are others.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import urllib3
import yaml

from tallyboard_server.cli.demo.process import free_port
from tests.cli_process import TALLYBOARD, clean
from tests.service import until

DOCKER: Final = Path(__file__).parents[1] / "docker"
COMPOSE: Final = DOCKER / "compose.scale.yaml"
NGINX: Final = DOCKER / "nginx.scale.conf"
TOKEN: Final = "open-sesame"
AUTHORIZED: Final = {"Authorization": f"Bearer {TOKEN}"}
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 30.0
_UPSTREAM: Final = re.compile(r"172\.30\.67\.\d+:6007")


def services() -> dict[str, dict[str, Any]]:
    """The services of the compose file."""
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


class ReplicaProcess:
    """One of the compose file's replicas; `start` it as often as it ended."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        """folder: what the replicas share. settings: instead of the file's own."""
        self.name = name
        self.port = free_port("127.0.0.1")
        self._service = services()[name]
        self._log = folder / f"{name}.log"
        own = {key: "" if "$" in value else value for key, value in self._service["environment"].items()}
        more = {"TALLYBOARD_PORT": str(self.port), "TALLYBOARD_DATA_DIR": str(folder), "XDG_STATE_HOME": str(folder)}
        self._environment = clean(own | more | dict(settings))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; see `wait_until_healthy`."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*TALLYBOARD, "serve"], stdout=log, stderr=log, env=self._environment)

    def wait_until_healthy(self) -> None:
        """Wait for the compose file's own healthcheck."""
        self._wait_for_answers()
        assert until(self.is_healthy, START_TIMEOUT_S), self.log()

    def is_healthy(self) -> bool:
        """Whether the compose file's healthcheck passes."""
        python, option, text = self._service["healthcheck"]["test"][1:]
        assert (python, option) == ("python", "-c")
        command = [sys.executable, option, text.replace(":6007/", f":{self.port}/")]
        return subprocess.run(command, env=self._environment, capture_output=True, timeout=30).returncode == 0

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for its end; the status."""
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(STOP_TIMEOUT_S)

    def close(self) -> None:
        """Leave nothing running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def metrics(self) -> dict[str, float]:
        """Its figures without labels, by name."""
        text = urllib3.request("GET", f"http://127.0.0.1:{self.port}/metrics", headers=AUTHORIZED).data.decode()
        return {name: float(value) for name, value in re.findall(r"^tallyboard_(\w+) (\S+)$", text, re.MULTILINE)}

    def log(self) -> str:
        """What it wrote."""
        return self._log.read_text(errors="replace")

    def _wait_for_answers(self) -> None:
        """Cheaper to ask than the healthcheck, which is a process each time."""

        def answers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            try:
                return urllib3.request("GET", f"http://127.0.0.1:{self.port}/healthz", retries=False).status == 200
            except urllib3.exceptions.HTTPError:
                return False

        assert until(answers, START_TIMEOUT_S), self.log()


@dataclass(frozen=True)
class Line:
    """One request in nginx's log; upstreams: who was asked, one after the other, and what each said."""

    path: str
    method: str
    status: int
    upstreams: tuple[tuple[str, str], ...]


@dataclass
class Nginx:
    """A running nginx with the layout's configuration."""

    port: int
    folder: Path
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30.0, maxsize=16)
    )

    @property
    def url(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self.port}"

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> urllib3.BaseHTTPResponse:
        """A request with the token; header names with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.pool.request(method, self.url + path, body=body, headers=AUTHORIZED | named, redirect=False)

    def lines(self) -> list[Line]:
        """All requests so far."""
        found = []
        for text in (self.folder / "access.log").read_text().splitlines():
            match = re.fullmatch(r'\S+ "(\S+) (\S*)" (\d+) \S+ (.*) \S+', text)
            assert match is not None, text
            *_, parts = match.groups()
            words = parts.replace(",", "").split()
            half = len(words) // 2
            asked = tuple(zip(words[:half], words[half:], strict=True))
            found.append(Line(match[2], match[1], int(match[3]), asked))
        return found


def configuration(folder: Path, port: int, upstreams: Sequence[int]) -> str:
    """docker/nginx.scale.conf with these ports of loopback, and with files in a folder."""
    text = NGINX.read_text(encoding="utf-8")
    addresses = iter(f"127.0.0.1:{upstream}" for upstream in upstreams)
    text, replaced = _UPSTREAM.subn(lambda _: next(addresses), text)
    assert replaced == len(upstreams)
    text = text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace("/tmp/", f"{folder}/")
    text = text.replace("/dev/stdout", f"{folder}/access.log")
    return f"{'user root; ' if os.geteuid() == 0 else ''}daemon off;\n{text}"


@contextmanager
def nginx_before(folder: Path, upstreams: Sequence[int]) -> Iterator[Nginx]:
    """nginx before services at these ports, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port("127.0.0.1")
    (folder / "nginx.conf").write_text(configuration(folder, port, upstreams), encoding="utf-8")
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf"]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr, checked.stderr
    with (folder / "error.log").open("wb") as log, subprocess.Popen(command, stderr=log, stdout=log) as process:
        nginx = Nginx(port, folder)
        try:
            assert until(lambda: _listens(port)), (folder / "error.log").read_text()
            yield nginx
        finally:
            nginx.pool.clear()
            process.terminate()


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


@dataclass
class Layout:
    """Replicas on one PostgreSQL, behind nginx, with one logdir."""

    replicas: list[ReplicaProcess]
    nginx: Nginx
    logdir: Path


@contextmanager
def laid_out(folder: Path, database_url: str) -> Iterator[Layout]:
    """All of it, healthy, until the block ends."""
    settings = {
        "TALLYBOARD_TOKEN": TOKEN, "TALLYBOARD_DATABASE_URL": database_url, "TALLYBOARD_LOGDIR": str(folder / "logdir"),
        "TALLYBOARD_TRUSTED_PROXIES": "127.0.0.1",
    }  # fmt: skip
    names = sorted(name for name in services() if name.startswith("replica-"))
    replicas = [ReplicaProcess(name, folder, settings) for name in names]
    with ExitStack() as stack:
        for replica in replicas:  # at the same time, as they would be: migrations wait for each other
            stack.callback(replica.close)
            replica.start()
        for replica in replicas:
            replica.wait_until_healthy()
        nginx = stack.enter_context(nginx_before(folder / "nginx", [replica.port for replica in replicas]))
        yield Layout(replicas, nginx, folder / "logdir")


def pause_until(moment: float) -> None:
    """Sleep until time.monotonic() says so."""
    time.sleep(max(0.0, moment - time.monotonic()))

"""`serve` told to stop while it is busy: not ready at once, it ends what is under way, loses nothing, ends with 0."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tallyboard_server.app import App
from tallyboard_server.cli.server import AnnouncedServer
from tallyboard_server.cli.systemd import Systemd
from tallyboard_server.eventfiles import read_event_file
from tests.cli_process import TALLYBOARD, clean
from tests.service import RunningService, until

STOPPED_WITHIN_S = 20.0
WORKERS = 8


@contextmanager
def serve(folder: Path, **variables: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """The service as a process of its own, and its port."""
    command = [*TALLYBOARD, "serve", "--port", "0", "--data-dir", str(folder / "data")]
    with (folder / "serve.log").open("a") as log, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log, text=True, env=clean({"XDG_STATE_HOME": str(folder)} | variables)
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.kill()


class Reporter(threading.Thread):
    """Reports to a run of its own, one step after the other, until the service is gone; remembers what it was told."""

    def __init__(self, port: int, number: int) -> None:
        super().__init__(name=f"reporter-{number}", daemon=True)
        self.run_name = f"load/{number}"
        self.acknowledged: list[int] = []
        self.statuses: set[int] = set()
        self._port = port

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            for step in range(1_000_000):
                body = json.dumps({"step": step, "scalars": {"loss": step / 2}})
                headers = {"Content-Type": "application/json"}
                connection.request("POST", f"/api/v1/scalars/{self.run_name}", body, headers)
                answer = connection.getresponse()
                answer.read()
                self.statuses.add(answer.status)
                if answer.status == 200:
                    self.acknowledged.append(step)


def test_under_load_nothing_is_lost_and_nothing_fails(tmp_path: Path) -> None:
    with serve(tmp_path) as (process, port):
        reporters = [Reporter(port, number) for number in range(WORKERS)]
        for reporter in reporters:
            reporter.start()
        stream = socket.create_connection(("127.0.0.1", port), timeout=STOPPED_WITHIN_S)
        stream.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert until(lambda: all(len(reporter.acknowledged) > 20 for reporter in reporters), 30)
        told = time.monotonic()
        process.terminate()
        assert process.wait(STOPPED_WITHIN_S) == 0
        assert time.monotonic() - told < STOPPED_WITHIN_S
        with stream:
            received = b""
            while piece := stream.recv(65536):
                received += piece
            assert received.endswith(b"0\r\n\r\n")  # the stream was ended, not cut
        for reporter in reporters:
            reporter.join(30)
        assert set().union(*(reporter.statuses for reporter in reporters)) <= {200, 503}
    assert "Traceback" not in (tmp_path / "serve.log").read_text()
    for reporter in reporters:  # views are synced, too: the event files need no catching up
        (path,) = (tmp_path / "data" / "logdir" / reporter.run_name).glob("*tfevents*")
        steps = {point.step for point in read_event_file(path).points}
        assert steps >= set(reporter.acknowledged)
    with serve(tmp_path) as (_, port):
        for reporter in reporters:
            answer = _get(port, f"/api/v1/scalars?run={reporter.run_name}&tag=loss")
            assert set(answer["series"][0]["points"]["step"]) >= set(reporter.acknowledged)


def _get(port: int, path: str) -> Any:
    return json.loads(_text(port, path))


def _text(port: int, path: str) -> str:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()


def test_what_is_under_way_is_answered_and_nobody_new_is_taken(tmp_path: Path) -> None:
    with serve(tmp_path) as (process, port):
        with socket.create_connection(("127.0.0.1", port), timeout=STOPPED_WITHIN_S) as held:
            head = b"POST /api/v1/scalars/a/b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            body = b'{"step": 1, "scalars": {"loss": 0.5}}'
            held.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body[:5])
            assert until(lambda: "tallyboard_http_requests_in_flight 2\n" in _text(port, "/metrics"))
            process.terminate()
            assert until(lambda: _is_closed(port)), "new connections are still taken"
            held.sendall(body[5:])
            answer = _received(held)
            assert answer.startswith(b"HTTP/1.1 200 "), answer
            assert b"connection: close" in answer.lower()
        assert process.wait(STOPPED_WITHIN_S) == 0


def test_from_the_signal_on_it_is_not_ready(service: RunningService) -> None:
    assert service.request("GET", "/readyz").status == 200
    app = App.__new__(App)
    app.traffic = service.parts.traffic
    server = AnnouncedServer(uvicorn.Config(app), lambda: "", lambda: None, lambda: None, app.drain)
    server.handle_exit(signal.SIGTERM, None)
    try:
        answer = service.request("GET", "/readyz")
    finally:
        service.parts.traffic.draining = False
    assert (answer.status, answer.json()["reasons"]) == (503, ["the service is shutting down"])
    assert server.should_exit


def _is_closed(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def _received(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket that a service manager listens on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(30)
        yield listening


def test_a_service_manager_hears_how_it_is(tmp_path: Path, manager: socket.socket) -> None:
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    with serve(tmp_path, **variables) as (process, _):
        said = [manager.recv(100) for _ in range(4)]
        process.terminate()
        assert process.wait(STOPPED_WITHIN_S) == 0
        manager.settimeout(0.2)
        with suppress(TimeoutError):
            while True:
                said.append(manager.recv(100))
    assert said[0] == b"READY=1"
    assert said[1:4] == [b"WATCHDOG=1"] * 3
    assert b"STOPPING=1" in said[4:]


def test_an_abstract_socket_will_do_and_none_is_no_harm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Systemd({}).tell("READY=1")
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "absent")}).tell("READY=1")
    assert "systemd could not be told 'READY=1'" in caplog.text
    name = f"tallyboard-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        Systemd({"NOTIFY_SOCKET": f"@{name}"}).tell("STATUS=here")
        assert listening.recv(100) == b"STATUS=here"


@pytest.mark.parametrize(("variables", "interval_s"), [
    ({}, None), ({"WATCHDOG_USEC": "2000000"}, 2.0), ({"WATCHDOG_USEC": "x"}, None), ({"WATCHDOG_USEC": "0"}, None),
    ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
    ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
])  # fmt: skip
def test_the_watchdog_is_fed_only_if_it_is_meant_for_this_process(
    variables: dict[str, str], interval_s: float | None
) -> None:
    systemd = Systemd(variables)
    assert systemd.watchdog_s == interval_s
    asyncio.run(asyncio.wait_for(systemd.watch(), 5))  # there is no socket: it has nobody to tell, and returns

"""`serve --workers`: several processes on one port, killed and started anew, ended together."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
import pytest

from tests.cli_process import TALLYBOARD, clean, tallyboard
from tests.postgres import Postgres
from tests.service import until

WORKERS = 3
RUN = "a/b"
ENDED_WITHIN_S = 60.0


@dataclass
class Served:
    """A service of several workers, in a process group of its own."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    database: str
    heard: list[bytes]

    def said(self) -> str:
        """What it wrote so far."""
        return (self.folder / "serve.log").read_text()

    def workers(self) -> list[psutil.Process]:
        """Those that live."""
        return [c for c in psutil.Process(self.process.pid).children() if c.status() != psutil.STATUS_ZOMBIE]

    def ask(self, method: str, path: str, document: Any = None, token: str | None = None) -> tuple[int, Any]:
        """A request on a connection of its own; ConnectionError if its worker is killed meanwhile."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            body = None if document is None else json.dumps(document)
            try:
                connection.request(method, path, body, headers | {"Content-Type": "application/json"})
                answer = connection.getresponse()
                read = answer.read()
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error
            return answer.status, json.loads(read) if read[:1] == b"{" else read

    def token(self) -> str:
        """That of the first start."""
        (found,) = re.findall(r"^  token +(tb_\S+)$", self.said(), re.MULTILINE)
        return str(found)


@contextmanager
def served(folder: Path, database: str, *options: str, **variables: str) -> Iterator[Served]:
    """Serve until the block ends; entered when all workers take requests."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(60)
        variables |= {"NOTIFY_SOCKET": str(folder / "notify"), "XDG_STATE_HOME": str(folder)}
        command = [*TALLYBOARD, "serve", "--port", "0", "--data-dir", str(folder / "data"), "--no-tensorboard",
                   "--database-url", database, "--workers", str(WORKERS), *options]  # fmt: skip
        with (folder / "serve.log").open("w") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, text=True, env=clean(variables), start_new_session=True
            )
        try:
            heard = []
            while b"READY=1" not in heard:
                heard.append(manager.recv(100))
            port = int(re.findall(r" at http://localhost:(\d+)", (folder / "serve.log").read_text())[0])
            yield Served(process, port, folder, database, heard)
            manager.settimeout(0.2)
            with suppress(TimeoutError):
                while True:
                    heard.append(manager.recv(100))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


def test_from_its_start_to_its_end(tmp_path: Path, database: str) -> None:
    with served(tmp_path, database, "--host", "0.0.0.0", WATCHDOG_USEC="600000") as service:
        check_start(service)
        check_kills(service)
        check_end(service)
    told = [line for line in service.heard if line != b"WATCHDOG=1"]
    assert told == [b"READY=1", b"STOPPING=1"]
    assert service.heard.count(b"WATCHDOG=1") >= 3


def check_start(service: Served) -> None:
    """It says once where it is, and made one token, which every worker takes."""
    assert len(service.workers()) == WORKERS
    said = service.said()
    assert (said.count("Tallyboard "), said.count("  token  ")) == (1, 1)
    with psycopg.connect(service.database) as connection:
        assert connection.execute("SELECT name FROM tokens").fetchall() == [("first start",)]
    assert service.ask("GET", "/api/v1/runs")[0] == 401
    assert {service.ask("GET", "/api/v1/runs", token=service.token())[0] for _ in range(20)} == {200}


def check_kills(service: Served) -> None:
    """Each worker is killed, one after the other: requests go on, and nothing that was acknowledged is lost."""
    token, seq = service.token(), 0
    for number in range(WORKERS):
        victims = service.workers()
        assert len(victims) == WORKERS
        for step in range(5):
            seq += 1
            batch = {"producer": "p", "seq": seq, "step": seq, "scalars": {"loss": seq / 8}}
            if step == 2:
                victims[number].kill()
            assert until(lambda batch=batch: taken(service, batch, token))  # type: ignore[misc]
        victims[number].wait(30)
        assert until(lambda: len(service.workers()) == WORKERS, 30)
    assert service.said().count("it is started again in") == WORKERS
    status, found = service.ask("GET", f"/api/v1/scalars?run={quote(RUN)}&tag=loss", token=token)
    assert status == 200
    assert found["series"][0]["points"]["step"] == list(range(1, seq + 1))


def taken(service: Served, batch: dict[str, Any], token: str) -> bool:
    """Whether a batch was acknowledged; sent again if not, as a client does."""
    try:
        status, answer = service.ask("POST", f"/api/v1/scalars/{RUN}", batch, token)
    except ConnectionError:
        return False
    assert status in (200, 503), answer
    return status == 200


def check_end(service: Served) -> None:
    """A request under way is answered, nobody new is taken, and no process is left."""
    workers = service.workers()
    body = b'{"step": 100, "scalars": {"loss": 1}}'
    head = (
        f"POST /api/v1/scalars/a/held HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {service.token()}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", service.port), timeout=ENDED_WITHIN_S) as held:
        held.sendall(head + body[:5])
        assert until(lambda: any(worker.net_connections("tcp") for worker in workers if is_connected(worker, held)))
        service.process.terminate()
        assert until(lambda: refuses(service.port)), "new connections are still taken"
        held.sendall(body[5:])
        assert held.recv(100).startswith(b"HTTP/1.1 200 ")
    assert service.process.wait(ENDED_WITHIN_S) == 0
    assert not any(worker.is_running() for worker in workers)


def is_connected(worker: psutil.Process, connection: socket.socket) -> bool:
    """Whether it is this worker that accepted a connection."""
    address = connection.getsockname()
    return any(c.raddr and tuple(c.raddr) == address for c in worker.net_connections("tcp"))


def refuses(port: int) -> bool:
    """Whether nobody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


def test_workers_whose_supervisor_is_killed_end_by_themselves(tmp_path: Path, database: str) -> None:
    with served(tmp_path, database, "--host", "0.0.0.0", "--insecure") as service:
        workers = service.workers()
        assert service.ask("GET", "/api/v1/runs")[0] == 200
        service.process.kill()
        _, left = psutil.wait_procs(workers, ENDED_WITHIN_S)
        assert left == []
        assert refuses(service.port)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM replicas").fetchone() == (0,)  # they took their leave


def test_what_can_not_be_is_one_line(tmp_path: Path, postgres: Postgres) -> None:
    on_sqlite = tallyboard("serve", "--workers", "4", "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert (on_sqlite.returncode, on_sqlite.stderr.count("\n")) == (1, 1)
    assert "4 workers need a store for many services (--database-url postgresql://…): one process" in on_sqlite.stderr
    absent = tallyboard("serve", "--workers", "2", "--port", "0", "--data-dir", str(tmp_path), "--database-url",
                        postgres.url("absent"))  # fmt: skip
    assert (absent.returncode, 'database "absent" does not exist' in absent.stderr) == (1, True)
    assert "Traceback" not in absent.stderr

"""docker/compose.scale.yaml as it would run: three services on PostgreSQL behind its nginx, a TensorBoard beside."""

import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import pytest
import urllib3

from tallyboard.wire.limits import BODY_BYTES_MAX
from tests.cli_process import clean
from tests.faults.proxy import FaultProxy, proxied
from tests.postgres import Postgres, of_the_wheel
from tests.scale_layout import AUTHORIZED, DOCKER, TOKEN, Layout, Nginx, laid_out, nginx_before, pause_until
from tests.service import until
from tests.tensorboard_process import TensorBoardProcess
from tests.unit.test_docs_replicas import commands

pytestmark = [
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed here, so the layout is not tried"),
    pytest.mark.slow,
]
STEPS: Final = 400
PACE_S: Final = 0.01
KILL_AT_S: Final = 0.7
DRAIN_AT_S: Final = 1.8
CRASH_AT_S: Final = 2.8
JSON: Final = {"Content_Type": "application/json"}
MSGPACK: Final = {"Content_Type": "application/msgpack"}
TRAINING: Final = f"""
import os, time, tallyboard
run = tallyboard.init(os.environ["RUN"], resume="new")
begun = time.monotonic()
for step in range(1, {STEPS} + 1):
    run.log({{"loss": step / 8, "accuracy": step / 16}}, step=step)
    time.sleep(max(0.0, begun + step * {PACE_S} - time.monotonic()))
run.finish()
"""


@pytest.fixture(scope="module")
def layout(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """With a database that has no schema yet: the three make it together."""
    database = postgres.create_database()
    with laid_out(tmp_path_factory.mktemp("layout"), postgres.url(database)) as made:
        yield made
    postgres.drop_database(database)


def points(nginx: Nginx, run: str, tag: str) -> list[tuple[int, float]]:
    """(step, value) of every visible point, through nginx."""
    answer = nginx.request("GET", f"/api/v1/scalars?run={quote(run)}&tag={quote(tag)}")
    assert answer.status == 200, answer.data
    (series,) = answer.json()["series"]
    return list(zip(series["points"]["step"], series["points"]["value"], strict=True))


def report(nginx: Nginx, run: str, step: int, value: float = 1.0) -> urllib3.BaseHTTPResponse:
    """One report, without a number."""
    body = msgspec.json.encode({"step": step, "scalars": {"loss": value}})
    return nginx.request("POST", f"/api/v1/scalars/{run}", body, **JSON)


class Reporter(threading.Thread):
    """Reports without numbers, one a request; what is answered by 5xx is sent again, as docs/guides/http.md has it."""

    def __init__(self, nginx: Nginx, run: str) -> None:
        super().__init__(name=run, daemon=True)
        self.run_name = run
        self.statuses: list[int] = []
        self._nginx = nginx

    def run(self) -> None:
        begun = time.monotonic()
        for step in range(1, STEPS // 5 + 1):
            while (status := report(self._nginx, self.run_name, step, step / 8).status) >= 500:
                self.statuses.append(status)
                time.sleep(0.1)
            self.statuses.append(status)
            pause_until(begun + step * PACE_S * 5)


@contextmanager
def trainings(layout: Layout, names: list[str]) -> Iterator[None]:
    """Real clients, each in a process of its own; at the end of the block each has to end well."""
    environment = {"TALLYBOARD_URL": layout.nginx.url, "TALLYBOARD_TOKEN": TOKEN}
    spool = str(layout.logdir.parent / "spool")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING], stderr=subprocess.PIPE, text=True,
            env=clean(environment | {"RUN": name, "TALLYBOARD_SPOOL_DIR": spool}),
        )
        for name in names
    ]  # fmt: skip
    try:
        yield
        for process in started:
            said = process.communicate(timeout=60)[1]
            assert process.returncode == 0, said
            assert " 0 refused, 0 dropped" in said, said
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_replica_is_killed_one_is_drained_and_postgresql_crashes_and_nothing_is_lost(
    layout: Layout, postgres: Postgres
) -> None:
    killed, drained, _ = layout.replicas
    names = [f"trainings/{number}" for number in range(4)]
    reporters = [Reporter(layout.nginx, f"plain/{number}") for number in range(6)]
    with trainings(layout, names):
        assert until(lambda: all(layout.nginx.request("GET", f"/api/v1/runs/{name}").status == 200 for name in names))
        begun = time.monotonic()
        for reporter in reporters:
            reporter.start()
        pause_until(begun + KILL_AT_S)
        killed.stop(signal.SIGKILL)
        killed.start()
        pause_until(begun + DRAIN_AT_S)
        assert drained.stop() == 0
        drained.start()
        pause_until(begun + CRASH_AT_S)
        postgres.restart("immediate")
    for reporter in reporters:
        reporter.join(60)
        assert not reporter.is_alive()
        assert points(layout.nginx, reporter.run_name, "loss") == [(s, s / 8) for s in range(1, STEPS // 5 + 1)]
        assert set(reporter.statuses) <= {200, 502, 503}
        assert reporter.statuses.count(200) == STEPS // 5  # 5xx was said of what may not have been carried out
    for name in names:
        assert points(layout.nginx, name, "loss") == [(step, step / 8) for step in range(1, STEPS + 1)]
        assert points(layout.nginx, name, "accuracy") == [(step, step / 16) for step in range(1, STEPS + 1)]
        asked = {line.status for line in layout.nginx.lines() if line.path == f"/api/v1/scalars/{name}"}
        assert asked <= {200, 503}, "nginx finds a replica for each numbered batch"
    assert any(len(line.upstreams) > 1 for line in layout.nginx.lines()), "nobody had to be asked twice"
    for replica in (killed, drained):
        replica.wait_until_healthy()
    assert until(lambda: [round(r.metrics()["replicas_alive"]) for r in layout.replicas] == [3, 3, 3])
    assert until(lambda: sum(r.metrics()["replica_shares"] for r in layout.replicas) == 64)


def test_a_run_stays_with_one_replica_and_runs_are_spread(layout: Layout) -> None:
    names = [f"spread/{number}" for number in range(24)]
    for step in (1, 2):
        for name in names:
            assert report(layout.nginx, name, step).status == 200
    lines = layout.nginx.lines()
    asked = {
        name: {address for line in lines if line.path.endswith(f"/{name}") for address, _ in line.upstreams}
        for name in names
    }  # fmt: skip
    alone = sum(len(addresses) == 1 for addresses in asked.values())
    assert alone > 20, "in turns it would be a third of them; a busy machine may miss an answer now and then"
    assert set().union(*asked.values()) == {f"127.0.0.1:{replica.port}" for replica in layout.replicas}


@contextmanager
def forgetful(layout: Layout, folder: Path) -> Iterator[tuple[Nginx, FaultProxy]]:
    """The layout's replicas behind an nginx of its own; what the first one answers is lost on the way."""
    first, *others = (replica.port for replica in layout.replicas)
    with (
        proxied(first, faults=("lose answer",), probability=1.0) as proxy,
        nginx_before(folder / "nginx", [proxy.port, *others]) as nginx,
    ):
        yield nginx, proxy


Ask = Callable[[Nginx, str], urllib3.BaseHTTPResponse]


def until_lost(layout: Layout, folder: Path, ask: Ask) -> tuple[str, urllib3.BaseHTTPResponse]:
    """Ask about runs until one is the first replica's, whose answer is lost: the run, and what came instead."""
    with forgetful(layout, folder) as (nginx, proxy):
        for number in range(60):
            run = f"{folder.name}/{number}"
            answer = ask(nginx, run)
            if proxy.met["lose answer"]:
                assert proxy.met["lose answer"] == 1
                return run, answer
    raise AssertionError("no run was the first replica's")


def test_a_numbered_batch_that_nginx_sends_twice_is_recognised(layout: Layout, tmp_path: Path) -> None:
    def numbered(nginx: Nginx, run: str) -> urllib3.BaseHTTPResponse:
        alert = {"title": "once"}
        batch = {"producer": "careful", "seq": 1, "reports": [{"step": 1, "scalars": {"loss": 0.5}}], "alerts": [alert]}
        return nginx.request("POST", f"/api/v1/scalars/{run}", msgspec.msgpack.encode(batch), **MSGPACK)

    run, answer = until_lost(layout, tmp_path, numbered)
    assert answer.status == 200, answer.data
    assert answer.json()["replayed"] is True
    assert points(layout.nginx, run, "loss") == [(1, 0.5)]
    assert len(layout.nginx.request("GET", f"/api/v1/alerts/{run}").json()["alerts"]) == 1


def test_what_has_no_number_is_not_sent_twice(layout: Layout, tmp_path: Path) -> None:
    run, answer = until_lost(layout, tmp_path, lambda nginx, run: report(nginx, run, 1))
    assert answer.status == 502
    assert points(layout.nginx, run, "loss") == [(1, 1.0)]  # it was carried out, which nginx can't know
    assert report(layout.nginx, run, 1).json()["repeated"] == 1


@pytest.mark.parametrize("path", ["/api/v1/runs/{}", "/api/v1/query"])
def test_a_question_is_asked_of_another(layout: Layout, tmp_path: Path, path: str) -> None:
    body = json.dumps({"queries": []}).encode() if path.endswith("query") else None

    def ask(nginx: Nginx, run: str) -> urllib3.BaseHTTPResponse:
        if body is not None:  # not about one run: the address decides
            source = http.client.HTTPConnection("127.0.0.1", nginx.port, source_address=(_address(run), 0), timeout=30)
            with closing(source):
                source.request("POST", path, body, AUTHORIZED | {"Content-Type": "application/json"})
                answer = source.getresponse()
                return urllib3.HTTPResponse(answer.read(), status=answer.status)
        return nginx.request("GET", path.format(run))

    _, answer = until_lost(layout, tmp_path, ask)
    assert answer.status in ({404} if body is None else {200, 422}), answer.data


def _address(run: str) -> str:
    return f"127.0.0.{2 + int(run.rpartition('/')[2])}"


def test_bodies_as_large_as_the_service_takes_get_through(layout: Layout) -> None:
    body = b'{"step": 1, "scalars": {"loss": 0.5}}'.ljust(BODY_BYTES_MAX)
    assert layout.nginx.request("POST", "/api/v1/scalars/large/body", body, **JSON).status == 200
    assert layout.nginx.request("POST", "/api/v1/scalars/large/body", body + b" ", **JSON).status == 413
    assert points(layout.nginx, "large/body", "loss") == [(1, 0.5)]


def test_the_dashboard_tensorboard_and_the_stream_come_through(layout: Layout) -> None:
    page = layout.nginx.request("GET", "/", Accept="text/html")
    assert page.status == 200
    assert b"Tallyboard" in page.data
    assert layout.nginx.pool.request("GET", f"{layout.nginx.url}/", headers={"Accept": "text/html"}).status == 401
    assert b"window_title" in layout.nginx.request("GET", "/tensorboard/data/environment").data
    with socket.create_connection(("127.0.0.1", layout.nginx.port), timeout=20) as stream:
        head = f"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        stream.sendall(head.encode())
        _receive(stream, b"event: hello")
        names = [f"lively/{number}" for number in range(12)]  # of all three replicas
        for name in names:
            assert report(layout.nginx, name, 1).status == 200
        _receive(stream, *(name.encode() for name in names))


def _receive(stream: socket.socket, *expected: bytes) -> None:
    received = b""
    while not all(part in received for part in expected):
        piece = stream.recv(65536)
        assert piece, received
        received += piece


def test_a_replica_believes_what_nginx_says_of_a_client_and_not_what_the_client_says(layout: Layout) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "forged", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection(
        "127.0.0.1", layout.nginx.port, timeout=20, source_address=("127.0.0.77", 0)
    )
    with closing(connection):
        connection.request(
            "POST", "/api/v1/scalars/from/afar", b'{"step": 1, "scalars": {"a": 1}}', AUTHORIZED | forged
        )
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.headers["X-Request-Id"] != "forged"
    audit: Any = layout.nginx.request("GET", "/api/v1/audit?run=from/afar&action=run.create").json()
    assert [entry["address"] for entry in audit["entries"]] == ["127.0.0.77"]


def test_the_requests_of_the_page_are_answered(layout: Layout) -> None:
    ports = {6007: layout.nginx.port} | {6011 + number: r.port for number, r in enumerate(layout.replicas)}
    sent = []
    for words in commands("curl"):
        match = re.fullmatch(r"localhost:(\d+)(/\S*)", words[1])
        assert match is not None, words
        header = words[words.index("-H") + 1].replace("$TALLYBOARD_TOKEN", TOKEN)
        assert header == f"Authorization: Bearer {TOKEN}"
        body = words[words.index("--json") + 1].encode() if "--json" in words else None
        url = f"http://127.0.0.1:{ports[int(match[1])]}{match[2]}"
        headers = AUTHORIZED | {"Content-Type": "application/json"}
        answer = urllib3.request("GET" if body is None else "POST", url, body=body, headers=headers)
        assert answer.status == 200, (words, answer.data)
        sent.append(match[2])
    assert {"/readyz", "/metrics", "/api/v1/runs/hello/replicas"} <= set(sent)
    assert points(layout.nginx, "hello/replicas", "loss") == [(1, 0.5)]


def test_a_stock_tensorboard_on_the_logdir_shows_what_went_through(layout: Layout) -> None:
    steps = range(1, 6)
    expected = {f"shown/{number}": {"loss": [(step, step / 8) for step in steps]} for number in range(6)}
    for run in expected:  # so many that each replica has some
        for step in steps:
            assert report(layout.nginx, run, step, step / 8).status == 200
    with TensorBoardProcess(layout.logdir, "rust") as board:
        assert until(lambda: expected.items() <= board.curves().items(), 30.0), board.log()


def test_the_database_is_made_by_a_role_that_is_no_superuser(postgres: Postgres, tmp_path: Path) -> None:
    installed = of_the_wheel()
    assert installed is not None
    script = tmp_path / "made.sql"
    text = (DOCKER / "postgres.scale.sql").read_text(encoding="utf-8")
    script.write_text(text.replace("tallyboard", "layout").replace("ROLE postgres", "ROLE layout_superuser"))
    postgres.query("CREATE ROLE layout_superuser SUPERUSER LOGIN PASSWORD 'to begin with'")
    try:
        command = [str(installed.programs / "psql"), "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "-f", str(script)]
        connected = ["-h", str(postgres.folder), "-U", "postgres", "-d", "postgres"]
        done = subprocess.run(
            [*command, *connected], capture_output=True, text=True, timeout=60,
            env=clean({"POSTGRES_PASSWORD": """it's "one" \\ $HOME"""}),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        roles = postgres.query(
            "SELECT rolname, rolsuper, rolpassword LIKE 'SCRAM%%' FROM pg_authid WHERE rolname LIKE %s ORDER BY 1",
            "layout%",
        )
        assert roles == [("layout", False, True), ("layout_superuser", True, None)]
        owned = (
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database WHERE datname = 'layout'"
        )
        assert postgres.query(owned) == [("layout", "UTF8")]
    finally:
        postgres.drop_database("layout")
        postgres.query("DROP ROLE IF EXISTS layout")
        postgres.query("DROP ROLE layout_superuser")

"""Connections that dawdle, say too much, read nothing or are too many: each is ended, and nobody else notices."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tallyboard.wire import JSON, Batch, Columns, encode_batch
from tallyboard_server.api import listeners
from tallyboard_server.api.connections import PIPELINED_MAX
from tallyboard_server.settings import Settings
from tests.service import RunningService, read_response, serving, until

HEADER_BYTES_MAX = 8192
CONNECTIONS_MAX = 20
GOOD = b'{"step": 1, "scalars": {"loss": 0.5}}'
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that has next to no patience."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), port=0, header_timeout_s=0.3, idle_timeout_s=0.3, send_timeout_s=0.3,
        body_timeout_s=0.5, header_bytes_max=HEADER_BYTES_MAX, connections_max=CONNECTIONS_MAX,
    )  # fmt: skip
    with serving(settings) as running:
        yield running


@pytest.fixture
def connection(strict: RunningService) -> Iterator[socket.socket]:
    """A connection of its own."""
    with opened(strict) as made:
        yield made


def opened(service: RunningService, *, receive_bytes: int | None = None) -> socket.socket:
    made = socket.socket()
    if receive_bytes is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.settimeout(10.0)
    made.connect(("127.0.0.1", service.port))
    return made


def problem(response: bytes) -> tuple[int, str]:
    head, _, body = response.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    found = msgspec.json.decode(body)
    assert head.startswith(f"HTTP/1.1 {found['status']} ".encode())
    return found["status"], found["code"]


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(65536) == b""
    except ConnectionResetError:
        return True


def drip(connection: socket.socket, piece: bytes, times: int = 500, pause_s: float = 0.02) -> int:
    """How often a piece could be sent before the connection was broken off."""
    for sent in range(times):
        try:
            connection.sendall(piece)
        except OSError:
            return sent
        time.sleep(pause_s)
    return times


def figure(service: RunningService, name: str) -> float:
    return dict(service.parts.views["connections"].stats())[f"connections_{name}"]


def test_headers_that_stop_coming_are_given_up(connection: socket.socket) -> None:
    connection.sendall(b"POST /api/v1/scalars/a/b HTTP/1.1\r\nHost: local")
    assert problem(read_response(connection)) == (408, "header_timeout")
    assert is_closed(connection)


def test_headers_that_drip_are_given_up(connection: socket.socket) -> None:
    begun = time.monotonic()
    connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    assert drip(connection, b"X: y\r\n") < 500
    assert time.monotonic() - begun < 5.0


def test_a_connection_that_says_nothing_is_closed_without_a_word(connection: socket.socket) -> None:
    assert connection.recv(100) == b""


def test_empty_lines_keep_no_connection_open(connection: socket.socket) -> None:
    connection.sendall(GET)
    assert read_response(connection).startswith(b"HTTP/1.1 200")
    assert drip(connection, b"\r\n") < 500


def test_an_idle_connection_is_closed(connection: socket.socket) -> None:
    for _ in range(2):
        connection.sendall(GET)
        assert read_response(connection).startswith(b"HTTP/1.1 200")
    begun = time.monotonic()
    assert connection.recv(100) == b""
    assert 0.1 < time.monotonic() - begun < 5.0


def test_the_time_for_headers_is_no_time_for_the_answer(strict: RunningService, run_name: str) -> None:
    """A body may take longer than headers may."""
    head = f"POST /api/v1/scalars/{run_name} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\n"
    with opened(strict) as connection:
        connection.sendall(f"{head}Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD[:5])
        time.sleep(0.4)
        connection.sendall(GOOD[5:])
        assert read_response(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pieces", [1, 100])
def test_headers_have_a_size(connection: socket.socket, pieces: int) -> None:
    size = HEADER_BYTES_MAX // pieces
    connection.sendall(
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * size) for i in range(pieces))
    )
    assert problem(read_response(connection)) == (431, "headers_too_large")
    assert is_closed(connection)


def test_a_whole_head_that_is_too_large_is_refused_and_one_that_fits_is_not(strict: RunningService) -> None:
    for size, status in ((HEADER_BYTES_MAX + 1, b"431"), (HEADER_BYTES_MAX - 200, b"200")):
        data = b"GET /healthz?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * size)
        assert strict.raw(data).startswith(b"HTTP/1.1 " + status)


def test_large_bodies_are_no_large_headers(strict: RunningService, run_name: str) -> None:
    body = b'{"step": 1, "scalars": {"loss": 0.5}' + b" " * 200_000 + b"}"
    assert strict.report_bytes(run_name, body, JSON).status == 200


def test_trailers_end_and_are_no_headers(strict: RunningService, run_name: str) -> None:
    head = f"POST /api/v1/scalars/{run_name} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    chunk = b"%x\r\n%s\r\n0\r\n" % (len(GOOD), GOOD)
    sent = f"{head}Content-Type: {JSON}\r\n\r\n".encode() + chunk
    assert strict.raw(sent + b"Content-Encoding: zstd\r\n\r\n").startswith(b"HTTP/1.1 200")
    with opened(strict) as connection:
        connection.sendall(sent)
        assert drip(connection, b"X: " + b"y" * 1000 + b"\r\n", 50_000, pause_s=0.0) < 50_000
    assert until(lambda: strict.parts.traffic.in_flight == 0)


def test_requests_sent_all_at_once_are_answered_in_order_up_to_a_number(strict: RunningService) -> None:
    with opened(strict) as connection:
        connection.sendall(GET * PIPELINED_MAX)
        for _ in range(PIPELINED_MAX):
            assert read_one(connection).startswith(b"HTTP/1.1 200")
    with opened(strict) as connection:
        connection.sendall(GET * (10 * PIPELINED_MAX))
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        assert received.count(b"HTTP/1.1 200") <= PIPELINED_MAX


def read_one(connection: socket.socket) -> bytes:
    """One answer, and not a byte of the next."""
    received = b""
    while not received.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, received
        received += piece
    length = int(received.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while length > 0:
        piece = connection.recv(length)
        received, length = received + piece, length - len(piece)
    return received


def test_what_is_no_http_is_refused(connection: socket.socket) -> None:
    connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    assert problem(read_response(connection)) == (400, "bad_request")
    assert is_closed(connection)


def test_beyond_so_many_connections_the_next_is_told_to_come_back(strict: RunningService) -> None:
    assert until(lambda: figure(strict, "open") == 0)
    strict.pool.clear()
    with ExitStack() as stack:
        held = [stack.enter_context(opened(strict)) for _ in range(CONNECTIONS_MAX)]
        with opened(strict) as one_more:
            response = read_response(one_more)
            assert b"Retry-After: 1" in response
            assert problem(response) == (503, "too_many_connections")
        held[0].sendall(GET)
        assert read_response(held[0]).startswith(b"HTTP/1.1 200")
    assert strict.request("GET", "/healthz").status == 200


@pytest.fixture(scope="module")
def ask(strict: RunningService) -> bytes:
    """The head of a request, but for its last line, whose answer is larger than what the systems keep on the way."""
    steps = np.arange(20_000)
    tags = tuple(f"tag{i}" for i in range(10))
    values = np.linspace(0.0, 1.0, 10 * len(steps)).reshape(len(steps), 10)
    columns = Columns("global_step", tags, steps, steps / 3 + 1.7e9, values)
    assert strict.report_bytes("long/run", encode_batch(Batch(columns=(columns,)))).status == 200
    return b"GET /api/v1/scalars?run=long/run&tag=* HTTP/1.1\r\nHost: localhost\r\n"


def test_a_client_that_does_not_read_its_answer_is_given_up(strict: RunningService, ask: bytes) -> None:
    for more in (b"", b"Connection: close\r\n"):
        before = figure(strict, "send_timeouts_total")
        with opened(strict, receive_bytes=4096) as connection:
            connection.sendall(ask + more + b"\r\n")
            assert until(lambda before=before: figure(strict, "send_timeouts_total") > before)  # type: ignore[misc]
        assert until(lambda: strict.parts.traffic.in_flight == 0)


def test_a_client_that_reads_slowly_but_reads_gets_all(strict: RunningService, ask: bytes) -> None:
    """For longer than a client that reads nothing is waited for."""
    with opened(strict, receive_bytes=65536) as connection:
        connection.sendall(ask + b"\r\n")
        begun = time.monotonic()
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        pause_s = 0.8 / (length / 65536)
        size = len(body)
        while size < length:
            time.sleep(pause_s)
            piece = connection.recv(min(65536, length - size))
            assert piece, f"cut after {size} of {length}"
            size += len(piece)
    assert time.monotonic() - begun > 0.6


def deaf_listener(service: RunningService, run: str) -> socket.socket:
    """A stream of GET /live that nobody reads, after so much happened that more waits than the systems keep."""
    connection = opened(service, receive_bytes=4096)
    connection.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert until(lambda: service.parts.live.listeners == 1)
    names = [f"{run}/{'n' * 150}{i}" for i in range(1900)]
    for _ in range(1000):
        for name in names:
            service.parts.live.changed(name)
        if figure(service, "paused"):
            return connection
        time.sleep(0.02)
    raise AssertionError("the systems keep more than 300 MB")


def test_a_listener_that_does_not_read_is_given_up(
    strict: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "PAUSE_S", 0.001)
    with deaf_listener(strict, run_name):
        assert until(lambda: strict.parts.live.listeners == 0)


def test_a_listener_that_does_not_read_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "PAUSE_S", 0.001)
    with ExitStack() as stack:
        with serving(Settings(data_dir=tmp_path, port=0)) as service:
            stack.enter_context(deaf_listener(service, "a"))
            begun = time.monotonic()
        assert time.monotonic() - begun < 4.0, "uvicorn waits 5 s here, 15 s in the service"

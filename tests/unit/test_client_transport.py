"""The HTTP transport against real sockets: what it sends, and how it reads what comes back."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tallyboard.delivery.transport import ANSWER_BYTES_MAX, Answer, HttpTransport, UnreachableError


class Scripted(HTTPServer):
    """Answers each request with the next (status, headers, body), and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[tuple[int, dict[str, str], bytes]] = []
        self.seen: list[tuple[str, dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Scripted
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen.append((self.path, dict(self.headers), body))
        status, headers, answer = self.server.script.pop(0)
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(answer))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as scripted:
        thread = threading.Thread(target=scripted.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield scripted
        scripted.shutdown()
        thread.join()


@pytest.fixture
def transport(server: Scripted) -> Iterator[HttpTransport]:
    made = HttpTransport(server.url, "s3cret", "tallyboard/test")
    yield made
    made.close()


def test_a_request_carries_token_type_and_body(server: Scripted, transport: HttpTransport) -> None:
    server.script += [(200, {}, b"{}"), (200, {}, b"[]")]
    assert transport.post("/api/v1/scalars/a%20b", b"\x81", "application/msgpack") == Answer(200, b"{}")
    assert transport.post("/x", b"", "application/json").body == b"[]"
    path, headers, body = server.seen[0]
    assert (path, body) == ("/api/v1/scalars/a%20b", b"\x81")
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Type"] == "application/msgpack"
    assert headers["User-Agent"] == "tallyboard/test"


@pytest.mark.parametrize(("text", "expected"), [("7", 7.0), ("86400", 300.0), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_retry_after(server: Scripted, transport: HttpTransport, text: str, expected: float | None) -> None:
    server.script.append((503, {"Retry-After": text}, b"busy"))
    assert transport.post("/x", b"", "application/json") == Answer(503, b"busy", expected)


def test_redirects_are_not_followed(server: Scripted, transport: HttpTransport) -> None:
    server.script.append((307, {"Location": server.url + "/elsewhere"}, b""))
    assert transport.post("/x", b"token", "application/json").status == 307
    assert len(server.seen) == 1


def test_an_endless_answer_is_not_read(server: Scripted, transport: HttpTransport) -> None:
    server.script += [(200, {}, b"x" * (ANSWER_BYTES_MAX + 1)), (200, {}, b"{}")]
    with pytest.raises(UnreachableError, match="bytes"):
        transport.post("/x", b"", "application/json")
    assert transport.post("/x", b"", "application/json").status == 200


def test_an_answer_cut_short_is_none(server: Scripted, transport: HttpTransport) -> None:
    server.script.append((200, {"Content-Length": "100", "Connection": "close"}, b"short"))
    with pytest.raises(UnreachableError):
        transport.post("/x", b"", "application/json")


@pytest.mark.parametrize("length", [12, 14, 17, 24, 31, 40, 55])
def test_an_answer_cut_within_its_head_is_none(length: int) -> None:
    answer = b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-length: 2\r\n\r\n{}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_answer_once, args=(listener, answer[:length]))
        thread.start()
        cut = HttpTransport(f"http://127.0.0.1:{listener.getsockname()[1]}", None, "test")
        with pytest.raises(UnreachableError):
            cut.post("/", b"x", "application/msgpack")
        thread.join()
        cut.close()


def _answer_once(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65536)
        connection.sendall(answer)


def test_nobody_there_is_said_in_few_words() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        transport = HttpTransport(f"http://127.0.0.1:{closed.getsockname()[1]}", None, "t")
        with pytest.raises(UnreachableError, match=r"^Connection refused$"):
            transport.post("/x", b"", "application/json")
        transport.close()

"""The other side of a webhook, for tests: a real HTTP server that keeps what comes, and answers as it is told."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


@dataclass
class Reply:
    """How a request is answered. hang: not at all, until the receiver ends; drip: a byte of the body now and then."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    hang: bool = False
    drip: bool = False


@dataclass
class Came:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def delivery(self) -> str:
        """Its id."""
        return self.headers["Tallyboard-Delivery"]


class Receiver:
    """`url` takes notices; `replies` are used up one by one, then `Reply()` is given."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/hook"
        self.port = port
        self.came: list[Came] = []
        self.replies: list[Reply] = []
        self.over = threading.Event()

    @property
    def notices(self) -> list[Any]:
        """All notices of all deliveries, in order, each delivery once."""
        bodies = {came.delivery: came.body for came in self.came}
        return [notice for body in bodies.values() for notice in body["notices"]]

    def titles(self, run: str | None = None) -> list[str]:
        """Of the notices, or of those of one run."""
        return [notice["title"] for notice in self.notices if run is None or notice["run"] == run]


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Listen until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.came.append(Came(self.path, dict(self.headers), msgspec.json.decode(data)))
            self._answer(receiver.replies.pop(0) if receiver.replies else Reply())

        def do_GET(self) -> None:
            receiver.came.append(Came(self.path, dict(self.headers), None))
            self._answer(Reply())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def _answer(self, reply: Reply) -> None:
            if reply.hang:
                receiver.over.wait(60.0)
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if not reply.drip:
                self.wfile.write(reply.body)
                return
            for byte in reply.body:
                if receiver.over.wait(0.05):
                    return
                try:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                except OSError:
                    return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="receiver", daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.over.set()
        server.shutdown()
        server.server_close()
        thread.join(10.0)

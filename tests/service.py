"""A real service for tests: uvicorn on a free port in a thread of its own, and a small client for it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import urllib3
import uvicorn
from fastapi import FastAPI

from tallyboard.wire import JSON, MSGPACK
from tallyboard_server.api.service import Service
from tallyboard_server.api.static import STATIC
from tallyboard_server.app import create_app
from tallyboard_server.settings import Settings

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 30.0


@dataclass
class Answer:
    """A response, read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, whichever of its two forms it has."""
        if self.headers.get("content-type", "").startswith(MSGPACK):
            return msgspec.msgpack.decode(self.body)
        return msgspec.json.decode(self.body)


@dataclass
class RunningService:
    """A service that answers at `url`; `parts` is what its routes work with."""

    url: str
    port: int
    app: FastAPI
    headers: dict[str, str] = field(default_factory=dict)
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=30.0, maxsize=16)
    )

    @property
    def parts(self) -> Service:
        """Store, ingest and the rest, as the running app has them."""
        service = self.app.state.service
        assert isinstance(service, Service)
        return service

    @property
    def logdir(self) -> Path:
        """The directory of its event files."""
        logdir = self.parts.settings.event_file_dir
        assert isinstance(logdir, Path)
        return logdir

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Any request; `path` as it goes over the wire."""
        response = self.pool.request(
            method, self.url + path, body=body, headers=self.headers | dict(headers or {}), redirect=False
        )
        return Answer(response.status, response.headers, response.data)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET a path below /api/v1."""
        return self.request("GET", f"/api/v1{path}", headers=headers)

    def send(self, method: str, path: str, document: Any) -> Answer:
        """A JSON document to a path below /api/v1."""
        return self.request(method, f"/api/v1{path}", msgspec.json.encode(document), {"Content-Type": JSON})

    def report(self, run: str, document: Any) -> Answer:
        """POST /scalars with a JSON document."""
        return self.send("POST", f"/scalars/{quote(run)}", document)

    def report_bytes(self, run: str, body: bytes, content_type: str = MSGPACK, **headers: str) -> Answer:
        """POST /scalars with any bytes; header names with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", f"/api/v1/scalars/{quote(run)}", body, {"Content-Type": content_type} | named)

    def points(self, run: str, tag: str) -> list[tuple[int, Any]]:
        """(step, value) of every visible point; [] if there is none."""
        series = self.get(f"/scalars?run={quote(run)}&tag={quote(tag)}").json()["series"]
        return [pair for s in series for pair in zip(s["points"]["step"], s["points"]["value"], strict=True)]

    def raw(self, data: bytes, *, then_close: bool = False, timeout_s: float = 15.0) -> bytes:
        """Send bytes over a socket of their own; what came back until the service closed or fell silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s) as connection:
            connection.sendall(data)
            if then_close:
                connection.shutdown(socket.SHUT_WR)
            return read_response(connection)


def until(condition: Callable[[], bool], timeout_s: float = 15.0) -> bool:
    """Whether a condition comes to hold in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def read_response(connection: socket.socket) -> bytes:
    """One response with a Content-Length, or what came before the connection closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (piece := connection.recv(65536)):
            return received
        received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = (int(lengths[0]) if lengths else 0) - len(body)
    while missing > 0 and (piece := connection.recv(missing)):
        received += piece
        missing -= len(piece)
    return received


@contextmanager
def serving(settings: Settings, *, static: Path = STATIC) -> Iterator[RunningService]:
    """Serve until the block ends; `settings.port` 0 takes a free one. static: the dashboard's files."""
    app = create_app(settings, static=static)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", settings.port))
        listener.listen(128)
        port = listener.getsockname()[1]
        config = uvicorn.Config(
            app, loop="uvloop", http=app.connections.protocol(), ws="none", lifespan="on", log_config=None,
            access_log=False, timeout_graceful_shutdown=5, proxy_headers=False, server_header=False,
        )  # fmt: skip
        server = _Announced(config, app.end_streams)
        thread = threading.Thread(target=server.run, args=([listener],), name="uvicorn")
        thread.start()
        try:
            assert server.up.wait(START_TIMEOUT_S), "the service did not start"
            assert server.started, "the service failed to start; see the log"
            service = RunningService(f"http://127.0.0.1:{port}", port, app.fastapi)
            if (token := settings.token_text) is not None:
                service.headers["Authorization"] = f"Bearer {token}"
            yield service
            service.pool.clear()
        finally:
            server.should_exit = True
            thread.join(STOP_TIMEOUT_S)
        assert not thread.is_alive(), "the service did not stop"


class _Announced(uvicorn.Server):
    """A server that says when it is up, or never will be."""

    def __init__(self, config: uvicorn.Config, at_end: Callable[[], None]) -> None:
        super().__init__(config)
        self.up = threading.Event()
        self._at_end = at_end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._at_end()
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        finally:
            self.up.set()

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super()._serve(sockets)
        finally:
            self.up.set()

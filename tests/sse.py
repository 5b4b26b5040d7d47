"""Server-sent events as a browser takes them, over a connection of their own."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from tests.service import RunningService


class Stream:
    """An open stream of events; `head` is the response's first part."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._received = b""
        self.head = self._until(b"\r\n\r\n").decode()

    def event(self) -> tuple[str, Any]:
        """The next event's name and data, comments passed over; ("", None) at the end of the stream."""
        while text := self._until(b"\n\n"):
            lines = [line for line in text.decode().splitlines() if ": " in line and not line.startswith(": ")]
            fields = dict(line.split(": ", 1) for line in lines)
            if "event" in fields:
                return fields["event"], msgspec.json.decode(fields["data"])
        return "", None

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            if not (piece := self.connection.recv(65536)):
                return b""
            self._received += piece
        found, _, self._received = self._received.partition(end)
        return found


@contextmanager
def listening(service: RunningService, query: str = "", *headers: str) -> Iterator[Stream]:
    """GET /live until the block ends."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=15.0) as connection:
        lines = [f"GET /api/v1/live{query} HTTP/1.1", f"Host: localhost:{service.port}", *headers, "", ""]
        connection.sendall("\r\n".join(lines).encode())
        yield Stream(connection)

"""Connections within bounds: how long a client may take, how much it may say before it is heard, how many may be.

Uvicorn leaves a connection open for as long as its client sends no whole request, or reads no answer, and keeps
whatever is sent as headers. Here each of these has a limit; bodies have theirs in `body`.
"""

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any, ClassVar, Final

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tallyboard.wire import Problem
from tallyboard_server.api.edge import ALWAYS
from tallyboard_server.api.problems import CONNECTION_KINDS, PROBLEM_JSON

PIPELINED_MAX: Final = 32
"""Requests that may wait on a connection for the one before them; each costs some kilobytes before it is looked at."""
SHUTDOWN_SEND_TIMEOUT_S: Final = 1.0
"""How long a reader may take nothing once the service is to end."""
SEND_BYTES_MIN: Final = 16 * 1024
"""What a reader has to take within its time if more than that waits for it: a byte now and then is no reading."""

log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class ConnectionLimits:
    """What holds for every connection; `connections_max` for all together.

    header_timeout_s: from the connection, or a request's first byte, to the end of its headers. body_timeout_s: for
    the rest of a body whose answer was sent without it. idle_timeout_s: from an answer to the next request.
    send_timeout_s: while which a client takes nothing of what waits for it. header_bytes_max: of request line and
    headers together, and of trailers.
    """

    connections_max: int = 4096
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    send_timeout_s: float = 60.0
    header_bytes_max: int = 64 * 1024


@dataclass(slots=True)
class Figures:
    """Counts of one process, for /metrics."""

    connections_open: int = 0
    connections_paused: int = 0
    connections_refused_total: int = 0
    connections_header_timeouts_total: int = 0
    connections_send_timeouts_total: int = 0
    connections_bad_total: int = 0


class Connections:
    """The connections of one service: their limits, and how many there are. Used on the event loop only."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.figures = Figures()

    def stats(self) -> Mapping[str, float]:
        """Figures for /metrics."""
        return {field.name: getattr(self.figures, field.name) for field in fields(Figures)}

    def protocol(self) -> type["Connection"]:
        """What uvicorn makes of each connection, as its `http` setting."""

        class BoundConnection(Connection):
            shared = self

        return BoundConnection


class HeadTooLargeError(Exception):
    """More bytes of request line and headers, or of trailers, than are taken."""


class TooManyPipelinedError(Exception):
    """A client that asks on and on without waiting for answers."""


class Connection(HttpToolsProtocol):
    """One connection. Timers are armed only for clients that dawdle: a request that comes whole sets none."""

    shared: ClassVar[Connections]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = self.shared.limits
        self._figures = self.shared.figures
        self.timeout_keep_alive = self._limits.idle_timeout_s  # type: ignore[assignment]  # a number of seconds
        self._send_timeout_s = self._limits.send_timeout_s
        self._arriving: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self._in_head = False
        self._in_body = False
        self._since = 0
        """Bytes since a request began or a piece of its body came: of its head, its trailers, or between chunks."""
        self._refusal = ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection on, or say that there are too many."""
        super().connection_made(transport)
        self._figures.connections_open = len(self.connections)
        if len(self.connections) > self._limits.connections_max:
            self._figures.connections_refused_total += 1
            self._end_with("too_many_connections", f"{self._limits.connections_max} connections are open; retry")
            return
        self._arriving = self.loop.call_later(self._limits.header_timeout_s, self._nothing_came)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._unset_arriving()
        self._unset_keepalive_if_required()  # uvicorn leaves it running if the connection broke
        super().connection_lost(exc)
        self._unset_sending()
        self._figures.connections_open = len(self.connections)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and begin to count the time if that was not all of a request's head."""
        if self.transport.is_closing():
            return
        self._since += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._since > self._limits.header_bytes_max:
            self._refusal = "headers_too_large"
            self.send_400_response("")
        elif self._arriving is None and not self._busy():
            wait_s = self._limits.body_timeout_s if self._in_body else self._limits.header_timeout_s
            self._arriving = self.loop.call_later(wait_s, self._nothing_came)

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._in_head = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header. Trailers are not kept: nothing reads them, and they would join the headers that were checked."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A request whose head is whole."""
        if self._since > self._limits.header_bytes_max and self._head_bytes() > self._limits.header_bytes_max:
            self._refusal = "headers_too_large"
            raise HeadTooLargeError
        if len(self.pipeline) >= PIPELINED_MAX:
            raise TooManyPipelinedError
        self._in_head, self._in_body = False, True
        self._since = 0
        self._unset_arriving()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._since = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request that is whole."""
        self._since = 0
        self._in_body = False
        self._unset_arriving()  # of the rest of a body that was answered already
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer that was handed to the system, or waits for its reader."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_reader()

    def send_400_response(self, msg: str) -> None:
        """Refuse what can't be taken for a request; not within another's answer."""
        self._figures.connections_bad_total += 1
        if self._busy() or not self._in_head:
            self.transport.abort()
        elif self._refusal:
            most = self._limits.header_bytes_max
            self._end_with(self._refusal, f"request line and headers may have {most} bytes (POST /query takes more)")
        else:
            self._end_with("bad_request", msg or "this is no HTTP request")

    def pause_writing(self) -> None:
        """More waits than the reader takes."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """The reader has caught up."""
        super().resume_writing()
        self._unset_sending()
        if self.transport.is_closing():
            self._watch_reader()

    def timeout_keep_alive_handler(self) -> None:
        """No next request came; whoever still reads the last answer has longer."""
        if self.transport.get_write_buffer_size():
            self._watch_reader()
            self.timeout_keep_alive_task = self.loop.call_later(
                self._limits.idle_timeout_s, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """End once the answer under way is sent; a reader that takes nothing is not waited for."""
        self._send_timeout_s = min(self._send_timeout_s, SHUTDOWN_SEND_TIMEOUT_S)
        super().shutdown()
        if self.transport.get_write_buffer_size():
            self._unset_sending()
            self._watch_reader()

    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _nothing_came(self) -> None:
        """Head or rest of a body took too long. A connection that never said anything is closed without a word: a
        browser opens some in advance, and would take an answer for that of its next request."""
        self._arriving = None
        if self.transport.is_closing():
            return
        self._figures.connections_header_timeouts_total += 1
        if self._in_head:
            self._end_with("header_timeout", f"the headers did not arrive within {self._limits.header_timeout_s:g} s")
        else:
            self.transport.abort()

    def _end_with(self, code: str, detail: str) -> None:
        """Say why, and close."""
        kind = CONNECTION_KINDS[code]
        problem = msgspec.json.encode(Problem(title=kind.title, status=kind.status, code=code, detail=detail))
        retry = "Retry-After: 1\r\n" if kind.status == 503 else ""
        marks = "".join(f"{name.decode()}: {value.decode()}\r\n" for name, value in ALWAYS.items())
        head = (
            f"HTTP/1.1 {kind.status} {HTTPStatus(kind.status).phrase}\r\nContent-Type: {PROBLEM_JSON}\r\n{retry}"
            f"{marks}X-Request-Id: {secrets.token_hex(8)}\r\n"
            f"Content-Length: {len(problem)}\r\nConnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + problem)
        self.transport.close()
        self._watch_reader()

    def _watch_reader(self) -> None:
        if self._sending is None and (waiting := self.transport.get_write_buffer_size()):
            self._figures.connections_paused += 1
            self._sending = self.loop.call_later(self._send_timeout_s, self._look_at_reader, waiting)

    def _look_at_reader(self, waited: int) -> None:
        """Give a reader up that has taken next to nothing since it was last looked at."""
        self._sending = None
        self._figures.connections_paused -= 1
        waiting = self.transport.get_write_buffer_size()
        if not waiting:
            return
        if waited - waiting >= SEND_BYTES_MIN:
            self._watch_reader()
            return
        self._figures.connections_send_timeouts_total += 1
        log.info("a client took nothing for %g s: its connection is broken off", self._send_timeout_s)
        self.transport.abort()

    def _unset_arriving(self) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def _unset_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
            self._figures.connections_paused -= 1

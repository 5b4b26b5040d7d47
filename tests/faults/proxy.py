"""A proxy of the tests' own between client and service, that does to requests what networks and services do.

It reads HTTP requests whole, so that each fault hits a request at a known place.
"""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, Literal

Fault = Literal[
    "none", "refuse", "drop", "delay", "duplicate", "reorder", "cut request", "cut answer", "lose answer", "storm",
    "foreign",
]  # fmt: skip
FAULTS: Final[tuple[Fault, ...]] = (
    "refuse", "drop", "delay", "duplicate", "reorder", "cut request", "cut answer", "lose answer", "storm",
    "foreign",
)  # fmt: skip
START_TIMEOUT_S: Final = 10.0
DELAY_S_MAX: Final = 0.05
HELD_S_MAX: Final = 0.3
STORM_STATUSES: Final = (500, 502, 503, 504, 429)
FOREIGN_STATUSES: Final[Sequence[int]] = (200, 302, 400, 401, 403, 404, 405, 409, 410, 413, 421, 422)
PAGE: Final = b"<html><title>Please sign in</title></html>"
UPSTREAM_TIMEOUT_S: Final = 20.0


class FaultProxy:
    """Listens on `port`. Each request meets one of `faults`, drawn by chance, with `probability`.

    refuse: the connection is closed before the request is read. drop: it never reaches the service, and no answer
    comes. delay: it is late. duplicate: the service gets it twice. reorder: the client sees the connection break, and
    the service gets the request later, after others. cut request: the service gets half of it. cut answer: the client
    gets half of it. lose answer: the service carries it out, and the connection breaks. storm: 5xx without asking it.
    foreign: a page of somebody else's, with one of `foreign_statuses`, without asking it.
    """

    def __init__(self, target_port: int, seed: int, faults: Sequence[Fault] = FAULTS, probability: float = 0.5) -> None:
        self.target_port = target_port
        self.faults = tuple(faults)
        self.probability = probability
        self.foreign_statuses = FOREIGN_STATUSES
        self.is_cut = False
        """While true, no connection lives and none is taken."""
        self.met: Counter[Fault] = Counter()
        self.port = 0
        self._chance = random.Random(seed)
        self._open: set[asyncio.StreamWriter] = set()
        self._late: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """What clients are told."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break every connection, and take none until `mend`."""
        self.is_cut = True
        assert self._loop is not None
        for writer in list(self._open):
            self._loop.call_soon_threadsafe(writer.transport.abort)

    def mend(self) -> None:
        """Take connections again."""
        self.is_cut = False

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def serve(self, up: threading.Event, stop: asyncio.Event) -> None:
        """Run until told to stop."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        up.set()
        await stop.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._late, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while not self.is_cut and (request := await _message(reader)) is not None:
                fault = self._draw()
                self.met[fault] += 1
                if not await self._meet(fault, request, writer):
                    break
        except (OSError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass  # the proxy ends, or one of the three has gone: what the faults are about
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    def _draw(self) -> Fault:
        if not self.faults or self._chance.random() >= self.probability:
            return "none"
        return self._chance.choice(self.faults)

    async def _meet(self, fault: Fault, request: bytes, writer: asyncio.StreamWriter) -> bool:
        """Do what the fault says; returns whether the connection lives on."""
        match fault:
            case "refuse":
                return False
            case "drop":
                await asyncio.sleep(HELD_S_MAX)
                return False
            case "storm":
                status = self._chance.choice(STORM_STATUSES)
                writer.write(f"HTTP/1.1 {status} Storm\r\nContent-Length: 5\r\n\r\nstorm".encode())
                await writer.drain()
                return True
            case "foreign":
                status = self._chance.choice(self.foreign_statuses)
                head = f"HTTP/1.1 {status} Foreign\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n\r\n"
                writer.write(head.encode() + PAGE)
                await writer.drain()
                return True
            case "cut request":
                await self._ask(request[: self._chance.randrange(1, len(request))], whole=False)
                return False
            case "reorder":
                self._send_later(request)
                return False
            case "duplicate":
                await self._repeat(request)
            case "delay":
                await asyncio.sleep(self._chance.uniform(0.0, DELAY_S_MAX))
        answer = await self._ask(request)
        if fault == "lose answer":
            return False
        if fault == "cut answer":
            answer = answer[: self._chance.randrange(1, len(answer))]
        writer.write(answer)
        await writer.drain()
        return fault != "cut answer"

    async def _repeat(self, request: bytes) -> None:
        """Have the service carry out a request that it is to get once more."""
        await self._ask(request)

    def _send_later(self, request: bytes, after_s: float | None = None) -> None:
        """Send it once more, without waiting for the answer. after_s: by chance, if None."""
        delay_s = self._chance.uniform(0.0, HELD_S_MAX) if after_s is None else after_s

        async def late() -> None:
            await asyncio.sleep(delay_s)
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                await self._ask(request)

        task = asyncio.ensure_future(late())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _ask(self, request: bytes, *, whole: bool = True) -> bytes:
        """The service's answer, whole; nothing if it gets but a part of the request."""
        return await self._ask_one(self.target_port, request, whole=whole)

    async def _ask_one(self, port: int, request: bytes, *, whole: bool) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            await writer.drain()
            if not whole:
                return b""
            answer = await asyncio.wait_for(_message(reader), UPSTREAM_TIMEOUT_S)
            if answer is None:
                raise ConnectionResetError("the service closed the connection")
            return answer
        finally:
            writer.transport.abort()


async def _message(reader: asyncio.StreamReader) -> bytes | None:
    """One HTTP message with a Content-Length; None at the end of the connection."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = await reader.readline()
        if not line:
            return None
        head += line
    lengths = [line.split(b":", 1)[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0]) if lengths else 0)


@contextmanager
def proxied(
    target_port: int, seed: int = 0, faults: Sequence[Fault] = FAULTS, probability: float = 0.5
) -> Iterator[FaultProxy]:
    """A proxy in a thread of its own, until the block ends."""
    with run_proxy(proxy := FaultProxy(target_port, seed, faults, probability)):
        yield proxy


@contextmanager
def run_proxy(proxy: FaultProxy) -> Iterator[None]:
    """Have a proxy work, until the block ends."""
    up, stop = threading.Event(), asyncio.Event()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(up, stop)), name="fault-proxy")
    thread.start()
    try:
        assert up.wait(START_TIMEOUT_S), "the proxy did not start"
        yield
    finally:
        assert proxy._loop is not None
        proxy._loop.call_soon_threadsafe(stop.set)
        thread.join(START_TIMEOUT_S)
    assert not thread.is_alive(), "the proxy did not stop"

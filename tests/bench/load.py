"""The load generator: many keep-alive connections in one small loop, closed (as fast as answers come) or paced."""

import gc
import heapq
import resource
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import urllib3

from tallyboard.wire import Float64
from tests.bench.streams import Request, Stream, request

HOST: Final = "127.0.0.1"
ANSWER_TIMEOUT_S: Final = 60.0
_SEND_BUFFER_BYTES: Final = 1024 * 1024
"""Asked of the system, so that a whole body leaves in one call."""
_RECEIVE_BYTES: Final = 65536
_BUSY_WAIT_S: Final = 0.05
"""Where a 503 names no time."""
_SELECT_S: Final = 0.5


@dataclass(slots=True, frozen=True)
class Plan:
    """connections: the streams that each of them serves in turn. First every stream sends one batch, which is not
    measured (it creates the run); then load runs for `seconds`, or until `scalars_max` were acknowledged.

    period_s: every stream sends one batch in each period, phases spread over it; None: as soon as the last answer
    is there. A paced answer's time counts from when its batch was due. address: which the connections come from.
    patient: waits as long as a 429 or 503 asks it to; else it asks again at once. replicas: ports of further services
    on the same store, over all of which connections are spread evenly.
    """

    port: int
    connections: tuple[tuple[Stream, ...], ...]
    seconds: float
    period_s: float | None = None
    scalars_max: int | None = None
    address: str = HOST
    patient: bool = True
    replicas: tuple[int, ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        """Of all services."""
        return (self.port, *self.replicas)


@dataclass(slots=True)
class Loaded:
    """What came of a plan. `batches`: acknowledged ones of each stream, priming included, as the plan lists them.

    begun, ended: the first measured request and the last answer, as time.perf_counter tells in every process of the
    machine; metrics: what /metrics said then, of all services. latencies: seconds; acked_at: seconds since `begun`;
    scalars: in each acknowledged batch. cpu_s: of this process. busy: answers 429 and 503. errors: other answers.
    """

    batches: list[list[int]]
    priming_s: float
    priming_latencies: Float64
    begun: float
    ended: float
    metrics: tuple[str, str]
    latencies: Float64
    acked_at: Float64
    scalars: int
    cpu_s: float
    busy: int
    errors: dict[str, int]

    @property
    def seconds(self) -> float:
        """How long load was measured."""
        return self.ended - self.begun

    @property
    def scalars_total(self) -> int:
        """Acknowledged while measured."""
        return self.scalars * len(self.latencies)

    @property
    def rate(self) -> float:
        """Scalars a second, from the first request to the last acknowledgement."""
        return self.scalars_total / self.seconds if self.seconds else 0.0

    def by_second(self) -> list[int]:
        """Scalars acknowledged in each second."""
        batches: list[int] = np.bincount(self.acked_at.astype(np.int64)).tolist()
        return [count * self.scalars for count in batches]

    def rate_of(self, first: float, last: float) -> float:
        """Scalars a second in a part of what was acknowledged: rate_of(0.9, 1.0) for the last tenth."""
        count = len(self.acked_at)
        low, high = int(first * count), int(last * count) - 1
        if high <= low:
            return 0.0
        return float(self.scalars * (high - low) / (self.acked_at[high] - self.acked_at[low]))


@dataclass(slots=True)
class _Connection:
    """One connection: its streams' requests, and the one in flight."""

    sock: socket.socket
    requests: list[Request]
    acked: list[int]
    turn: int = -1
    due: float = 0.0
    begun: float = 0.0
    pending: bytearray | None = None
    received: bytearray = field(default_factory=bytearray)

    def send(self, now: float, paced: bool) -> None:
        """Send the next stream's batch, or the one that was answered by 503 again."""
        if self.pending is None:
            self.turn = (self.turn + 1) % len(self.requests)
            self.pending = self.requests[self.turn].advance()
            self.begun = self.due if paced else now
        self.sock.sendall(self.pending)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and whole answer, once it is complete. Raises ConnectionError if the other side closed."""
        if not (piece := self.sock.recv(_RECEIVE_BYTES)):
            raise ConnectionError("the service closed a connection")
        self.received += piece
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.received[:end]).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(self.received) < end + 4 + length:
            return None
        answer = bytes(self.received)
        self.received.clear()
        return int(answer[9:12]), answer


class _Loop:
    """Drives connections through one phase. Nothing more is sent after an answer that is neither 200, 429 nor 503."""

    def __init__(
        self, connections: Sequence[_Connection], scalars_max: int | None, scalars: int, *, patient: bool = True
    ) -> None:
        self._connections = connections
        self._patient = patient
        self._selector = selectors.DefaultSelector()
        for index, connection in enumerate(connections):
            self._selector.register(connection.sock, selectors.EVENT_READ, index)
        self._batches_max = None if scalars_max is None else max(1, scalars_max // scalars)
        self.latencies: list[float] = []
        self.acked_at: list[float] = []
        self.busy = 0
        self.errors: Counter[str] = Counter()

    def prime(self) -> float:
        """One batch of every stream; returns how long that took."""
        begun = time.perf_counter()
        most = max(len(connection.requests) for connection in self._connections)
        left = [len(connection.requests) for connection in self._connections]

        def more(index: int, now: float) -> float | None:
            left[index] -= 1
            return now if left[index] > 0 else None

        self._drive([(begun, i) for i in range(len(left))], more, begun + most * ANSWER_TIMEOUT_S, paced=False)
        return time.perf_counter() - begun

    def run(self, seconds: float, period_s: float | None) -> tuple[float, float]:
        """Load for so long; returns when it began and when the last answer was there."""
        begun = time.perf_counter()
        end = begun + seconds
        count = len(self._connections)
        starts = [(begun + (period_s or 0.0) * index / count, index) for index in range(count)]
        for due, index in starts:
            self._connections[index].due = due

        def more(index: int, now: float) -> float | None:
            if self._batches_max is not None and len(self.latencies) + count > self._batches_max:
                return None
            if period_s is None:
                return now if now < end else None
            connection = self._connections[index]
            connection.due += period_s
            return connection.due if connection.due < end else None

        self._drive(starts, more, end + ANSWER_TIMEOUT_S, paced=period_s is not None)
        return begun, begun + (self.acked_at[-1] if self.acked_at else 0.0)

    def _drive(
        self,
        starts: list[tuple[float, int]],
        more: Callable[[int, float], float | None],
        give_up: float,
        *,
        paced: bool,
    ) -> None:
        """Send what is due and take answers until nothing is due and nothing in flight."""
        begun = starts[0][0] if starts else 0.0
        waiting = list(starts)
        heapq.heapify(waiting)
        in_flight = 0
        while waiting or in_flight:
            now = time.perf_counter()
            if now > give_up:
                raise TimeoutError(f"{in_flight} requests were not answered in time")
            while waiting and waiting[0][0] <= now:
                _, index = heapq.heappop(waiting)
                self._connections[index].send(now, paced)
                in_flight += 1
            wait_s = max(0.0, waiting[0][0] - now) if waiting else _SELECT_S
            for key, _ in self._selector.select(min(wait_s, _SELECT_S)):
                index = key.data
                if (answer := self._connections[index].receive()) is None:
                    continue
                in_flight -= 1
                again = self._answered(self._connections[index], *answer, begun=begun)
                now = time.perf_counter()
                at = more(index, now) if again is None else again if again < give_up else None
                if at is not None and not self.errors:
                    heapq.heappush(waiting, (at, index))

    def _answered(self, connection: _Connection, status: int, answer: bytes, *, begun: float) -> float | None:
        """Count an answer; returns when to send the same batch again, if it was told to."""
        now = time.perf_counter()
        if status in (429, 503):
            self.busy += 1
            return now + _retry_after_s(answer) if self._patient else now
        connection.pending = None
        if status == 200:
            connection.acked[connection.turn] += 1
            self.latencies.append(now - connection.begun)
            self.acked_at.append(now - begun)
        else:
            self.errors[_problem(status, answer)] += 1
        return None


def generate(plan: Plan) -> Loaded:
    """Carry out a plan; to be called in a process of its own."""
    connections = [_connect(plan, streams, index) for index, streams in enumerate(plan.connections)]
    scalars = plan.connections[0][0].scalars
    try:
        gc.freeze()
        gc.disable()
        priming = _Loop(connections, None, scalars)
        priming_s = priming.prime()
        loop = _Loop(connections, plan.scalars_max, scalars, patient=plan.patient)
        metrics_then = _metrics(plan)
        cpu_then = _cpu_s()
        begun, ended = loop.run(plan.seconds, plan.period_s)
        cpu_s = _cpu_s() - cpu_then
        return Loaded(
            batches=[connection.acked for connection in connections],
            priming_s=priming_s,
            priming_latencies=np.array(priming.latencies),
            begun=begun,
            ended=ended,
            metrics=(metrics_then, _metrics(plan)),
            latencies=np.array(loop.latencies),
            acked_at=np.array(loop.acked_at),
            scalars=scalars,
            cpu_s=cpu_s,
            busy=priming.busy + loop.busy,
            errors=dict(priming.errors + loop.errors),
        )
    finally:
        for connection in connections:
            connection.sock.close()


def _metrics(plan: Plan) -> str:
    """Of all services, one after the other."""
    with urllib3.PoolManager(retries=False, timeout=ANSWER_TIMEOUT_S) as pool:
        return "".join(pool.request("GET", f"http://{HOST}:{port}/metrics").data.decode() for port in plan.ports)


def _connect(plan: Plan, streams: Sequence[Stream], index: int) -> _Connection:
    port = plan.ports[index % len(plan.ports)]
    sock = socket.create_connection((HOST, port), ANSWER_TIMEOUT_S, (plan.address, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    requests = [request(stream, f"{HOST}:{port}", 1000 * index + i) for i, stream in enumerate(streams)]
    return _Connection(sock, requests, [0] * len(streams))


def _retry_after_s(answer: bytes) -> float:
    value = answer.partition(b"\r\n\r\n")[0].lower().partition(b"\r\nretry-after:")[2].split(b"\r\n", 1)[0].strip()
    return float(value) if value.isdigit() else _BUSY_WAIT_S


def _problem(status: int, answer: bytes) -> str:
    """What an error says, shortened: it goes into the table."""
    body = answer.partition(b"\r\n\r\n")[2]
    return f"{status}: {body[:300].decode(errors='replace')}"


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime

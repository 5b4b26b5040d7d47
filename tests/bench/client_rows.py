"""Rows of the Python client: what `log` costs the training loop, and how much gets from there to the disk."""

import time
from dataclasses import dataclass
from typing import Final

import numpy as np

from tallyboard.wire import Float64
from tests.bench.plan import Bench
from tests.bench.readback import Sent, read_back
from tests.bench.result import Goal, Latency, Row
from tests.bench.service import Span, serving
from tests.bench.streams import tags
from tests.bench.workers import in_process

_TIMEOUT_S: Final = 180.0
_FLUSH_TIMEOUT_S: Final = 60.0
_WAITING_MAX: Final = 100_000
"""Reports of ten scalars that wait for the sender: 16 of the 64 MB that the client holds before it drops any."""
_CALLS_AT_ONCE: Final = 1_000
_VARIANTS: Final = 256
_CALL_GOAL: Final = 1 / 100
_STREAM_GOAL: Final = 60.0
_ADD_SCALAR_GOAL: Final = 1 / 20


@dataclass(slots=True, frozen=True)
class Logged:
    """What a client did. mean_s: of a call in an untimed loop; calls: seconds of single calls, each timed.

    reports were logged, dropped of them given up; begun, ended: the first call, and all of it on the server's disk.
    """

    run: str
    reports: int
    dropped: int
    mean_s: float
    calls: Float64
    begun: float
    ended: float
    cpu_s: float


def client_log(bench: Bench) -> Row:
    """run.log of ten scalars against ten add_scalar calls."""
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        before = service.figures()
        logged = in_process(_TIMEOUT_S, log_calls, service.url, bench.sizes.client_calls)
        span = Span(logged.begun, logged.ended, before, service.figures(), logged.cpu_s)
        usage = service.usage(span)
        stored = read_back(service, [Sent(logged.run, "global_step", tags(10), logged.reports)])
    row = Row(
        "client-log",
        f"run.log of ten scalars, {logged.reports:,} calls, the sender at work beside it",
        rate=1 / logged.mean_s,
        unit="calls/s",
        latency=Latency.of(logged.calls),
        usage=usage,
        stored=stored,
        notes=[f"{logged.mean_s * 1e6:.2f} µs a call; p50 and p99 hold the clock's own 0.1 µs"],
        details={"mean_s": logged.mean_s, "dropped": logged.dropped},
    )
    if bench.baseline_call_s:
        share = logged.mean_s / (10 * bench.baseline_call_s)
        row.goals.append(Goal("≤ 1/100 of ten add_scalar", f"1/{1 / share:.0f}", share <= _CALL_GOAL))
    return row


def add_scalar(bench: Bench) -> Row:
    """SummaryWriter.add_scalar against tensorboardX's, in the same loop."""
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        before = service.figures()
        logged = in_process(_TIMEOUT_S, add_scalars, service.url, bench.sizes.client_calls)
        span = Span(logged.begun, logged.ended, before, service.figures(), logged.cpu_s)
        usage = service.usage(span)
        reports = logged.reports // 10
        stored = read_back(service, [Sent(logged.run, f"tag:{tag}", (tag,), reports) for tag in tags(10)])
    row = Row(
        "add-scalar",
        f"SummaryWriter.add_scalar, {logged.reports:,} calls on ten tags, the sender at work beside it",
        rate=1 / logged.mean_s,
        unit="calls/s",
        usage=usage,
        stored=stored,
        notes=[f"{logged.mean_s * 1e6:.2f} µs a call"],
        details={"mean_s": logged.mean_s, "dropped": logged.dropped},
    )
    if bench.baseline_call_s:
        share = logged.mean_s / bench.baseline_call_s
        row.goals.append(Goal("≤ 1/20 of tensorboardX's", f"1/{1 / share:.0f}", share <= _ADD_SCALAR_GOAL))
    return row


def client_stream(bench: Bench) -> Row:
    """A training that does nothing but log, through the real client, until all is on the server's disk."""
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        before = service.figures()
        logged = in_process(_TIMEOUT_S, log_for, service.url, bench.sizes.client_s)
        span = Span(logged.begun, logged.ended, before, service.figures(), logged.cpu_s)
        usage = service.usage(span)
        stored = read_back(service, [Sent(logged.run, "global_step", tags(10), logged.reports)])
    rate = 10 * logged.reports / (logged.ended - logged.begun)
    row = Row(
        "client-stream",
        "one Python client logging ten scalars a call, until all is on the server's disk",
        rate=rate,
        ratio=bench.ratio(rate),
        usage=usage,
        stored=stored,
        details={"dropped": logged.dropped, "reports": logged.reports},
    )
    row.goal_ratio(_STREAM_GOAL)
    row.goals.append(Goal("0 dropped", str(logged.dropped), not logged.dropped))
    return row


def log_calls(url: str, calls: int) -> Logged:
    """Half of the calls in a loop that is timed as a whole, then half of them timed one by one."""
    import tallyboard

    half = calls // 2
    timed = np.zeros(half, np.int64)
    reports = variants()
    clock = time.perf_counter_ns
    with tallyboard.init("bench/client-log", url=url, strict=True) as run:
        cpu_then = time.process_time()
        begun = time.perf_counter()
        for step in range(1, half + 1):
            run.log(reports[step % _VARIANTS], step)
        mean_s = (time.perf_counter() - begun) / half
        for i in range(half):
            scalars = reports[i % _VARIANTS]
            before = clock()
            run.log(scalars, half + 1 + i)
            timed[i] = clock() - before
        delivered = run.flush(_FLUSH_TIMEOUT_S)
        ended = time.perf_counter()
        cpu_s = time.process_time() - cpu_then
        dropped = run.stats().dropped_reports
    if not delivered:
        raise TimeoutError("the client could not deliver in time")
    return Logged("bench/client-log", 2 * half, dropped, mean_s, (timed * 1e-9).astype(np.float64), begun, ended, cpu_s)


def add_scalars(url: str, calls: int) -> Logged:
    """The loop of the baseline (`local_rows.add_scalars`), with steps from 1 on."""
    import tallyboard

    named = tags(10)
    calls -= calls % 10
    with tallyboard.SummaryWriter("bench/add-scalar", url=url, strict=True) as writer:
        cpu_then = time.process_time()
        begun = time.perf_counter()
        for i in range(calls):
            writer.add_scalar(named[i % 10], 0.5 + i, i // 10 + 1)
        mean_s = (time.perf_counter() - begun) / calls
        delivered = writer.run.flush(_FLUSH_TIMEOUT_S)
        ended = time.perf_counter()
        cpu_s = time.process_time() - cpu_then
        dropped = writer.run.stats().dropped_reports
    if not delivered:
        raise TimeoutError("the client could not deliver in time")
    return Logged("bench/add-scalar", calls, dropped, mean_s, np.zeros(0), begun, ended, cpu_s)


def log_for(url: str, seconds: float) -> Logged:
    """Log as fast as the client's buffer empties, for so many seconds."""
    import tallyboard

    reports = variants()
    step = 0
    with tallyboard.init("bench/client-stream", url=url, strict=True) as run:
        cpu_then = time.process_time()
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            for _ in range(_CALLS_AT_ONCE):
                step += 1
                run.log(reports[step % _VARIANTS], step)
            while run.stats().waiting > _WAITING_MAX:
                time.sleep(0.001)
        delivered = run.flush(_FLUSH_TIMEOUT_S)
        ended = time.perf_counter()
        cpu_s = time.process_time() - cpu_then
        dropped = run.stats().dropped_reports
    if not delivered:
        raise TimeoutError("the client could not deliver in time")
    mean_s = (ended - begun) / step
    return Logged("bench/client-stream", step, dropped, mean_s, np.zeros(0), begun, ended, cpu_s)


def variants() -> list[dict[str, float]]:
    """Reports of ten scalars with different values."""
    rng = np.random.default_rng(0)
    return [dict(zip(tags(10), rng.normal(size=10).tolist(), strict=True)) for _ in range(_VARIANTS)]

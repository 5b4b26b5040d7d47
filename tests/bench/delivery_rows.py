"""Rows of delivery: what an absent service costs a training, how fast a spool fills and drains, how a run ends."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tallyboard.wire import Float64
from tallyboard_server.cli.demo.process import free_port
from tests.bench.client_rows import variants
from tests.bench.load import HOST
from tests.bench.plan import Bench
from tests.bench.readback import Sent, read_back
from tests.bench.result import Goal, Latency, Row
from tests.bench.service import Service, Span, serving
from tests.bench.streams import tags
from tests.bench.workers import in_process

_TIMEOUT_S: Final = 300.0
_FLUSH_TIMEOUT_S: Final = 60.0
_WARM_CALLS: Final = 1_000
_CALLS_AT_ONCE: Final = 100
_PAUSE_S: Final = 0.001
"""Between so many calls, as a training computes: the sender is at work beside the calls that are timed."""
_KEPT_CALLS: Final = 20_000
"""Between two waits for the disk, when it is about the spool: 4 of the 64 MB that the client holds in memory."""
_GONE_TIMEOUT_S: Final = 0.1
_MIB: Final = 1024**2
EQUAL: Final = 1.25
"""What counts as the same cost: single tries of the same thing differ by about as much."""
BOUND_S: Final = 2.0
_OVERTIME: Final = 1.1


@dataclass(slots=True, frozen=True)
class Called:
    """calls: seconds of each timed call; begun, ended: the first, and all of it on a disk (time.perf_counter)."""

    sent: Sent
    calls: Float64
    begun: float
    ended: float
    cpu_s: float

    @property
    def mean_us(self) -> float:
        """Of a call."""
        return float(self.calls.mean()) * 1e6

    def percentile_us(self, percent: float) -> float:
        """Of a call."""
        return float(np.percentile(self.calls, percent)) * 1e6


_FIGURES: Final[dict[str, Callable[[Called], float]]] = {
    "mean": lambda called: called.mean_us,
    "p50": lambda called: called.percentile_us(50),
    "p99": lambda called: called.percentile_us(99),
}


# ── run.log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def log_away(bench: Bench) -> Row:
    """run.log while no service answers against run.log while one does, in turns; afterwards all of it is delivered."""
    calls, repeats = bench.sizes.away_calls, bench.sizes.away_repeats
    up: list[Called] = []
    down: list[Called] = []
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        spool = folder / "spool"
        before = service.figures()
        begun = time.perf_counter()
        for i in range(repeats):
            up.append(in_process(_TIMEOUT_S, log_paced, service.url, calls, f"bench/up-{i}", str(spool), away=False))
            nobody = f"http://{HOST}:{free_port(HOST)}"
            down.append(in_process(_TIMEOUT_S, log_paced, nobody, calls, f"bench/down-{i}", str(spool), away=True))
        _deliver(service, spool)
        span = Span(begun, time.perf_counter(), before, service.figures(), sum(c.cpu_s for c in (*up, *down)))
        usage = service.usage(span)
        stored = read_back(service, [called.sent for called in (*up, *down)])
    best = min(down, key=lambda called: called.mean_us)
    row = Row(
        "log-away",
        f"run.log of ten scalars while the service is down, {calls:,} calls; the best of {repeats}",
        rate=1e6 / best.mean_us,
        unit="calls/s",
        latency=Latency.of(best.calls),
        usage=usage,
        stored=stored,
    )
    for name, figure in _FIGURES.items():
        there, away = min(map(figure, up)), min(map(figure, down))
        row.details[name] = {"up_us": there, "down_us": away}
        row.notes.append(f"{name} {away:.2f} µs a call while the service is down, {there:.2f} µs while it is up")
        row.goals.append(Goal(f"{name} ≤ {EQUAL:g}× of while it is up", f"{away / there:.2f}×", away <= EQUAL * there))
    return row


def log_paced(url: str, calls: int, name: str, spool_dir: str, *, away: bool) -> Called:
    """Time each call; between them the sender sends, or (away) puts into a spool, which is there from the beginning."""
    import tallyboard

    reports, times, clock = variants(), np.zeros(calls, np.int64), time.perf_counter_ns
    exit_timeout_s = _GONE_TIMEOUT_S if away else _FLUSH_TIMEOUT_S
    with tallyboard.init(name, url=url, strict=True, spool_dir=spool_dir, exit_timeout_s=exit_timeout_s) as run:
        for step in range(1, _WARM_CALLS + 1):
            run.log(reports[step % len(reports)], step)
        kept = run.flush(_FLUSH_TIMEOUT_S, kept=away)
        cpu_then = time.process_time()
        begun = time.perf_counter()
        for i in range(calls):
            scalars = reports[i % len(reports)]
            before = clock()
            run.log(scalars, _WARM_CALLS + 1 + i)
            times[i] = clock() - before
            if i % _CALLS_AT_ONCE == 0:
                time.sleep(_PAUSE_S)
        kept = run.flush(_FLUSH_TIMEOUT_S, kept=away) and kept
        ended, cpu_s = time.perf_counter(), time.process_time() - cpu_then
        _check(kept, run.stats().dropped_reports)
    sent = Sent(name, "global_step", tags(10), _WARM_CALLS + calls)
    return Called(sent, (times * 1e-9).astype(np.float64), begun, ended, cpu_s)


# ── the spool ────────────────────────────────────────────────────────────────────────────────────────────────────────


def spool(bench: Bench) -> list[Row]:
    """How fast a training's reports get to its own disk, and from there to a service."""
    calls = bench.sizes.spool_calls
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        nobody = f"http://{HOST}:{free_port(HOST)}"
        filled = in_process(_TIMEOUT_S, fill, nobody, calls, "bench/spool", str(folder / "spool"))
        spool_bytes = sum(path.stat().st_size for path in (folder / "spool").rglob("*") if path.is_file())
        before = service.figures()
        drained = _deliver(service, folder / "spool")
        span = Span(drained.begun, drained.ended, before, service.figures(), drained.cpu_s)
        usage = service.usage(span)
        stored = read_back(service, [filled.sent])
    rows = []
    for name, what, seconds in (
        ("spool-write", "one Python client while the service is down, until synced to its spool", _length(filled)),
        ("spool-drain", "`tallyboard sync` of that spool, until all is on the service's disk", _length(drained)),
    ):
        rate = 10 * calls / seconds
        row = Row(name, what, rate=rate, ratio=bench.ratio(rate))
        row.notes.append(f"{spool_bytes / seconds / _MIB:.1f} MiB/s, {spool_bytes / (10 * calls):.1f} bytes a scalar")
        row.details |= {"reports": calls, "seconds": seconds, "spool_bytes": spool_bytes}
        rows.append(row)
    rows[1].usage, rows[1].stored = usage, stored
    return rows


def fill(url: str, calls: int, name: str, spool_dir: str) -> Called:
    """Log as fast as the disk takes it."""
    import tallyboard

    reports = variants()
    with tallyboard.init(name, url=url, strict=True, spool_dir=spool_dir, exit_timeout_s=_GONE_TIMEOUT_S) as run:
        cpu_then = time.process_time()
        begun = time.perf_counter()
        kept = True
        for step in range(1, calls + 1):
            run.log(reports[step % len(reports)], step)
            if step % _KEPT_CALLS == 0 or step == calls:
                kept = run.flush(_FLUSH_TIMEOUT_S, kept=True) and kept
        ended, cpu_s = time.perf_counter(), time.process_time() - cpu_then
        _check(kept, run.stats().dropped_reports)
    return Called(Sent(name, "global_step", tags(10), calls), np.zeros(0), begun, ended, cpu_s)


def drain(url: str, spool_dir: str) -> Called:
    """Send all that is in a spool dir."""
    import tallyboard

    cpu_then = time.process_time()
    begun = time.perf_counter()
    left = [result for result in tallyboard.sync(spool_dir, url=url) if not result.done]
    ended, cpu_s = time.perf_counter(), time.process_time() - cpu_then
    if left:
        raise RuntimeError(f"not all was sent: {left}")
    return Called(Sent("", "", (), 0), np.zeros(0), begun, ended, cpu_s)


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def finish(bench: Bench) -> list[Row]:
    """How long finish() takes when all is sent, and when the service hangs."""
    tries = bench.sizes.finishes
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        before = service.figures()
        begun = time.perf_counter()
        place = service.url, str(folder / "spool"), tries
        idle = in_process(_TIMEOUT_S, finish_idle, *place)
        hanging = in_process(_TIMEOUT_S, finish_hanging, *place, service.process.pid)
        _deliver(service, folder / "spool")
        usage = service.usage(Span(begun, time.perf_counter(), before, service.figures()))
        stored = read_back(service, [one.sent for one in (*idle, *hanging)])
    first = _finished("finish-idle", "run.finish() when all but its own status is sent", idle)
    second = _finished(
        "finish-hanging", f"run.finish() of {BOUND_S:g} s with the service hanging; the rest stays on disk", hanging
    )
    if second.latency is not None:
        longest_s = second.latency.max_ms / 1e3
        second.goals.append(
            Goal(
                f"≤ {_OVERTIME:g}× the {BOUND_S:g} s asked for", f"{longest_s:.2f} s", longest_s <= _OVERTIME * BOUND_S
            )
        )
    for row in (first, second):
        row.usage, row.stored = usage, stored
    return [first, second]


def finish_idle(url: str, spool_dir: str, tries: int) -> list[Called]:
    """Runs that end with nothing waiting."""
    return [_one_finish(url, spool_dir, f"bench/idle-{i}", _WARM_CALLS, None) for i in range(tries)]


def finish_hanging(url: str, spool_dir: str, tries: int, service_pid: int) -> list[Called]:
    """Runs that end with reports waiting, while the service is stopped and goes on afterwards."""
    return [_one_finish(url, spool_dir, f"bench/hanging-{i}", 2 * _WARM_CALLS, service_pid) for i in range(tries)]


def _one_finish(url: str, spool_dir: str, name: str, calls: int, hangs: int | None) -> Called:
    import tallyboard

    reports = variants()
    run = tallyboard.init(name, url=url, strict=True, spool_dir=spool_dir, exit_timeout_s=BOUND_S)
    for step in range(1, _WARM_CALLS + 1):
        run.log(reports[step % len(reports)], step)
    _check(run.flush(_FLUSH_TIMEOUT_S), run.stats().dropped_reports)
    try:
        if hangs is not None:
            os.kill(hangs, signal.SIGSTOP)
        for step in range(_WARM_CALLS + 1, calls + 1):
            run.log(reports[step % len(reports)], step)
        begun = time.perf_counter()
        run.finish()
        ended = time.perf_counter()
    finally:
        if hangs is not None:
            os.kill(hangs, signal.SIGCONT)
    return Called(Sent(name, "global_step", tags(10), calls), np.array([ended - begun]), begun, ended, 0.0)


def _finished(name: str, what: str, finishes: list[Called]) -> Row:
    seconds = np.concatenate([called.calls for called in finishes])
    latency = Latency.of(seconds)
    return Row(name, what, rate=60 / float(seconds.mean()), unit="ends/min", latency=latency, judged_by="p99")


def _deliver(service: Service, spool_dir: Path) -> Called:
    return in_process(_TIMEOUT_S, drain, service.url, str(spool_dir))


def _length(called: Called) -> float:
    return called.ended - called.begun


def _check(kept: bool, dropped: int) -> None:
    if not kept or dropped:
        raise TimeoutError(f"the client could not deliver or keep everything in time; {dropped} reports were dropped")

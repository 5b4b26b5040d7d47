"""Everything at once for half an hour, and what grows meanwhile: memory, open files, threads, disk."""

import argparse
import itertools
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import psutil
import urllib3

from tallyboard.wire import JSON
from tests.bench.load import HOST
from tests.bench.machine import statement
from tests.bench.plan import prepared
from tests.bench.service import Service, serving
from tests.bench.sizes import QUICK
from tests.bench.streams import tags
from tests.bench.table import MB

SECONDS: Final = 1800.0
JOBS: Final = 8
JOB_S: Final = 15.0
"""How long a job lasts; then another takes its place under a new name."""
REPORT_S: Final = 0.2
RUNS_KEPT: Final = 64
"""Of older ones each is deleted when a new one begins, so that nothing has a reason to grow for ever."""
READERS: Final = 3
READ_S: Final = 0.25
LISTENERS: Final = 4
LISTEN_S: Final = 10.0
SAMPLE_S: Final = 1.0
WARM_SHARE: Final = 0.4
"""Of the time that is not looked at: caches fill, and runs come to their number."""
GROWTH_MB_H_MAX: Final = 20.0
_GONE: Final = (404, 410)
"""What a reader may be told of a run that was deleted before its question came."""
_TIMEOUT: Final = urllib3.Timeout(connect=10.0, read=60.0)


@dataclass(slots=True, frozen=True)
class Look:
    """The service at one moment. at: seconds since the load began; log_bytes: the write-ahead log, which comes and
    goes, and is not among disk_bytes.
    """

    at: float
    rss_bytes: int
    descriptors: int
    threads: int
    disk_bytes: int
    log_bytes: int


@dataclass
class Soak:
    """Load on one service, and what was seen of it."""

    service: Service
    seconds: float
    stop: threading.Event = field(default_factory=threading.Event)
    counts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    looks: list[Look] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def ask(self, pool: urllib3.PoolManager, method: str, path: str, document: Any = None, *fine: int) -> bytes:
        """One request, counted; `fine` statuses are no errors."""
        body = None if document is None else msgspec.json.encode(document)
        headers = {} if body is None else {"Content-Type": JSON}
        kind = f"{method} {path.partition('?')[0].split('/soak')[0]}"
        try:
            answer = pool.request(method, f"{self.service.url}{path}", body=body, headers=headers)
        except urllib3.exceptions.HTTPError as error:
            self.note(self.errors, f"{kind}: {type(error).__name__}")
            return b""
        self.note(self.counts, kind)
        if answer.status >= 300 and answer.status not in fine:
            self.note(self.errors, f"{kind}: {answer.status} {answer.data[:200].decode(errors='replace')}")
        return answer.data

    def note(self, counter: "Counter[str]", what: str) -> None:
        """Count something, from any thread."""
        with self._lock:
            counter[what] += 1

    def begin_run(self) -> tuple[str, str | None]:
        """A name that no run had, and one whose time is over."""
        with self._lock:
            name = f"soak/job{next(self._numbers):05d}"
            self.runs.append(name)
            return name, self.runs.pop(0) if len(self.runs) > RUNS_KEPT else None

    def some_run(self, rng: random.Random) -> str | None:
        """A run that is there, unless it is deleted in this moment."""
        with self._lock:
            return rng.choice(self.runs) if self.runs else None


def job(soak: Soak, rng: random.Random) -> None:
    """Trainings, one after the other: each reports, goes back once, reports on, and is finished."""
    with urllib3.PoolManager(retries=False, timeout=_TIMEOUT) as pool:
        while not soak.stop.is_set():
            name, old = soak.begin_run()
            soak.ask(pool, "PUT", f"/api/v1/runs/{name}", {"config": {"lr": rng.random(), "layers": rng.randint(1, 9)}})
            if old is not None:
                soak.ask(pool, "DELETE", f"/api/v1/runs/{old}")
            _train(soak, pool, name, rng)
            change = {"status": rng.choice(["finished", "failed"]), "summary": {"best": rng.random()}}
            soak.ask(pool, "PATCH", f"/api/v1/runs/{name}", change)


def _train(soak: Soak, pool: urllib3.PoolManager, name: str, rng: random.Random) -> None:
    end = time.monotonic() + min(JOB_S, soak.seconds / 4) * rng.uniform(0.7, 1.3)
    back_at = end - JOB_S / 3
    step = 0
    while not soak.stop.is_set() and (now := time.monotonic()) < end:
        if now > back_at:
            step = max(0, step - 20)
            soak.ask(pool, "POST", f"/api/v1/rewind/{name}", {"next_steps": {"global_step": step + 1}})
            back_at = end + 1
        reports = [{"step": step + i, "scalars": {tag: rng.random() for tag in tags(10)}} for i in range(1, 11)]
        soak.ask(pool, "POST", f"/api/v1/scalars/{name}", {"reports": reports})
        step += 10
        soak.stop.wait(REPORT_S)
    soak.ask(pool, "POST", f"/api/v1/heartbeat/{name}", {})


def reader(soak: Soak, rng: random.Random) -> None:
    """People and programs: tables, charts, exports, TensorBoard."""
    tag = tags(1)[0]
    with urllib3.PoolManager(retries=False, timeout=_TIMEOUT) as pool:
        asks: list[Callable[[str], bytes]] = [
            lambda run: soak.ask(pool, "GET", f"/api/v1/scalars?run={run}&tag=*&buckets=100", None, *_GONE),
            lambda _: soak.ask(pool, "GET", f"/api/v1/scalars?run=soak/*&tag={tag}&buckets=50", None, 503),
            lambda _: soak.ask(pool, "GET", "/api/v1/runs?columns=config.lr,summary.best&sort=-config.lr", None, 503),
            lambda run: soak.ask(pool, "GET", f"/api/v1/runs/{run}", None, *_GONE),
            lambda run: soak.ask(pool, "GET", f"/api/v1/export/{run}?format=csv", None, *_GONE),
            lambda _: soak.ask(pool, "GET", "/tensorboard/data/plugin/scalars/tags"),
            lambda _: soak.ask(pool, "GET", "/metrics"),
            lambda _: soak.ask(pool, "GET", "/"),
        ]
        while not soak.stop.wait(READ_S):
            if (run := soak.some_run(rng)) is not None:
                rng.choice(asks)(run)


def listener(soak: Soak, rng: random.Random, *, deaf: bool) -> None:
    """A page that stays open for a while, hears what changes, and is closed; or one that never reads."""
    while not soak.stop.is_set():
        with suppress(TimeoutError), socket.create_connection((HOST, soak.service.port), timeout=1.0) as connection:
            connection.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            end = time.monotonic() + LISTEN_S * rng.uniform(0.5, 1.5)
            while not soak.stop.is_set() and time.monotonic() < end:
                if deaf:
                    soak.stop.wait(1.0)
                elif not (piece := connection.recv(65536)):
                    soak.note(soak.errors, "GET /live: the service ended it")
                    break
                else:
                    soak.note(soak.counts, "events heard" if b"changed" in piece else "other of /live")


def look(soak: Soak, begun: float) -> None:
    """Sample the service until the end."""
    process = soak.service.process
    while not soak.stop.wait(SAMPLE_S):
        with process.oneshot():
            rss, descriptors, threads = process.memory_info().rss, process.num_fds(), process.num_threads()
        log = soak.service.log.stat().st_size
        disk = _disk_bytes(soak.service.data_dir) - log
        soak.looks.append(Look(time.monotonic() - begun, rss, descriptors, threads, disk, log))


def _disk_bytes(folder: Path) -> int:
    """Of all files, though some go while they are looked at."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(directory, name)).st_size  # noqa: PTH116, PTH118 - thousands a second
    return total


def soaked(service: Service, seconds: float) -> Soak:
    """Load for so long."""
    soak = Soak(service, seconds)
    work: list[tuple[Callable[..., None], Mapping[str, Any]]] = [
        *((job, {}) for _ in range(JOBS)),
        *((reader, {}) for _ in range(READERS)),
        *((listener, {"deaf": number == 0}) for number in range(LISTENERS)),
    ]
    begun = time.monotonic()
    threads = [threading.Thread(target=_noting, args=(soak, look, begun), daemon=True)]
    for number, (function, options) in enumerate(work):
        threads.append(
            threading.Thread(target=_noting, args=(soak, function, random.Random(number)), kwargs=options, daemon=True)
        )
    for thread in threads:
        thread.start()
    soak.stop.wait(seconds)
    soak.stop.set()
    for thread in threads:
        thread.join(60.0)
    return soak


def _noting(soak: Soak, function: Callable[..., None], *given: Any, **options: Any) -> None:
    """What nobody foresaw is an error, too."""
    try:
        function(soak, *given, **options)
    except Exception as error:  # noqa: BLE001 - it is reported, and the rest goes on
        soak.note(soak.errors, f"{function.__name__} broke off: {type(error).__name__}: {error}")


def slope_per_hour(looks: Sequence[Look], name: str) -> float:
    """By least squares after the warm-up: units an hour."""
    warm = looks[int(len(looks) * WARM_SHARE) :]
    at = np.array([each.at for each in warm])
    column = np.array([float(getattr(each, name)) for each in warm])
    return float(np.polyfit(at - at[0], column, 1)[0] * 3600.0) if len(warm) > 1 else 0.0


def described(soak: Soak) -> str:
    """The figures, as lines."""
    looks = soak.looks
    warm = looks[int(len(looks) * WARM_SHARE) :] or looks
    lines = [f"{sum(soak.counts.values()):,} requests and events in {soak.seconds:g} s:"]
    lines += [f"  {count:8,}  {what}" for what, count in sorted(soak.counts.items())]
    for name in ("rss_bytes", "disk_bytes", "log_bytes"):
        values = [getattr(each, name) / MB for each in warm]
        eighths = " ".join(f"{getattr(looks[len(looks) * i // 8], name) / MB:.0f}" for i in range(1, 8))
        lines.append(
            f"{name}: {values[0]:.1f} → {values[-1]:.1f} MB after the warm-up, most {max(values):.1f}, "
            f"{slope_per_hour(looks, name) / MB:+.1f} MB/hour; at each eighth of the time {eighths}"
        )
    for name in ("descriptors", "threads"):
        values = [getattr(each, name) for each in warm]
        slope = slope_per_hour(looks, name)
        lines.append(f"{name}: {values[0]} → {values[-1]}, {min(values)} to {max(values)}, {slope:+.1f}/hour")
    growth = slope_per_hour(looks, "rss_bytes") / MB
    lines.append(f"memory grows by at most {GROWTH_MB_H_MAX:g} MB/hour: {'yes' if growth <= GROWTH_MB_H_MAX else 'NO'}")
    lines.append(f"errors: {sum(soak.errors.values())}")
    lines += [f"  {count:8,}  {what}" for what, count in soak.errors.most_common(20)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """`make soak`; 1 if anything went wrong (not if something grew: that is what the figures are for)."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long (1800)")
    parser.add_argument("--dir", type=Path, default=Path("bench-results"), help="where data is written: a local disk")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service ends and data is removed
    sizes = replace(QUICK, name="soak", free_bytes_min=2 * 2**30)
    with ExitStack() as stack:
        bench = stack.enter_context(prepared(sizes, options.dir))
        print("\n".join(f"{name:>9}  {text}" for name, text in statement(options.dir).items()), flush=True)
        service = stack.enter_context(serving(stack.enter_context(bench.data_folder())))
        soak = soaked(service, options.seconds)
        print(described(soak))
        print("load average at the end: {:.1f}, {:.1f}, {:.1f}".format(*psutil.getloadavg()))
    return 1 if soak.errors else 0


if __name__ == "__main__":
    sys.exit(main())

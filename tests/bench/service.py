"""A real `tallyboard serve` in a process of its own, watched from outside while it is measured."""

import os
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import numpy as np
import psutil
import urllib3

from tallyboard.wire import JSON, MSGPACK
from tallyboard_server.cli.demo.process import child, free_port
from tests.bench.load import HOST, Loaded
from tests.bench.result import Usage
from tests.cli_process import TALLYBOARD, clean

SAMPLE_S: Final = 0.2
SAMPLES_MAX: Final = 20_000
"""More than an hour of them."""
EXPORT_TIMEOUT_S: Final = 300.0
_EXPORT_POLL_S: Final = 0.05
_NEWS_S: Final = 1.0
"""Within which replicas hear what the others have taken, and begin to work on it."""
FIGURES_OF_EXPORT: Final = ("export_lag_blocks", "export_runs_behind", "export_unsynced_files")
_TIMEOUT: Final = urllib3.Timeout(connect=5.0, read=60.0)


@dataclass(slots=True, frozen=True)
class Sample:
    """The process at one moment (time.perf_counter): what it has used so far, and what it holds."""

    at: float
    cpu_s: float
    written_bytes: int
    rss_bytes: int
    log_bytes: int
    descriptors: int


@dataclass(slots=True, frozen=True)
class Span:
    """A stretch of time in which a service was measured, and what /metrics said at its ends."""

    begun: float
    ended: float
    figures_begun: dict[str, float]
    figures_ended: dict[str, float]
    load_cpu_s: float = 0.0

    @classmethod
    def of(cls, loaded: Loaded) -> "Span":
        """The measured stretch of a load."""
        begun, ended = map(figures, loaded.metrics)
        return cls(loaded.begun, loaded.ended, begun, ended, loaded.cpu_s)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.ended - self.begun


@dataclass(slots=True)
class Service:
    """One running service: where it answers, what process it is, and where its files are."""

    port: int
    process: psutil.Process
    data_dir: Path
    logdir: Path
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))
    pool: urllib3.PoolManager = field(
        default_factory=lambda: urllib3.PoolManager(retries=False, timeout=_TIMEOUT, maxsize=4)
    )

    @property
    def url(self) -> str:
        """Its address, without a trailing slash."""
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """The write-ahead log of a store of its own."""
        return self.data_dir / "tallyboard.sqlite3-wal"

    def get(self, path: str, query: Sequence[tuple[str, str | int]] = ()) -> Any:
        """GET below /api/v1, MessagePack decoded. Raises RuntimeError unless the answer is 200."""
        url = f"{self.url}/api/v1{path}" + (f"?{urlencode(query)}" if query else "")
        response = self.pool.request("GET", url, headers={"Accept": MSGPACK})
        if response.status != 200:
            raise RuntimeError(f"GET {path}: {response.status} {response.data[:300].decode(errors='replace')}")
        return msgspec.msgpack.decode(response.data)

    def post(self, path: str, document: Any) -> float:
        """POST a JSON document below /api/v1; returns how many seconds it took. Raises RuntimeError unless 200."""
        body = msgspec.json.encode(document)
        begun = time.perf_counter()
        response = self.pool.request("POST", f"{self.url}/api/v1{path}", body=body, headers={"Content-Type": JSON})
        seconds = time.perf_counter() - begun
        if response.status != 200:
            raise RuntimeError(f"POST {path}: {response.status} {response.data[:300].decode(errors='replace')}")
        return seconds

    def run(self, name: str) -> Any:
        """GET /runs/{name}."""
        return self.get(f"/runs/{quote(name)}")

    def figures(self) -> dict[str, float]:
        """What /metrics says."""
        return figures(self.pool.request("GET", f"{self.url}/metrics").data.decode())

    def usage(self, span: Span) -> Usage:
        """What was used in a span that has just ended; waits for the event files, which it counts in."""
        return usage_of([self], span)

    def wait_for(self, lags: Sequence[str] = FIGURES_OF_EXPORT) -> dict[str, float]:
        """Wait until none of these figures is left: event files hold all that is stored, synced; returns all figures
        of that moment."""
        give_up = time.perf_counter() + EXPORT_TIMEOUT_S
        while time.perf_counter() < give_up:
            found = self.figures()
            if not any(found[name] for name in lags):
                return found
            time.sleep(_EXPORT_POLL_S)
        raise TimeoutError(f"views were not complete after {EXPORT_TIMEOUT_S:.0f} s: {lags}")

    def used(self, name: str, begun: float, ended: float) -> float:
        """How much a figure of its samples grew between two moments."""
        samples = [*self.samples, _look(self)]
        column = [getattr(sample, name) for sample in samples]
        then, now = np.interp((begun, ended), [sample.at for sample in samples], column).tolist()
        return float(now - then)


def usage_of(services: Sequence[Service], span: Span) -> Usage:
    """What services on one store used in a span that has just ended, together (memory, log, files: the largest of
    them); waits for the event files, which it counts in."""
    if len(services) > 1:
        time.sleep(_NEWS_S)
    after: Counter[str] = Counter()  # whose values may be floats
    for service in services:
        after.update(service.wait_for())
    complete_at = time.perf_counter()
    samples = [[*service.samples, _look(service)] for service in services]

    def grown(name: str, now: Mapping[str, float]) -> int:
        return int(now[name] - span.figures_begun[name])

    def used(name: str, until: float) -> float:
        """Growth from the beginning to `until`, a second."""
        total = sum(service.used(name, span.begun, until) for service in services)
        return total / max(until - span.begun, SAMPLE_S)

    def most(name: str) -> int:
        return max(int(getattr(sample, name)) for some in samples for sample in some)

    return Usage(
        seconds=span.seconds,
        server_cpu=used("cpu_s", span.ended),
        load_cpu=span.load_cpu_s / span.seconds if span.seconds else 0.0,
        disk_bytes_s=used("written_bytes", complete_at),
        commits=grown("store_commits_total", span.figures_ended),
        requests=grown("http_ack_seconds_count", span.figures_ended),
        event_syncs=grown("export_syncs_total", after),
        rss_bytes=most("rss_bytes"),
        log_bytes=most("log_bytes"),
        descriptors=most("descriptors"),
        event_files_after_s=complete_at - span.ended,
        gap_s=float(np.diff([s.at for s in samples[0] if span.begun <= s.at <= span.ended]).max(initial=0.0)),
    )


@contextmanager
def serving(folder: Path, settings: Iterable[tuple[str, str]] = ()) -> Iterator[Service]:
    """Serve from a new data dir in `folder` until the block ends; samples what it uses.

    settings: variables for it. Without any it takes as many requests a second as come: all the load has one address.
    """
    with _serving(folder, folder / "data", folder / "data" / "logdir", settings) as service:
        yield service


@contextmanager
def replicas(
    folder: Path, count: int, database_url: str, settings: Iterable[tuple[str, str]] = ()
) -> Iterator[list[Service]]:
    """So many services on one database, which write event files to one logdir in `folder`; see `serving`."""
    own = [("TALLYBOARD_DATABASE_URL", database_url), *settings]
    with ExitStack() as stack:
        yield [
            stack.enter_context(_serving(folder, folder / f"data{number}", folder / "logdir", own))
            for number in range(count)
        ]


@contextmanager
def _serving(folder: Path, data_dir: Path, logdir: Path, settings: Iterable[tuple[str, str]]) -> Iterator[Service]:
    port = free_port(HOST)
    command = [*TALLYBOARD, "serve", "--host", HOST, "--port", str(port), "--data-dir", str(data_dir), "--logdir",
               str(logdir)]  # fmt: skip
    pool = urllib3.PoolManager(retries=False, timeout=_TIMEOUT)

    def answers() -> bool:
        try:
            return pool.request("GET", f"http://{HOST}:{port}/healthz").status == 200
        except urllib3.exceptions.HTTPError:
            return False

    own = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TALLYBOARD_RATE_PER_TOKEN": "0"}
    environment = clean(own | dict(settings))
    with (folder / f"serve-{port}.log").open("wb") as log, child(command, answers, log, environment) as process:
        service = Service(port, psutil.Process(process.pid), data_dir, logdir)
        stop = threading.Event()
        sampler = threading.Thread(target=_sample, args=(service, stop), name="sampler", daemon=True)
        sampler.start()
        try:
            yield service
        finally:
            stop.set()
            sampler.join()
            service.pool.clear()


def figures(text: str) -> dict[str, float]:
    """What /metrics says, without prefix and labelled figures; the sums, if it is the text of several services."""
    found: Counter[str] = Counter()
    for line in text.splitlines():
        if line and line[0] != "#" and "{" not in line:
            name, value = line.split(" ")
            found[name.removeprefix("tallyboard_")] += float(value)  # type: ignore[assignment]
    return dict(found)


def _sample(service: Service, stop: threading.Event) -> None:
    while not stop.wait(SAMPLE_S):
        with suppress(psutil.NoSuchProcess, FileNotFoundError):
            service.samples.append(_look(service))


def _look(service: Service) -> Sample:
    process = service.process
    with process.oneshot():
        times = process.cpu_times()
        written = 0
        with suppress(psutil.AccessDenied, AttributeError):  # not every system tells
            written = process.io_counters().write_bytes
        return Sample(
            at=time.perf_counter(),
            cpu_s=times.user + times.system,
            written_bytes=written,
            rss_bytes=process.memory_info().rss,
            log_bytes=service.log.stat().st_size if service.log.exists() else 0,
            descriptors=process.num_fds(),
        )

"""Rows from a cold start until charts of many runs are whole, the service's beside those of a stock TensorBoard."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

import numpy as np
import psutil

from tallyboard.wire import MSGPACK, Batch, Columns, Float64, encode_batch
from tallyboard.wire.names import DEFAULT_COUNTER
from tests.bench.plan import Bench
from tests.bench.result import Goal, Row
from tests.bench.service import Service, Span, serving
from tests.bench.streams import tags
from tests.tensorboard_process import TensorBoardProcess

SOONER: Final = 20.0
MEMORY_SHARE: Final = 0.2
TAGS: Final = tags(10)
CHART_RUNS: Final = 100
_BATCH_REPORTS: Final = 2_000
_SAMPLE_S: Final = 0.02
_POLL_S: Final = 0.3
"""How often a stock TensorBoard is asked whether it has read all; more would take its processors."""
_TIMEOUT_S: Final = 900.0
_MIB: Final = 2**20
Curve = list[tuple[float, int, float]]
"""(wall time, step, value) of the points that are drawn."""
Ask = Callable[[], dict[str, Curve]]
"""Asks for a chart; its curves by run."""


@dataclass(slots=True)
class Watched:
    """What became of one TensorBoard. seconds: until all `curves` were whole; idle_bytes: before."""

    seconds: float = 0.0
    curves: dict[str, Curve] = field(default_factory=dict)
    peak_bytes: int = 0
    idle_bytes: int = 0
    samples: list[int] = field(default_factory=list)


def board(bench: Bench) -> Row:
    """One tag of a hundred runs among many, in the mounted TensorBoard and in a stock one with its default reader."""
    runs, reports = bench.sizes.board
    asked = [f"board/run{number:04d}" for number in range(min(runs, CHART_RUNS))]
    with bench.data_folder() as folder:
        with serving(folder, bench.sizes.settings) as service:
            before, begun = service.figures(), time.perf_counter()
            sent = dict(zip(asked, _fill(service, runs, reports), strict=False))
            usage = service.usage(Span(begun, time.perf_counter(), before, service.figures()))
            logdir = service.logdir
        mounted = Watched()
        begun = time.perf_counter()
        with serving(folder, bench.sizes.settings) as service:
            mounted.idle_bytes = service.process.memory_info().rss
            chart = _asks(f"{service.url}/tensorboard", asked, TAGS[:1])
            _watch(mounted, service.process, begun, chart, len(asked), reports)
        stock = Watched()
        begun = time.perf_counter()
        with TensorBoardProcess(logdir, "rust", samples_max=1_000) as process:
            chart = _asks(process.url, asked, TAGS[:1])
            _watch(stock, psutil.Process(process.pid), begun, chart, len(asked), reports)
    faults = [run for run, values in sent.items() if not _is_exact(mounted.curves[run], values)]
    sooner, share = stock.seconds / mounted.seconds, mounted.peak_bytes / stock.peak_bytes
    return Row(
        "board",
        f"TensorBoard inside: cold start until {len(asked)} of {runs:,} runs × {len(TAGS)} tags × {reports:,} points "
        "are one whole chart",
        rate=len(asked) / mounted.seconds,
        unit="curves/s",
        usage=usage,
        goals=[
            Goal(f"≥ {SOONER:g}× sooner than stock", f"{sooner:.1f}×", sooner >= SOONER),
            Goal(f"≤ {MEMORY_SHARE:g} of its memory", f"{share:.2f}", share <= MEMORY_SHARE),
            Goal("curves exact", f"{len(faults)} faults", not faults),
        ],
        notes=[_said("inside", mounted), _said("stock (Rust reader)", stock),
               f"the service before it is first asked: {mounted.idle_bytes / _MIB:.0f} MB"],
        details={"inside_s": mounted.seconds, "stock_s": stock.seconds, "inside_bytes": mounted.peak_bytes,
                 "stock_bytes": stock.peak_bytes, "idle_bytes": mounted.idle_bytes},
    )  # fmt: skip


def every_chart(bench: Bench) -> Row:
    """Every chart of some runs, from the service's own API and from a stock TensorBoard with its default reader."""
    runs, reports = bench.sizes.every_chart
    asked = [f"board/run{number:04d}" for number in range(runs)]
    with bench.data_folder() as folder:
        with serving(folder, bench.sizes.settings) as service:
            before, begun = service.figures(), time.perf_counter()
            sent = dict(zip(asked, _fill(service, runs, reports), strict=True))
            usage = service.usage(Span(begun, time.perf_counter(), before, service.figures()))
            logdir = service.logdir
        ours = Watched()
        begun = time.perf_counter()
        with serving(folder, bench.sizes.settings) as service:
            charts = [partial(_queried, service.url, asked, tag) for tag in reversed(TAGS)]
            _watch(ours, service.process, begun, charts, runs, reports)
        stock = Watched()
        begun = time.perf_counter()
        with TensorBoardProcess(logdir, "rust", samples_max=1_000) as process:
            _watch(stock, psutil.Process(process.pid), begun, _asks(process.url, asked, TAGS), runs, reports)
    faults = [run for run, values in sent.items() if not _is_exact(ours.curves[run], values)]
    return Row(
        "every-chart",
        f"cold start until every chart of {runs} runs × {len(TAGS)} tags × {reports:,} points is served",
        rate=runs * len(TAGS) / ours.seconds,
        unit="curves/s",
        usage=usage,
        goals=[Goal("curves exact", f"{len(faults)} faults", not faults)],
        notes=[_said("ours", ours), _said("stock (Rust reader)", stock),
               f"{stock.seconds / ours.seconds:.1f}× sooner, {ours.peak_bytes / stock.peak_bytes:.2f} of the memory"],
        details={"ours_s": ours.seconds, "stock_s": stock.seconds, "ours_bytes": ours.peak_bytes,
                 "stock_bytes": stock.peak_bytes},
    )  # fmt: skip


def _said(who: str, watched: Watched) -> str:
    points = sum(map(len, watched.curves.values()))
    return (
        f"{who}: whole after {watched.seconds:.2f} s ({points:,} points drawn), at most "
        f"{watched.peak_bytes / _MIB:.0f} MB"
    )


def _is_exact(curve: Curve, values: Float64) -> bool:
    """Whether points drawn are points sent, and the first, the last, the least and the greatest are among them."""
    drawn = {step: value for _, step, value in curve}
    wanted = {0, len(values) - 1, int(values.argmin()), int(values.argmax())}
    return wanted <= set(drawn) and all(value == values[step] for step, value in drawn.items())


def _fill(service: Service, runs: int, reports: int) -> list[Float64]:
    """Make runs of so many reports with ten tags each; returns what was sent of the first tag, float64[n] by run."""
    sent = []
    rng = np.random.default_rng(0)
    for number in range(runs):
        values = rng.normal(size=(reports, len(TAGS)))
        sent.append(values[:, 0].copy())
        for seq, first in enumerate(range(0, reports, _BATCH_REPORTS), 1):
            steps = np.arange(first, min(first + _BATCH_REPORTS, reports), dtype=np.int64)
            columns = Columns(DEFAULT_COUNTER, TAGS, steps, steps.astype(np.float64) * 1e-3 + 1.7e9, values[steps])
            body = encode_batch(Batch(producer="bench", seq=seq, columns=(columns,)))
            url = f"{service.url}/api/v1/scalars/{quote(f'board/run{number:04d}')}"
            _until_taken(lambda url=url, body=body: service.pool.request(  # type: ignore[misc]
                "POST", url, body=body, headers={"Content-Type": MSGPACK}).status)  # fmt: skip
    return sent


def _until_taken(send: Callable[[], int]) -> None:
    """Send until it is acknowledged, while the service asks to wait."""
    give_up = time.perf_counter() + _TIMEOUT_S
    while (status := send()) != 200:
        if status != 503 or time.perf_counter() > give_up:
            raise RuntimeError(f"a report was answered by {status}")
        time.sleep(0.1)


def _watch(
    watched: Watched, process: psutil.Process, begun: float, charts: Sequence[Ask], runs: int, reports: int
) -> None:
    """Ask for each chart until all its curves end at the last step; seconds count from `begun`.

    The curves kept are the last chart's.
    """
    with _sampled(process, watched.samples):
        for ask in charts:
            while True:
                curves = ask()
                now = time.perf_counter() - begun
                whole = [run for run, points in curves.items() if points and points[-1][1] == reports - 1]
                if len(whole) == runs:
                    break
                if now > _TIMEOUT_S:
                    raise TimeoutError(f"{len(whole)} of {runs} curves were whole after {_TIMEOUT_S:.0f} s")
                time.sleep(_POLL_S)
    watched.seconds = now
    watched.curves = curves
    watched.peak_bytes = max(watched.samples)


def _asks(url: str, asked: Sequence[str], names: Sequence[str]) -> list[Ask]:
    """The scalars page's requests for charts of some tags."""
    return [partial(_chart, url, urlencode({"tag": tag, "runs": asked}, doseq=True).encode()) for tag in names]


def _queried(url: str, asked: Sequence[str], tag: str) -> dict[str, Curve]:
    """By run what `POST /query` draws of a tag: its points, or the four of each bucket."""
    body = json.dumps({"runs": list(asked), "tags": [tag], "buckets": 1_000}).encode()
    request = urllib.request.Request(f"{url}/api/v1/query", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        series = json.loads(response.read())["series"]
    return {one["run"]: sorted(_drawn(one), key=lambda point: point[1]) for one in series}


def _drawn(series: dict[str, Any]) -> Iterator[tuple[float, int, float]]:
    buckets = series.get("buckets")
    for marks in [series["points"]] if buckets is None else [buckets[m] for m in ("first", "min", "max", "last")]:
        yield from zip(marks["wall_time"], marks["step"], marks["value"], strict=True)


def _chart(url: str, form: bytes) -> dict[str, Curve]:
    """By run the points that the scalars page gets, while there are none, none."""
    request = urllib.request.Request(f"{url}/data/plugin/scalars/scalars_multirun", form)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
            found: dict[str, Curve] = json.loads(response.read())
            return found
    except urllib.error.HTTPError as error:
        if error.code in (400, 404, 500, 503):  # what it says of runs that it has not found yet
            return {}
        raise


@contextmanager
def _sampled(process: psutil.Process, samples: list[int]) -> Iterator[None]:
    """Keep what a process and its children hold in memory, many times a second; the last sample comes at the end."""
    stop = threading.Event()

    def look() -> None:
        held = 0
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                held += one.memory_info().rss
        samples.append(held)

    def sample() -> None:
        while not stop.wait(_SAMPLE_S):
            look()

    thread = threading.Thread(target=sample, name="memory", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        look()

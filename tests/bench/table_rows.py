"""Rows of the table of runs: many runs by many columns, and put in order by what their points say, through HTTP."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
import numpy as np

from tallyboard.wire import JSON, MSGPACK, Batch, Columns, Float64, Open, encode_batch
from tallyboard.wire.names import DEFAULT_COUNTER
from tests.bench.plan import Bench
from tests.bench.result import Goal, Latency, Row
from tests.bench.service import Service, Span, serving
from tests.bench.streams import tags

TAGS: Final = (*tags(8), "val/loss", "test/acc")
REPORTS: Final = 200
"""Reports of a run, each with all tags."""
_ASKED: Final = 15
_WARM_MS_MAX: Final = 200
_COLD_TRIES_MAX: Final = 50
_FIGURES: Final = ("last", "min", "max", "mean", "first", "max_step", "min_step", "count")
COLUMNS: Final = (
    "name", "status", "created_at", "age", "group", "config.lr", "config.opt", "summary.acc", "counters.global_step",
    *(f"{figure}.{tag}" for figure, tag in zip(_FIGURES, TAGS[:8], strict=True)),
    "last.val/loss", "min.val/loss", "at_min(test/acc, val/loss)",
)  # fmt: skip
_FILTER: Final = "config.lr < 0.5 and last.val/loss < 0.5"
_SORT: Final = "-at_min(test/acc, val/loss),name"


@dataclass(slots=True, frozen=True)
class _Run:
    """What was sent of a run: its learning rate, and values[reports, tags]."""

    name: str
    lr: float
    values: Float64

    @property
    def at_best(self) -> float:
        """test/acc where val/loss is least."""
        return float(self.values[int(np.argmin(self.values[:, 8])), 9])


def table(bench: Bench) -> list[Row]:
    """A page of runs by twenty columns; and the first hundred of many more, filtered and in order."""
    shown, ordered = bench.sizes.table_runs
    return [_page(bench, shown), _ordered(bench, ordered)]


def _page(bench: Bench, count: int) -> Row:
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        before, begun = service.figures(), time.perf_counter()
        runs = list(_fill(service, count))
        query = {"columns": ",".join(COLUMNS), "limit": count}
        cold, answer = _ask(service, query)
        faults = _differences(answer["rows"], runs)
        warm = [_ask(service, query)[0] for _ in range(_ASKED)]
        usage = service.usage(Span(begun, time.perf_counter(), before, service.figures()))
    row = _row(f"table-{count}", f"GET /runs: {count:,} runs × {len(COLUMNS)} columns, warm", count, warm, faults)
    row.usage = usage
    row.notes.append(f"cold, of {REPORTS * len(TAGS):,} scalars each: {cold:.2f} s")
    return row


def _ordered(bench: Bench, count: int) -> Row:
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        before, begun = service.figures(), time.perf_counter()
        runs = list(_fill(service, count))
        query = {"columns": "name,at_min(test/acc, val/loss)", "filter": _FILTER, "sort": _SORT, "limit": 100}
        cold, tries = _ask_until_read(service, query)
        _, answer = _ask(service, query)
        wanted = sorted((r for r in runs if r.lr < 0.5 and r.values[-1, 8] < 0.5), key=lambda r: (-r.at_best, r.name))
        same = answer["rows"] == [[run.name, run.at_best] for run in wanted[:100]]
        warm = [_ask(service, query)[0] for _ in range(_ASKED)]
        usage = service.usage(Span(begun, time.perf_counter(), before, service.figures()))
    what = f"GET /runs: 100 of {count:,} runs, filtered and in the order of two tags, warm"
    row = _row(f"table-{count}-sorted", what, count, warm, [] if same else ["the first hundred are others"])
    row.usage = usage
    row.notes.append(f"cold, of {REPORTS * len(TAGS):,} scalars each: {cold:.1f} s, asked {tries} times")
    return row


def _row(name: str, what: str, count: int, warm: list[float], faults: list[str]) -> Row:
    latency = Latency.of(warm)
    if latency is None:
        raise ValueError("nothing was asked")
    fast = Goal(f"≤ {_WARM_MS_MAX} ms", f"{latency.p50_ms:.0f} ms", latency.p50_ms <= _WARM_MS_MAX)
    exact = Goal("values exact", f"{len(faults)} faults", not faults)
    rate = count / (latency.p50_ms / 1e3)
    goals = [fast, exact]
    return Row(name, what, rate=rate, unit="runs/s", judged_by="p99", latency=latency, goals=goals, notes=faults)


def _fill(service: Service, count: int) -> Iterator[_Run]:
    """Make runs of REPORTS reports each."""
    rng = np.random.default_rng(0)
    steps = np.arange(REPORTS, dtype=np.int64)
    walls = np.arange(REPORTS, dtype=np.float64) * 1e-3 + 1.7e9
    for number in range(count):
        run = _Run(f"table/run{number:05d}", float(rng.random()), rng.normal(size=(REPORTS, len(TAGS))))
        columns = Columns(DEFAULT_COUNTER, TAGS, steps, walls, run.values)
        opening = Open(config={"lr": run.lr, "opt": "adam"}, group=f"g{number % 7}")
        batch = Batch(producer="bench", seq=1, open=opening, columns=(columns,), summary={"acc": run.lr})
        response = service.pool.request(
            "POST", f"{service.url}/api/v1/scalars/{quote(run.name)}", body=encode_batch(batch),
            headers={"Content-Type": MSGPACK},
        )  # fmt: skip
        if response.status != 200:
            raise RuntimeError(f"{run.name}: {response.status} {response.data[:300].decode(errors='replace')}")
        yield run


def _ask(service: Service, query: dict[str, Any]) -> tuple[float, Any]:
    """Seconds until the answer was read whole, and the answer. Raises RuntimeError unless it is 200."""
    begun = time.perf_counter()
    response = service.pool.request("GET", f"{service.url}/api/v1/runs?{urlencode(query)}", headers={"Accept": JSON})
    seconds = time.perf_counter() - begun
    if response.status != 200:
        raise RuntimeError(f"GET /runs: {response.status} {response.data[:300].decode(errors='replace')}")
    return seconds, msgspec.json.decode(response.data)


def _ask_until_read(service: Service, query: dict[str, Any]) -> tuple[float, int]:
    """Ask as often as it takes until all figures are known; returns the seconds and how many times that was."""
    begun = time.perf_counter()
    for tries in range(1, _COLD_TRIES_MAX + 1):
        response = service.pool.request("GET", f"{service.url}/api/v1/runs?{urlencode(query)}")
        if response.status == 200:
            return time.perf_counter() - begun, tries
        if response.status != 503:
            raise RuntimeError(f"GET /runs: {response.status} {response.data[:300].decode(errors='replace')}")
    raise TimeoutError(f"the runs were not read after {_COLD_TRIES_MAX} tries")


def _differences(rows: list[list[Any]], runs: list[_Run]) -> list[str]:
    """What the table says wrongly of the points that were sent (means to rounding)."""
    faults = [] if len(rows) == len(runs) else [f"{len(rows)} rows of {len(runs)} runs"]
    for row, run in zip(rows, runs, strict=False):
        v = run.values
        exact = [
            run.name, run.lr, REPORTS - 1, v[-1, 0], v[:, 1].min(), v[:, 2].max(), v[0, 4], int(v[:, 5].argmax()),
            int(v[:, 6].argmin()), REPORTS, v[-1, 8], v[:, 8].min(), run.at_best,
        ]  # fmt: skip
        found = [row[0], row[5], row[8], *row[9:12], *row[13:]]
        if found != exact or abs(row[12] - v[:, 3].mean()) > 1e-12:
            faults.append(f"{run.name}: {row}")
    return faults[:10]

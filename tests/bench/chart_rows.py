"""Rows of charts: one series of growing length, a zoom into it, and many runs at once, in buckets."""

import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import numpy as np

from tallyboard.wire import JSON, MSGPACK
from tallyboard_server.series import Allowance, Question, RunReader, read_lines
from tallyboard_server.store.sqlite import SqliteStore
from tests.bench.load import Plan, generate
from tests.bench.load_rows import LOAD_GRACE_S
from tests.bench.plan import Bench
from tests.bench.result import Goal, Latency, Row
from tests.bench.service import Service, Span, serving
from tests.bench.streams import Stream
from tests.bench.workers import in_process

BUCKETS: Final = 1_000
_TAG: Final = "train/loss"
_BATCHES: Final = 1_000
_ROWS_MAX: Final = 1_000
"""A series comes in so many batches, or more: those that are not merged yet (up to 64) are the smaller part of it."""
_ASKED: Final = 15
_ONE_MS_MAX: Final = 100
_MANY_MS_MAX: Final = 150
_ZOOM_MS_MAX: Final = 20
_ZOOM_SHARE: Final = 1_000
_ZOOM_POINTS_MIN: Final = 1_000_000
"""A series from which a thousandth is worth a row."""
_FILL_TIMEOUT_S: Final = 900.0
_MERGE_TIMEOUT_S: Final = 300.0
_POLL_S: Final = 0.1
_FORMS: Final = {"MessagePack": MSGPACK, "JSON": JSON}


def charts(bench: Bench) -> list[Row]:
    """One series in buckets: the time must not follow its length."""
    return [row for points in bench.sizes.chart_points for row in _one_series(bench, points)]


def many_charts(bench: Bench) -> Row:
    """Many runs in one question."""
    runs, points = bench.sizes.chart_runs
    names = [f"chart/run{number:04d}" for number in range(runs)]
    with bench.data_folder() as folder:
        with serving(folder, bench.sizes.settings) as service:
            span, total = _fill(service, names, points)
            question = {"runs": ["chart/*"], "tags": [_TAG], "buckets": BUCKETS}
            row = _row(f"charts-{runs}", f"{runs} runs × {points:,} points", service, question, total)
            row.goals.insert(0, _fast(row, _MANY_MS_MAX))
            row.usage = service.usage(span)
        row.notes.append(_by_itself(folder / "data", names, Question(buckets=BUCKETS)))
    return row


def _one_series(bench: Bench, points: int) -> list[Row]:
    with bench.data_folder() as folder:
        with serving(folder, bench.sizes.settings) as service:
            span, total = _fill(service, ["chart/run"], points)
            question = {"runs": ["chart/run"], "tags": [_TAG], "buckets": BUCKETS}
            rows = [_row(f"chart-{points}", f"one series of {points:,} points", service, question, total)]
            rows[0].goals.insert(0, _fast(rows[0], _ONE_MS_MAX))
            zoom = Question(buckets=BUCKETS, first=points // 2, last=points // 2 + points // _ZOOM_SHARE - 1)
            if points >= _ZOOM_POINTS_MIN:
                question |= {"from": zoom.first, "to": zoom.last}
                what = f"a thousandth of a series of {points:,} points"
                rows.append(_row(f"chart-{points}-zoom", what, service, question, points // _ZOOM_SHARE))
                rows[1].goals.insert(0, _fast(rows[1], _ZOOM_MS_MAX))
            for row in rows:
                row.usage = service.usage(span)
        for row, asked in zip(rows, (Question(buckets=BUCKETS), zoom), strict=False):
            row.notes.append(_by_itself(folder / "data", ["chart/run"], asked))
    return rows


def _fill(service: Service, names: list[str], points: int) -> tuple[Span, int]:
    """Send about so many points of each run, and wait until event files are complete and merging is done.

    Returns also how many points there are in all.
    """
    rows = min(_ROWS_MAX, max(1, points // _BATCHES))
    streams = tuple(Stream(name, (_TAG,), rows) for name in names)
    connections = tuple(streams[i::8] for i in range(min(8, len(streams))))
    wanted = points * len(names) - rows * len(names)  # each stream's first batch is sent before load is counted
    plan = Plan(service.port, connections, _FILL_TIMEOUT_S, scalars_max=wanted)
    loaded = in_process(_FILL_TIMEOUT_S + LOAD_GRACE_S, generate, plan)
    span = Span.of(loaded)
    service.usage(span)
    give_up = time.perf_counter() + _MERGE_TIMEOUT_S
    while service.figures()["merge_lag_bytes"]:
        if time.perf_counter() > give_up:
            raise TimeoutError(f"merging was not done after {_MERGE_TIMEOUT_S:.0f} s")
        time.sleep(_POLL_S)
    return span, rows * sum(map(sum, loaded.batches))


def _row(name: str, what: str, service: Service, question: dict[str, Any], points: int) -> Row:
    """Ask in both forms, warm; judged by MessagePack, which is what pages and tools fetch."""
    tried: dict[str, Latency] = {}
    sizes = []
    faults: list[str] = []
    for form, media_type in _FORMS.items():
        answers = [_ask(service, question, media_type) for _ in range(_ASKED + 1)][1:]
        if (latency := Latency.of([seconds for seconds, _ in answers])) is not None:
            tried[form] = latency
        sizes.append(f"{form} p50 {tried[form].p50_ms:.1f} ms, {len(answers[0][1]) / 1e6:.2f} MB")
        if media_type == MSGPACK:
            faults = _faults(msgspec.msgpack.decode(answers[0][1]), points)
    latency = tried["MessagePack"]
    return Row(
        name,
        f"POST /query: {what} in {BUCKETS:,} buckets, warm",
        rate=points / (latency.p50_ms / 1e3),
        unit="points/s",
        judged_by="p99",
        latency=latency,
        goals=[Goal("buckets exact", f"{len(faults)} faults", not faults)],
        notes=["; ".join(sizes), *faults],
    )


def _fast(row: Row, ms_max: int) -> Goal:
    p50_ms = row.latency.p50_ms if row.latency is not None else float("inf")
    return Goal(f"≤ {ms_max} ms", f"{p50_ms:.1f} ms", p50_ms <= ms_max)


def _ask(service: Service, question: dict[str, Any], media_type: str) -> tuple[float, bytes]:
    """Seconds until the answer was read whole, and its body. Raises RuntimeError unless it is 200."""
    begun = time.perf_counter()
    response = service.pool.request(
        "POST", f"{service.url}/api/v1/query", body=msgspec.json.encode(question),
        headers={"Content-Type": JSON, "Accept": media_type},
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    if response.status != 200:
        raise RuntimeError(f"POST /query: {response.status} {response.data[:300].decode(errors='replace')}")
    return seconds, response.data


def _faults(answer: Any, points: int) -> list[str]:
    """What is wrong with the buckets: each point is to be in one of them, whose steps follow each other."""
    found = sum(series["count"] for series in answer["series"])
    faults = [] if found == points else [f"{found:,} points of {points:,}"]
    for series in answer["series"]:
        if (buckets := series.get("buckets")) is None:
            continue
        first, last = (np.frombuffer(buckets[name]["step"], "<i8") for name in ("first", "last"))
        count = np.frombuffer(buckets["count"], "<i8")
        if len(count) > BUCKETS or (last - first + 1 != count).any() or (first[1:] != last[:-1] + 1).any():
            faults.append(f"{quote(series['run'])}: {len(count)} buckets that leave points out, or hold some twice")
    return faults[:10]


def _by_itself(data_dir: Path, names: list[str], asked: Question) -> str:
    """The same without HTTP, on the store that the service has left."""
    with closing(SqliteStore.open(data_dir)) as store:
        tries = []
        for _ in range(_ASKED + 1):
            begun = time.perf_counter()
            for name in names:
                with RunReader(store.snapshot) as reader:
                    state = reader.load(name)
                    if state is None:
                        raise LookupError(f"{name} is gone")
                    read_lines(reader, state, [_TAG], asked, Allowance(10**9))
            tries.append(time.perf_counter() - begun)
    return f"without HTTP p50 {float(np.median(tries[1:])) * 1e3:.1f} ms"

"""Rows of load over HTTP: many quiet runs, batches as fast as they are taken, and the same for minutes."""

from dataclasses import dataclass
from typing import Final

from tests.bench.load import Loaded, Plan, generate
from tests.bench.plan import Bench
from tests.bench.readback import read_back, sent
from tests.bench.readers import Read, read_charts
from tests.bench.result import Goal, Latency, Row
from tests.bench.service import Service, Span, serving
from tests.bench.streams import Form, Stream, tags
from tests.bench.workers import Worker, in_process

CONNECTIONS: Final = 8
SINGLE_CONNECTIONS: Final = 32
REAL_TAGS: Final = 20
REAL_PERIOD_S: Final = 1.0
ACK_P99_MS_MAX: Final = 100.0
LOAD_GRACE_S: Final = 180.0
"""What a load may take beyond its time: creating runs, and a service that asks to wait."""


@dataclass(slots=True, frozen=True)
class Burst:
    """Batches of one shape on a few connections, each to a run of its own, and what it is to reach."""

    name: str
    form: Form
    rows: int
    connections: int
    what: str
    goal_ratio: float | None


BURSTS: Final = (
    Burst("msgpack-100", "msgpack", 100, CONNECTIONS, "MessagePack, 8 connections, 100 reports × 10 tags", 60.0),
    Burst("msgpack-1000", "msgpack", 1_000, CONNECTIONS, "MessagePack, 8 connections, 1,000 reports × 10 tags", 250.0),
    Burst("json-batch", "json", 100, CONNECTIONS, "JSON, 8 connections, 100 reports × 10 tags", 10.0),
    Burst("json-single", "json-single", 1, SINGLE_CONNECTIONS, "JSON, 32 connections, single reports × 10 tags", None),
)


def burst(bench: Bench, kind: Burst) -> Row:
    """As fast as answers come, event files and syncs on; counted until acknowledged."""
    plan = Plan(0, one_run_each(kind.connections, kind.rows, kind.form), bench.sizes.burst_s)
    row = loaded_row(bench, kind.name, kind.what, plan)
    if kind.goal_ratio is not None:
        row.goal_ratio(kind.goal_ratio)
    if kind.form == "json-single" and row.usage is not None and row.rate is not None:
        row.rate, row.unit, row.ratio = row.rate / 10, "reports/s", None
        commits = row.usage.commits_per_request or 0.0
        row.goals.append(Goal("≤ 0.5 commits a request", f"{commits:.2f}", commits <= 0.5))
    return row


def real_life(bench: Bench) -> Row:
    """Many runs that report once a second, each over a connection of its own, as the client does."""
    runs = bench.sizes.real_runs
    streams = tuple((Stream(f"real/run{i:04d}", tags(REAL_TAGS), 1, producer=f"job{i}"),) for i in range(runs))
    plan = Plan(0, streams, bench.sizes.real_s, period_s=REAL_PERIOD_S)
    what = f"{runs:,} runs × 1 report/s × {REAL_TAGS} tags for {bench.sizes.real_s:.0f} s, each with its event file"
    row = loaded_row(bench, "real-life", what, plan)
    row.ratio, row.judged_by = None, "p99"
    errors = sum(row.details["errors"].values()) + row.details["busy"]
    row.goals.append(Goal("0 errors", str(errors), errors == 0))
    if row.latency is not None:
        p99 = row.latency.p99_ms
        row.goals.append(Goal(f"p99 of ack ≤ {ACK_P99_MS_MAX:.0f} ms", f"{p99:.1f} ms", p99 <= ACK_P99_MS_MAX))
    return row


def sustained(bench: Bench) -> Row:
    """Batches for minutes while charts are read, blocks merged and the log trimmed."""
    seconds, readers = bench.sizes.sustained_s, bench.sizes.readers
    plan = Plan(0, one_run_each(CONNECTIONS, 1_000, "msgpack"), seconds)
    what = f"MessagePack as above for {seconds / 60:g} min, with merging, trimming and {readers} chart readers"
    row = loaded_row(bench, "sustained", what, plan, readers=readers)
    row.goal_ratio(100.0)
    return row


def one_run_each(connections: int, rows: int, form: Form) -> tuple[tuple[Stream, ...], ...]:
    """A run of ten tags for each connection."""
    return tuple((Stream(f"load/run{i}", tags(10), rows, form),) for i in range(connections))


def loaded_row(bench: Bench, name: str, what: str, plan: Plan, readers: int = 0) -> Row:
    """Carry out a plan (whatever its port) against a new service, and find everything again afterwards."""
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        plan = Plan(service.port, plan.connections, plan.seconds, plan.period_s, plan.scalars_max)
        loaded, read = _load(service, plan, readers)
        row = Row(
            name,
            what,
            rate=loaded.rate,
            ratio=bench.ratio(loaded.rate),
            latency=Latency.of(loaded.latencies),
            usage=service.usage(Span.of(loaded)),
            stored=read_back(service, sent(plan, loaded)),
        )
        row.details |= details(loaded)
        if loaded.errors:
            row.notes.append(f"errors: {loaded.errors}")
        if loaded.busy:
            row.notes.append(f"{loaded.busy} requests were asked to come back later (503) and did")
        if read is not None:
            _note_readers(row, read, plan.seconds)
        figures = service.figures()
        row.details["merged_blocks"] = figures["merge_blocks_total"]
        row.details["truncations"] = figures["store_truncations_total"]
        return row


def details(loaded: Loaded) -> dict[str, object]:
    """Figures of a load for the JSON file."""
    return {
        "scalars": loaded.scalars_total,
        "seconds": loaded.seconds,
        "priming_s": loaded.priming_s,
        "scalars_by_second": loaded.by_second(),
        "rate_first_tenth": loaded.rate_of(0.0, 0.1),
        "rate_last_tenth": loaded.rate_of(0.9, 1.0),
        "busy": loaded.busy,
        "errors": loaded.errors,
    }


def _load(service: Service, plan: Plan, readers: int) -> tuple[Loaded, Read | None]:
    timeout_s = plan.seconds + LOAD_GRACE_S
    if not readers:
        return in_process(timeout_s, generate, plan), None
    runs = tuple(streams[0].run for streams in plan.connections)
    names = plan.connections[0][0].tags
    with (
        Worker(generate, plan) as load,
        Worker(read_charts, service.port, runs, names, readers, plan.seconds) as reading,
    ):
        load.begin()
        reading.begin()
        return load.result(timeout_s), reading.result(timeout_s)


def _note_readers(row: Row, read: Read, seconds: float) -> None:
    latency = Latency.of(read.latencies)
    if latency is not None:
        row.notes.append(
            f"readers: {latency.count / seconds:.0f} answers/s of {read.points / latency.count:,.0f} points, "
            f"p50 {latency.p50_ms:.0f} ms, p99 {latency.p99_ms:.0f} ms"
        )
    row.goals.append(Goal("0 failed reads", str(len(read.errors)), not read.errors))
    row.notes.extend(read.errors[:3])

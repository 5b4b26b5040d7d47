"""SQLite beside PostgreSQL with one service and with several, in the same minutes, under the same load."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from tests.bench.database import Database, database
from tests.bench.load import Loaded, Plan, generate
from tests.bench.load_rows import CONNECTIONS, LOAD_GRACE_S, SINGLE_CONNECTIONS, details, one_run_each
from tests.bench.plan import Bench
from tests.bench.readback import read_back, sent
from tests.bench.result import Cost, Goal, Latency, Row
from tests.bench.service import FIGURES_OF_EXPORT, Service, Span, replicas, serving, usage_of
from tests.bench.streams import Form
from tests.bench.workers import in_process

SHARE_MIN: Final = 0.7
"""Of SQLite's rate with batches, for one service on PostgreSQL."""
_VIEWS: Final = (*FIGURES_OF_EXPORT, "merge_runs_waiting")


@dataclass(slots=True, frozen=True)
class Shape:
    """Of requests. goal: whether one service on PostgreSQL is held to SHARE_MIN."""

    name: str
    form: Form
    rows: int
    connections: int
    what: str
    goal: bool


SHAPES: Final = (
    Shape("1000", "msgpack", 1_000, CONNECTIONS, "MessagePack, 8 connections, 1,000 reports × 10 tags", True),
    Shape("single", "json-single", 1, SINGLE_CONNECTIONS, "JSON, 32 connections, single reports × 10 tags", False),
)


@dataclass(slots=True, frozen=True)
class _Stage:
    """What is measured: services on one store, and the database that they share, if it is one."""

    services: Sequence[Service]
    database: Database | None


def engines(bench: Bench) -> list[Row]:
    """For each shape SQLite, then PostgreSQL with growing numbers of services."""
    return [row for shape in SHAPES for row in _engines(bench, shape)]


def _engines(bench: Bench, shape: Shape) -> Iterator[Row]:
    plain = _row(bench, shape, None)
    yield plain
    for count in bench.sizes.replicas:
        row = _row(bench, shape, count)
        share = row.rate / plain.rate if row.rate and plain.rate else 0.0
        text = f"≥ {SHARE_MIN:g} of SQLite's rate" if shape.goal and count == 1 else "share of SQLite's rate"
        row.goals.append(Goal(text, f"{share:.2f}", share >= SHARE_MIN or not (shape.goal and count == 1)))
        yield row


def _row(bench: Bench, shape: Shape, count: int | None) -> Row:
    with _staged(bench, count) as stage:
        ports = [service.port for service in stage.services]
        plan = Plan(0, one_run_each(shape.connections, shape.rows, shape.form), bench.sizes.burst_s)
        plan = replace(plan, port=ports[0], replicas=tuple(ports[1:]))
        loaded = in_process(plan.seconds + LOAD_GRACE_S, generate, plan)
        rate, unit = (loaded.rate, "scalars/s") if shape.rows > 1 else (loaded.rate / 10, "reports/s")
        name, engine = "sqlite", "SQLite"
        if stage.database is not None:
            name = f"postgres×{count}"
            engine = f"PostgreSQL, {count} service{'s' * (count != 1)}"
        row = Row(
            f"{name}-{shape.name}",
            f"{engine}: {shape.what}",
            rate=rate,
            unit=unit,
            latency=Latency.of(loaded.latencies),
            usage=usage_of(stage.services, Span.of(loaded)),
            cost=_cost(stage, loaded),
            stored=read_back(stage.services[0], sent(plan, loaded)),
        )
        row.details |= details(loaded)
        if loaded.errors:
            row.notes.append(f"errors: {loaded.errors}")
        if loaded.busy:
            row.notes.append(f"{loaded.busy} requests were asked to come back later (503) and did")
        if stage.database is not None and count == 1:
            row.notes.append(
                f"PostgreSQL {stage.database.version()} syncs every commit, and its processes share the machine's "
                f"{os.cpu_count()} cores with the service and the load"
            )
        return row


@contextmanager
def _staged(bench: Bench, count: int | None) -> Iterator[_Stage]:
    """`count` services on a PostgreSQL of their own; None: one on SQLite."""
    with bench.data_folder() as folder:
        if count is None:
            with serving(folder, bench.sizes.settings) as service:
                yield _Stage([service], None)
        else:
            with database() as shared, replicas(folder, count, shared.url, bench.sizes.settings) as services:
                yield _Stage(services, shared)


def _cost(stage: _Stage, loaded: Loaded) -> Cost:
    """Waits until all views have caught up with what was taken."""
    for service in stage.services:
        service.wait_for(_VIEWS)
    ended = time.perf_counter()
    begun, scalars = loaded.begun, max(1, loaded.scalars_total)
    span = Span.of(loaded)
    name = "store_log_written_bytes_total"
    log_bytes = stage.services[0].figures().get(name, 0.0) - span.figures_begun.get(name, 0.0)
    database_s = 0.0
    if stage.database is not None:
        log_bytes = stage.database.used("log_bytes", begun, ended)
        database_s = stage.database.used("cpu_s", begun, ended)
    commits, requests = (
        span.figures_ended[name] - span.figures_begun[name]
        for name in ("store_commits_total", "http_ack_seconds_count")
    )
    return Cost(
        service_ns=1e9 * sum(service.used("cpu_s", begun, ended) for service in stage.services) / scalars,
        database_ns=1e9 * database_s / scalars,
        log_bytes=log_bytes / scalars,
        transactions=commits / max(1.0, requests),
        in_place=stage.database.changed_in_place() if stage.database is not None else {},
    )

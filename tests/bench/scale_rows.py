"""Rows about growth: many runs, many scalars, and rewinds of large runs must cost what small ones cost."""

import time
from typing import Final
from urllib.parse import quote

import numpy as np

from tests.bench.load import Plan, generate
from tests.bench.load_rows import CONNECTIONS, LOAD_GRACE_S, loaded_row, one_run_each
from tests.bench.plan import Bench
from tests.bench.readback import POINTS_PER_ANSWER, count_reports, read_steps
from tests.bench.result import Goal, Latency, Row
from tests.bench.service import Service, Span, serving
from tests.bench.streams import Stream, tags
from tests.bench.workers import in_process

_AS_FAST: Final = 0.8
"""What counts as "as fast": the rate of one row varies by so much from try to try."""
_AS_LONG: Final = 2.0
"""What counts as "the time of a report" for a rewind: a commit's own time varies by more than half of that."""
_VOLUME_TIMEOUT_S: Final = 400.0
_RUN: Final = "rewind/run"


def runs(bench: Bench) -> list[Row]:
    """The same load on 1, 100, 1,000 runs."""
    rows = []
    for count in bench.sizes.scale_runs:
        plan = Plan(0, _streams(count), bench.sizes.scale_s)
        what = f"MessagePack, 8 connections, 100 reports × 10 tags, spread over {count:,} run{'s' * (count > 1)}"
        row = loaded_row(bench, f"runs-{count}", what, plan)
        row.notes.append(f"{row.details['priming_s']:.2f} s for the first batch of all of them")
        rows.append(row)
    first, last = rows[0], rows[-1]
    if first.rate and last.rate:
        share = last.rate / first.rate
        goal = f"≥ {_AS_FAST:g} of the rate with {bench.sizes.scale_runs[0]} run"
        last.goals.append(Goal(goal, f"{share:.2f}", share >= _AS_FAST))
    return rows


def volume(bench: Bench) -> Row:
    """The last of very many scalars against the first."""
    count = bench.sizes.volume_scalars
    plan = Plan(0, one_run_each(CONNECTIONS, 1_000, "msgpack"), _VOLUME_TIMEOUT_S, scalars_max=count)
    row = loaded_row(bench, "volume", f"MessagePack as above until {count / 1e6:g} M scalars", plan)
    early, late = row.details["rate_first_tenth"], row.details["rate_last_tenth"]
    row.notes.append(f"first tenth {early / 1e6:.2f} M/s, last tenth {late / 1e6:.2f} M/s")
    share = late / early if early else 0.0
    row.goals.append(Goal(f"last tenth ≥ {_AS_FAST:g} of the first", f"{share:.2f}", share >= _AS_FAST))
    return row


def rewinds(bench: Bench) -> list[Row]:
    """How long a rewind takes beside a report, on runs of growing size."""
    return [_rewind(bench, points) for points in bench.sizes.rewind_points]


def _streams(count: int) -> tuple[tuple[Stream, ...], ...]:
    """`count` runs over the connections; a single run gets a counter for each connection, with tags of its own."""
    if count == 1:
        named = ((i, tuple(f"{tag}/{i}" for tag in tags(10))) for i in range(CONNECTIONS))
        return tuple(
            (Stream("scale/only", names, 100, counter=f"counter{i}", producer=f"job{i}"),) for i, names in named
        )
    return tuple(
        tuple(Stream(f"scale/run{i:04d}", tags(10), 100) for i in range(first, count, CONNECTIONS))
        for first in range(min(CONNECTIONS, count))
    )


def _rewind(bench: Bench, points: int) -> Row:
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        reports = _fill(service, points)
        before, begun = service.figures(), time.perf_counter()
        reported, rewound, last_step = _go_back(service, reports, bench.sizes.rewinds)
        usage = service.usage(Span(begun, time.perf_counter(), before, service.figures()))
        faults = _visible_faults(service, last_step)
    of_reports, of_rewinds = Latency.of(reported), Latency.of(rewound)
    if of_reports is None or of_rewinds is None:
        raise ValueError("nothing was rewound")
    ratio = of_rewinds.p50_ms / of_reports.p50_ms
    goal = Goal(f"≤ {_AS_LONG:g}× a report", f"{ratio:.2f}×", ratio <= _AS_LONG)
    return Row(
        f"rewind-{points}",
        f"rewinds into the middle of a run of {points:,} points",
        rate=len(rewound) / sum(rewound),
        unit="rewinds/s",
        judged_by="p99",
        latency=of_rewinds,
        usage=usage,
        goals=[goal, Goal("visible points exact", f"{len(faults)} faults", not faults)],
        notes=[f"a report on that run: p50 {of_reports.p50_ms:.1f} ms, p99 {of_reports.p99_ms:.1f} ms", *faults],
    )


def _fill(service: Service, points: int) -> int:
    """Make a run of so many points, and wait for its event file; returns its reports."""
    stream = Stream(_RUN, tags(10), min(1_000, points // 10))
    plan = Plan(service.port, ((stream,),), _VOLUME_TIMEOUT_S, scalars_max=points - stream.scalars)
    loaded = in_process(_VOLUME_TIMEOUT_S + LOAD_GRACE_S, generate, plan)
    service.usage(Span.of(loaded))
    return loaded.batches[0][0] * stream.rows


def _go_back(service: Service, reports: int, rewinds: int) -> tuple[list[float], list[float], int]:
    """Alternate rewinds, each further back, with reports; returns seconds of both, and the last visible step."""
    scalars = dict.fromkeys(tags(10), 0.5)
    reported, rewound = [], []
    step = reports
    for number in range(rewinds):
        step = reports * (rewinds - number) // (rewinds + 1) + 1
        going_back = {"next_steps": {"global_step": step}, "id": f"rewind-{number}"}
        rewound.append(service.post(f"/rewind/{quote(_RUN)}", going_back))
        reported.append(service.post(f"/scalars/{quote(_RUN)}", {"step": step, "scalars": scalars}))
    return reported, rewound, step


def _visible_faults(service: Service, last_step: int) -> list[str]:
    """What differs from steps 1 to last_step, once each, in store and event file."""
    faults = []
    for first in range(1, last_step + 1, POINTS_PER_ANSWER):
        last = min(first + POINTS_PER_ANSWER - 1, last_step)
        tag = tags(10)[0]
        if not np.array_equal(read_steps(service, _RUN, [tag], first, last)[tag], np.arange(first, last + 1)):
            faults.append(f"steps {first} to {last} are not visible once each")
    if (events := count_reports(service, _RUN)) != last_step:
        faults.append(f"{events} reports in the newest event file, {last_step} visible")
    return faults

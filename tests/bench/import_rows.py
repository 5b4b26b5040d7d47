"""The row of imports: a logdir as TensorBoard's writers leave it, one scalar a record, through `tallyboard import`."""

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import psutil

from tallyboard.wire import Float64, Int64
from tallyboard_server.eventfiles.encoder import Encoder
from tests.bench.plan import Bench
from tests.bench.result import Goal, Row
from tests.bench.service import Service, Span, serving
from tests.cli_process import clean

RUNS: Final = 4
TAGS: Final = tuple(f"train/tag{i}" for i in range(10))
GOAL_RATE: Final = 1e6
_TIMEOUT_S: Final = 600.0
_PIECE_STEPS: Final = 10_000


def imports(bench: Bench) -> Row:
    """From the command's start to its end; the files are in the page cache, as just written."""
    steps = bench.sizes.import_scalars // (RUNS * len(TAGS))
    with bench.data_folder() as folder, serving(folder, bench.sizes.settings) as service:
        size = sum(_write(folder / "import" / f"run{i}", steps) for i in range(RUNS))
        before, begun, cpu = service.figures(), time.perf_counter(), psutil.Process().cpu_times()
        command = [sys.executable, "-m", "tallyboard", "import", str(folder / "import"), "--url", service.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False, env=clean({}))
        ended, after = time.perf_counter(), psutil.Process().cpu_times()
        if done.returncode != 0:
            raise RuntimeError(f"exit code {done.returncode}: {done.stdout}{done.stderr}")
        load_cpu_s = after.children_user + after.children_system - cpu.children_user - cpu.children_system
        count = RUNS * steps * len(TAGS)
        row = Row("import", f"tallyboard import: {count:,} scalars, one a record, {RUNS} runs × {len(TAGS)} tags")
        row.rate = count / (ended - begun)
        row.usage = service.usage(Span(begun, ended, before, service.figures(), load_cpu_s))
        row.goals.append(Goal("≥ 1 M scalars/s", f"{row.rate / 1e6:.2f} M/s", row.rate >= GOAL_RATE))
        found = _stored(service)
        row.goals.append(Goal("points exact", f"{found - count:+,}", found == count))
        row.notes.append(f"{size / 1e6:.0f} MB of event files; {done.stdout.splitlines()[0]}")
    return row


def _write(directory: Path, steps: int) -> int:
    """An event file with a record for each tag at each step; returns its bytes."""
    directory.mkdir(parents=True)
    encoder = Encoder()
    random = np.random.default_rng(0)
    path = directory / "events.out.tfevents.1700000000.host"
    with path.open("wb") as file:
        for first in range(0, steps, _PIECE_STEPS):
            here = np.arange(first, min(first + _PIECE_STEPS, steps))
            values = random.normal(size=(len(here), len(TAGS)))
            columns = [_records(encoder, tag, here, values[:, i : i + 1]) for i, tag in enumerate(TAGS)]
            file.writelines(record for row in zip(*columns, strict=True) for record in row)
    return path.stat().st_size


def _records(encoder: Encoder, tag: str, steps: Int64, values: Float64) -> list[bytes]:
    """A record for each step."""
    data = encoder.encode_reports((tag,), steps, 1.7e9 + steps / 10, values)
    ends = np.cumsum(encoder.record_sizes((tag,), steps)).tolist()
    return [data[begin:end] for begin, end in pairwise([0, *ends])]


def _stored(service: Service) -> int:
    """Scalars that the service shows of all runs and tags."""
    asked: list[list[tuple[str, str | int]]] = [
        [("run", f"import/run{i}"), ("tag", tag), ("buckets", 1)] for i in range(RUNS) for tag in TAGS
    ]
    return sum(series["count"] for query in asked for series in service.get("/scalars", query)["series"])

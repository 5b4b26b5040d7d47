"""Rows without a service: what tensorboardX does on this disk, and what the encoder of event files does alone."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from tallyboard_server.eventfiles.encoder import Encoder
from tests.bench.plan import Bench
from tests.bench.result import Goal, Row
from tests.bench.streams import tags
from tests.bench.workers import in_process

_TIMEOUT_S: Final = 120.0
_SHAPES: Final = ((100, 10), (1, 20), (1_000, 10))
_ENCODER_GOAL: Final = 10e6
_CALLS_AT_ONCE: Final = 20


@dataclass(slots=True, frozen=True)
class Written:
    """calls_s: spent in add_scalar; total_s: until everything was synced to disk."""

    calls_s: float
    total_s: float


def baseline(bench: Bench) -> Row:
    """tensorboardX add_scalar to local disk, from the first call until the closed file is synced."""
    calls = bench.sizes.baseline_calls
    tries = [
        in_process(_TIMEOUT_S, add_scalars, str(bench.new_folder()), calls) for _ in range(bench.sizes.baseline_repeats)
    ]
    best = min(tries, key=lambda written: written.total_s)
    bench.baseline = calls / best.total_s
    bench.baseline_call_s = best.calls_s / calls
    return Row(
        "baseline",
        f"tensorboardX add_scalar to local disk, {calls:,} calls, until synced; the best of {len(tries)}",
        rate=bench.baseline,
        ratio=1.0,
        details={"rates": [calls / written.total_s for written in tries], "call_s": bench.baseline_call_s},
    )


def add_scalars(folder: str, calls: int) -> Written:
    """Write scalars of ten tags the way trainings do; to be called in a process of its own."""
    from tensorboardX import SummaryWriter

    names = tags(10)
    writer = SummaryWriter(folder)
    begun = time.perf_counter()
    for i in range(calls):
        writer.add_scalar(names[i % 10], 0.5 + i, i // 10)
    called = time.perf_counter()
    writer.close()
    for path in Path(folder).iterdir():
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
    return Written(called - begun, time.perf_counter() - begun)


def encoder(bench: Bench) -> list[Row]:
    """The encoder of event files alone, in memory."""
    rows = []
    for n, k in _SHAPES:
        rates = in_process(_TIMEOUT_S, encode, n, k, bench.sizes.encoder_s)
        row = Row(
            f"encoder-{n}",
            f"event records of {n:,} reports × {k} tags, in memory; the best of {len(rates)}",
            rate=max(rates),
            ratio=bench.ratio(max(rates)),
            details={"rates": rates},
        )
        if (n, k) == _SHAPES[0]:
            reached = f"{max(rates) / 1e6:.1f} M/s"
            row.goals.append(Goal(f"≥ {_ENCODER_GOAL / 1e6:.0f} M/s", reached, max(rates) >= _ENCODER_GOAL))
        rows.append(row)
    return rows


def encode(n: int, k: int, seconds: float, repeats: int = 3) -> list[float]:
    """Scalars a second of n × k batches, of so many tries of `seconds` each."""
    names, tries = tags(k), Encoder()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n, k))
    walls = np.arange(n, dtype=np.float64) * 1e-3 + 1.7e9
    rates = []
    for _ in range(repeats):
        step, begun = 1, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            for _ in range(_CALLS_AT_ONCE):
                tries.encode_reports(names, np.arange(step, step + n), walls, values)
                step += n
        rates.append((step - 1) * k / (time.perf_counter() - begun))
    return rates

"""What a data directory that nobody owns holds, against what it must."""

from pathlib import Path
from typing import Any

import numpy as np

from tallyboard_server.eventfiles import LogDirectory
from tallyboard_server.model import Block, RunState
from tallyboard_server.store.protocol import Store
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.verify import RunCheck
from tests.kill.streams import Expected, Stream

LAG = ("blocks behind", "about to be replaced", "there is no event file yet")
"""How verification words what a running service has yet to catch up with."""


def check(data_dir: Path, streams: list[Stream], expected: dict[str, Expected]) -> int:
    """Every run is exactly what was acknowledged, or with the batch in flight applied whole; returns how often so."""
    store = SqliteStore.open(data_dir)
    try:
        return check_store(store, data_dir / "logdir", streams, expected)
    finally:
        store.close()


def check_store(store: Store, logdir: Path, streams: list[Stream], expected: dict[str, Expected]) -> int:
    """`check` for a store that is open already, and to which nobody else writes at this time."""
    in_flight = 0
    for stream in streams:
        in_flight += _check_run(store, stream, expected[stream.run])
        _check_event_files(store, logdir, stream.run)
    return in_flight


def _check_run(store: Store, stream: Stream, wanted: Expected) -> bool:
    with store.snapshot() as view:
        state = view.load(stream.run)
        blocks = [] if state is None else _all_blocks(view, state)
    wanted.follow(stream.acknowledged)
    if state is None:
        assert not stream.acknowledged, f"{stream.run} is gone"
        return False
    seq = state.producers[stream.producer].seq
    came_through = seq == len(stream.acknowledged) + 1
    if came_through:  # written, and killed before the answer: it will be replayed
        assert stream.in_flight is not None
        outcome = wanted.outcome(stream.in_flight)
        compare(state, blocks, outcome.state, [*wanted.blocks, *outcome.blocks])
    else:
        assert seq == len(stream.acknowledged), (stream.run, seq, len(stream.acknowledged))
        compare(state, blocks, wanted.state, wanted.blocks)
    return came_through


def compare(state: RunState, blocks: list[Block], wanted: RunState, wanted_blocks: list[Block]) -> None:
    """Counters, attempts, tags, producers and every point, but for the server's times."""
    assert (state.pos, state.epoch) == (wanted.pos, wanted.epoch)
    assert _plain(state) == _plain(wanted)
    assert np.array_equal(_points(blocks), _points(wanted_blocks), equal_nan=True)


def _plain(state: RunState) -> dict[str, Any]:
    return {
        "counters": [
            (c.id, c.name, [
                (a.number, a.writer, a.start, a.last_step, a.last_visible, a.reports, a.scalars, a.checksum,
                 a.tail_tags.tolist(), a.tail_values.tobytes())
                for a in c.attempts
            ])
            for c in state.counters.values()
        ],
        "tags": list(state.tags.values()),
        "producers": [(p.name, p.seq, p.checksums) for p in state.producers.values()],
    }  # fmt: skip


def _points(blocks: list[Block]) -> np.ndarray[Any, Any]:
    """One row a point (counter, attempt, tag, step, wall time, value), sorted."""
    rows = [
        np.column_stack(
            [
                np.full(len(b.steps), b.counter_id), np.full(len(b.steps), b.attempt), np.full(len(b.steps), tag),
                b.steps, b.wall_times, b.values[:, j],
            ]
        )
        for b in blocks
        for j, tag in enumerate(b.tag_ids.tolist())
    ]  # fmt: skip
    points = np.concatenate(rows) if rows else np.empty((0, 6))
    return points[np.lexsort(points.T)]


def _all_blocks(view: Any, state: RunState) -> list[Block]:
    return [
        block
        for counter in state.counters.values()
        for attempt in counter.attempts
        for block in view.blocks(state.id, counter.id, attempt.number)
    ]


def _check_event_files(store: Store, logdir: Path, run: str) -> None:
    """They may lag, but whatever they are known to hold on disk is what the store shows."""
    with store.snapshot() as view:
        if view.load(run) is None:
            return
    check = RunCheck(store, LogDirectory(logdir), run, catch_up_s=0.0)
    for _ in check.steps():
        pass
    amiss = [d for d in check.report.differences if not any(lag in d.detail for lag in LAG)]
    assert not amiss, amiss

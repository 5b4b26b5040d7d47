"""The server killed at any instant under load: what was acknowledged is there, exactly once, and files catch up.

SEED=… in the environment repeats a run.
"""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tallyboard_server.cli.sources import Online
from tests.kill.eager import PLACES
from tests.kill.held import check
from tests.kill.kills import KILLS
from tests.kill.server import Server
from tests.kill.streams import Expected, Stream

SEED = os.environ.get("SEED") or str(random.SystemRandom().randrange(10**6))
RUNS = ("a/one", "a/two", "a/three", "b/four")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 12 * KILLS)]


@contextmanager
def under_load(folder: Path, seed: str) -> Iterator[tuple[Server, list[Stream]]]:
    """A server that is not started yet, and streams that try to reach it; at the end all are answered and verify."""
    server = Server(folder)
    dice = random.Random(seed)
    streams = [Stream(run, server.url, random.Random(dice.random())) for run in RUNS]
    for stream in streams:
        stream.start()
    try:
        yield server, streams
        for stream in streams:
            stream.finish()
        assert [stream.failure for stream in streams] == [None] * len(streams), server.log()
        verify_all(server, streams)
    finally:
        for stream in streams:
            stream.stop.set()
        server.stop()


def verify_all(server: Server, streams: list[Stream]) -> None:
    """Sent = stored = in the event files, as the running server finds by a fresh read."""
    for stream in streams:
        report = Online(server.service).verify(stream.run, lambda _scalars: None)
        assert report.ok, report.differences
        assert report.event_file is not None


def test_kills_at_random(tmp_path: Path) -> None:
    print(f"SEED={SEED}")
    dice = random.Random(SEED)
    expected = {run: Expected(run) for run in RUNS}
    with under_load(tmp_path, SEED) as (server, streams):
        came_through = 0
        for number in range(KILLS):
            server.start(eager=number % 2 == 0)
            time.sleep(dice.uniform(0.0, 0.5))
            server.kill()
            came_through += check(server.data_dir, streams, expected)
        server.start()
        batches = sum(len(stream.acknowledged) for stream in streams)
    assert batches > 4 * KILLS
    # An answer may still be on its way to the stream's own thread while the data dir is looked at.
    assert sum(stream.replays for stream in streams) <= came_through
    print(f"{KILLS} kills: {batches} batches acknowledged, {came_through} came through unanswered")


def test_kills_at_one_very_point_each(tmp_path: Path) -> None:
    """Within merges, checkpoints, event files' openings and their renaming, around commits: see PLACES."""
    expected = {run: Expected(run) for run in RUNS}
    with under_load(tmp_path, "points") as (server, streams):
        for place in PLACES:
            times = 2 if "snapshot" in place or "file" in place else 7
            server.start(eager=True, variables={"FUSE": f"{place}:{times}"}, wait=False)
            server.wait_for_death(60, place)
            check(server.data_dir, streams, expected)
        server.start(eager=True)

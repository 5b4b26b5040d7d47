"""Three services on one PostgreSQL behind a balancer, under a fleet of clients, of which anything dies at any moment.

What was acknowledged is there exactly once, counters never go back, event files follow, and each share has one holder.
SEED=… in the environment repeats the choices of a run.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest

import tallyboard
from tallyboard.wire import Receipt
from tallyboard_server.cli.sources import Online
from tallyboard_server.store.postgres import PostgresStore
from tests.kill.balancer import Balancer, balanced
from tests.kill.cluster import Cluster
from tests.kill.fleet import Churn, Job, Marks, Monitor
from tests.kill.held import check_store
from tests.kill.kills import KILLS
from tests.kill.streams import Expected, Stream
from tests.postgres import of_the_wheel, running
from tests.tensorboard_process import TensorBoardProcess

SEED = os.environ.get("SEED") or str(random.SystemRandom().randrange(10**6))
STREAMS = ("a/one", "b/two", "b/three", "b/four")
JOBS = {"a/first": "spill", "b/second": "always"}
RARE = (
    "takeover", "pause", "pause", "terminate", "terminate", "kill two", "fast", "immediate",
    "kill database", "outage",
)  # fmt: skip
"""What happens once in EVERY times each; the rest are kills of one service."""
EVERY = 14
COUNT = KILLS * 14 // 18
"""Each takes some seconds, and these are as many as there are kinds of them, if nobody asks for more."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240 + 12 * KILLS)]


@dataclass
class Told(Stream):
    """A stream that looks at what receipts say of its counters."""

    marks: Marks = field(default_factory=Marks)

    def _send(self, body: bytes) -> Receipt:
        receipt = super()._send(body)
        self.marks.told(self.run, msgspec.to_builtins(receipt.counters))
        return receipt


@contextmanager
def clients(folder: Path, url: str, dice: random.Random) -> Iterator[tuple[list[Told], list[Job], Monitor, Churn]]:
    """The fleet at work; stopped when the block ends, whatever has become of it."""
    streams = [Told(run, url, random.Random(dice.random())) for run in STREAMS]
    jobs = [
        Job(folder / run.replace("/", "-"), url, run, policy, random.Random(dice.random()))
        for run, policy in JOBS.items()
    ]
    monitor = Monitor(url)
    churn = Churn(url)
    everybody: list[Told | Job | Monitor | Churn] = [*streams, *jobs, monitor, churn]
    try:
        for one in everybody:
            one.start()
        yield streams, jobs, monitor, churn
    finally:
        for stream in streams:
            stream.stop.set()
        for job in jobs:
            job.stop()
        monitor.stop()
        churn.stop()


def happenings(dice: random.Random) -> list[str]:
    """What is to happen, COUNT times."""
    found: list[str] = []
    while len(found) < COUNT:
        some = [*RARE, *["kill"] * (EVERY - len(RARE))]
        dice.shuffle(some)
        found += some
    return found[:COUNT]


def test_anything_killed_at_any_moment(tmp_path: Path) -> None:
    print(f"SEED={SEED}")
    dice = random.Random(SEED)
    with running(of_the_wheel(), durable=True) as postgres:
        cluster = Cluster(tmp_path, postgres, dice)
        try:
            cluster.whole()
            with (
                balanced(cluster.ports, dice.randrange(1000)) as balancer,
                clients(tmp_path, balancer.url, dice) as (streams, jobs, monitor, churn),
            ):
                harm(cluster, dice, churn)
                cluster.whole()
                for stream in streams:
                    stream.finish()
                assert [stream.failure for stream in streams] == [None] * len(streams)
                for job in jobs:
                    last = job.finish()
                    assert all(result.done for result in tallyboard.sync(job.spool, url=balancer.url))
                    check_job(cluster, job, last)
                monitor.stop()
                check_all(cluster, streams, monitor)
                cluster.check_deleted()
        except BaseException:
            print(cluster.log())
            raise
        finally:
            cluster.close()
    tell(streams, jobs, churn, monitor, balancer)


def tell(streams: list[Told], jobs: list[Job], churn: Churn, monitor: Monitor, balancer: Balancer) -> None:
    """How much there was to be lost."""
    batches, again = sum(len(stream.acknowledged) for stream in streams), sum(stream.replays for stream in streams)
    print(f"{batches} batches, {again} of them came twice; {sum(job.lives for job in jobs)} lives of jobs")
    faults = sum(balancer.met.values()) - balancer.met["none"]
    print(f"{churn.made} runs deleted; {monitor.marks.answers} answers watched; {faults} faults on the way")


def harm(cluster: Cluster, dice: random.Random, churn: Churn) -> None:
    """Have it all happen; runs are made and deleted up to the last quarter of it."""
    begun = time.monotonic()
    done: Counter[str] = Counter()
    for number, what in enumerate(happenings(dice)):
        if number == COUNT * 3 // 4:
            churn.stop()
        done[what] += 1
        cluster.happen(what, dice.choice(STREAMS))
        time.sleep(dice.uniform(0.0, 0.8))
        cluster.resume_due()
        cluster.revive()
        time.sleep(dice.uniform(0.0, 0.8))
    print(f"{time.monotonic() - begun:.0f} s: {dict(done)}; {cluster.blown} services ended themselves at some point")
    print(f"taken over after {[round(seconds, 1) for seconds in cluster.takeovers_s]} s")


def check_job(cluster: Cluster, job: Job, last: int) -> None:
    """Each curve is whole, of the last takes."""
    table = tallyboard.read(job.run, url=cluster.servers[0].url)
    for tag, expected in (("loss", job.curve(1, last)), ("val", job.curve(2, last // 10))):
        chosen = table["tag"] == tag
        assert list(zip(table["step"][chosen].tolist(), table["value"][chosen].tolist(), strict=True)) == expected


def check_all(cluster: Cluster, streams: list[Told], monitor: Monitor) -> None:
    """Everything that was acknowledged is there, exactly once, and nothing else; in event files, too."""
    for marks in (monitor.marks, *(stream.marks for stream in streams)):
        assert marks.gone_back == []
    cluster.check_shares()
    for number, run in enumerate((*STREAMS, *JOBS)):
        report = Online(cluster.servers[number % 3].service).verify(run, lambda _scalars: None)
        assert report.ok, report.differences
        assert report.event_file is not None
        assert report.warnings == []
    store = PostgresStore.open(cluster.url)
    try:
        expected = {run: Expected(run) for run in STREAMS}
        assert check_store(store, cluster.logdir, list(streams), expected) == 0
    finally:
        store.close()
    check_tensorboard(cluster)


def check_tensorboard(cluster: Cluster) -> None:
    """The real TensorBoard shows what the service does."""
    shown: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for run in ("a/one", "a/first"):
        table = tallyboard.read(run, url=cluster.servers[1].url)
        of_run = shown.setdefault(run.removeprefix("a/"), {})
        for tag, step, value in zip(table["tag"], table["step"].tolist(), table["value"].tolist(), strict=True):
            of_run.setdefault(tag, []).append((step, float(np.float32(value))))  # as event files have it
    with TensorBoardProcess(cluster.logdir / "a", "rust") as board:
        board.wait_for(lambda: shown)

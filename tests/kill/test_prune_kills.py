"""The server killed while it prunes: whatever went is accounted for, and asked again it takes the rest."""

import threading
from pathlib import Path

import pytest
import urllib3

from tallyboard_server.api.messages import PruneBody
from tallyboard_server.cli.http import Service, UnreachableError
from tallyboard_server.cli.sources import Online
from tallyboard_server.store.sqlite import SqliteStore
from tests.kill.pruning import PRUNE_PLACES
from tests.kill.server import Server

RUN = "a/long"
COUNTERS = 12
"""Each is pruned in a transaction of its own: a merge puts no two of them together."""
STEPS = 500
BACK_TO = 300
SUPERSEDED = COUNTERS * 2 * (STEPS - BACK_TO)
EVERYTHING = PruneBody(dry_run=False, superseded=True, thin=100)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def fill(service: Service) -> None:
    """Many reports, the end of them superseded."""
    pool = urllib3.PoolManager()

    def post(path: str, document: object) -> None:
        assert pool.request("POST", f"{service.url}/api/v1/{path}/{RUN}", json=document).status == 200

    counters = [f"counter{i}" for i in range(COUNTERS)]
    for name in counters:
        rows = [
            {"counter": name, "step": step, "scalars": {f"{name}/loss": step / 7, f"{name}/acc": -step / 3}}
            for step in range(STEPS)
        ]
        post("scalars", {"reports": rows})
    post("rewind", {"id": "one", "next_steps": dict.fromkeys(counters, BACK_TO)})
    for name in counters:
        post("scalars", {"counter": name, "step": BACK_TO, "scalars": {f"{name}/loss": 1.0}})


def merge_all(data_dir: Path) -> None:
    """As the service does when a run has been silent for long. What event files need is on disk: it has ended."""
    store = SqliteStore.open(data_dir)
    try:
        with store.snapshot() as view:
            state = view.load(RUN)
        assert state is not None
        for counter in state.counters.values():
            for attempt in counter.attempts:
                with store.snapshot() as view:
                    place = state.id, counter.id, attempt.number
                    sources = view.whole_batches(*place, up_to_pos=state.pos, rows_max=10**6)
                merged = store.prepare_merge(state.id, sources)
                with store.transaction() as transaction:
                    transaction.merge(merged)
    finally:
        store.close()


def ask(service: Service) -> None:
    """Prune, until the server is gone."""
    try:
        Online(service).prune(RUN, EVERYTHING, lambda _scalars: None)
    except UnreachableError:
        return


def pruned_of(data_dir: Path) -> int:
    """How many scalars the attempts' accounts say are gone, and that no more and no fewer are missing."""
    store = SqliteStore.open(data_dir)
    gone = 0
    try:
        with store.snapshot() as view:
            state = view.load(RUN)
            assert state is not None
            for counter in state.counters.values():
                for attempt in counter.attempts:
                    blocks = view.blocks(state.id, counter.id, attempt.number)
                    assert sum(block.values.size for block in blocks) == attempt.scalars - attempt.pruned_scalars
                    gone += attempt.pruned_scalars
    finally:
        store.close()
    return gone


@pytest.mark.parametrize("place", PRUNE_PLACES)
def test_killed_while_pruning(tmp_path: Path, place: str) -> None:
    server = Server(tmp_path)
    server.start()
    try:
        fill(server.service)
        assert Online(server.service).verify(RUN, lambda _scalars: None).ok
        server.stop()
        merge_all(server.data_dir)
        pruned = 0
        for times in (1, 3, 5):
            server.start(module="tests.kill.pruning", variables={"FUSE": f"{place}:{times}"})
            asked = threading.Thread(target=ask, args=(server.service,))
            asked.start()
            server.wait_for_death(60, place)
            asked.join()
            now = pruned_of(server.data_dir)
            assert now > pruned or times == 1
            pruned = now
        server.start()
        source = Online(server.service)
        rest = source.prune(RUN, EVERYTHING, lambda _scalars: None)
        report = source.verify(RUN, lambda _scalars: None)
        assert report.ok, report.differences
        assert rest.total > 0
        assert pruned + rest.total == sum(attempt.pruned for attempt in report.attempts) > SUPERSEDED
        assert source.prune(RUN, EVERYTHING, lambda _scalars: None).superseded == 0
    finally:
        server.stop()

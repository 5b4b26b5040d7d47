"""Watchdogs of a service among several: what others received, be it told or not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallyboard.wire import JSON, decode_batch
from tallyboard_server.ingest import Append, Ingest
from tallyboard_server.membership import SharedService
from tallyboard_server.settings import Settings
from tests.service import RunningService, serving, until
from tests.stores import Stores, on

pytestmark = on("postgres")

RUN = "p/run"
FAILED = b'{"producer": "job", "seq": 2, "status": "failed"}'


@pytest.fixture
def service(stores: Stores, tmp_path: Path) -> Iterator[RunningService]:
    settings: dict[str, Any] = stores.settings(tmp_path / "shared") | {"data_dir": tmp_path, "port": 0}
    with serving(Settings(**settings, tensorboard=False, watchdogs=True)) as running:
        yield running
    stores.remove(tmp_path / "shared")


def test_a_run_that_failed_where_nobody_told_of_it(service: RunningService, stores: Stores, tmp_path: Path) -> None:
    started = {"producer": "job", "seq": 1, "reports": [{"step": 1, "scalars": {"loss": 0.5}}]}
    assert service.report(RUN, started).status == 200
    assert until(lambda: service.parts.views["watchdogs"].stats()["watch_runs"] == 1)
    silent = stores.open(tmp_path / "shared")
    writer = Ingest(silent)  # of a replica that ends before its news are heard
    writer.start()
    writer.submit_blocking(Append(RUN, decode_batch(FAILED, JSON, now=1.0)))
    writer.close()
    silent.close()
    membership = service.parts.views["replicas"]
    assert isinstance(membership, SharedService)
    membership.missed()
    assert until(lambda: b"the run failed" in service.get(f"/alerts/{RUN}").body)

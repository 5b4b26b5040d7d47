"""Work of the service's own on many runs at once goes on with the others while another replica changes some of them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tallyboard.wire import Columns
from tallyboard.wire.batch import Batch
from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.eventfiles.files.exporter import file_engine
from tallyboard_server.eventfiles.files.storage import FileTools
from tallyboard_server.eventfiles.layout import LogDirectory
from tallyboard_server.eventfiles.tools import ExportSettings
from tallyboard_server.ingest import Append, Ingest
from tallyboard_server.notify import Outbox
from tallyboard_server.store.protocol import Store
from tallyboard_server.watch import RuleBook, Rules, Watcher
from tests.eventfiles_kit import Clock, settle
from tests.stores import Stores, on

pytestmark = on("postgres")

FREE, HELD = "p/free", "p/held"
BEGIN = 1_000_000.0


@pytest.fixture
def stores_of_two(stores: Stores, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """The same store twice."""
    opened = stores.open(tmp_path / "shared"), stores.open(tmp_path / "shared")
    yield opened
    for store in opened:
        store.close()
    stores.remove(tmp_path / "shared")


@pytest.fixture
def ingest(stores_of_two: tuple[Store, Store]) -> Iterator[Ingest]:
    """The first one's writer; there are two runs, which have failed."""
    made = Ingest(stores_of_two[0], clock=lambda: BEGIN)
    made.start()
    yield made
    made.close()


def report(ingest: Ingest, run: str, **parts: object) -> None:
    columns = Columns("step", ("loss",), np.arange(3), np.full(3, 1e9), np.full((3, 1), 0.5))
    ingest.submit_blocking(Append(run, Batch(columns=(columns,), **parts)))  # type: ignore[arg-type]


def record(ingest: Ingest) -> Callable[..., None]:
    """With so little patience that a run that is held for long keeps nobody."""
    return lambda work: ingest.record(work, timeout_s=0.1)


def test_event_files_of_other_runs_are_begun(
    stores_of_two: tuple[Store, Store], ingest: Ingest, tmp_path: Path
) -> None:
    store, other = stores_of_two
    for run in (FREE, HELD):
        report(ingest, run)
    tools = FileTools(
        store, record(ingest), ExportSettings(), Clock(), Clock(BEGIN), LogDirectory(tmp_path), Disk(), host="host"
    )
    engine = file_engine(tools)
    with other.transaction([HELD]):
        for _ in range(10):
            engine.turn(force=True)
        assert [path.parent.name for path in tmp_path.rglob("*tfevents*")] == ["free"]
    settle(engine)
    assert sorted(path.parent.name for path in tmp_path.rglob("*tfevents*")) == ["free", "held"]
    engine.close()


def test_watchdogs_tell_of_other_runs(stores_of_two: tuple[Store, Store], ingest: Ingest) -> None:
    store, other = stores_of_two
    watcher = Watcher(
        store, record(ingest), ingest.heartbeats, RuleBook(Rules()), Outbox(lambda _run: False), clock=Clock(BEGIN)
    )
    watcher.turn()
    ingest.on_commit(watcher.inbox.committed)
    for run in (FREE, HELD):
        report(ingest, run, status="failed")

    def told() -> list[str]:
        with store.snapshot() as view:
            return sorted(name for name, incident in view.incidents() if incident.kind == "failed")

    with other.transaction([HELD]):
        watcher.turn()
        assert told() == [FREE]
    watcher.turn()
    assert told() == [FREE, HELD]

"""Whatever the history, and whenever the exporter looked or was restarted: files show what the store shows."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tallyboard_server.eventfiles import opening, reading
from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.files.storage import DiskFiles
from tallyboard_server.ingest import Merger
from tests.eventfiles_kit import Service, curves, same, settle
from tests.examples import given_on_engines
from tests.histories import Action, actions
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

RUN = "p/run"


class Exporting:
    """What happens to the exporter between the actions of a history."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.engine: Engine[DiskFiles] = service.engine()
        self._merger = Merger(service.store, service.ingest.record, min_blocks=2)

    def settle(self) -> None:
        settle(self.engine)

    def turn(self) -> None:
        """One turn in time: it may write a tail, or a part of an opening, and sync none of it."""
        self.engine.notify([1])
        self._service.pass_time(1.5)
        self.engine.turn()

    def restart(self) -> None:
        self.engine.close()
        self.engine = self._service.engine()

    def merge(self) -> None:
        self._merger.merge_run(1)

    def end_of_grace(self) -> None:
        self._service.pass_time(31)
        self.engine.turn()


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    """Read openings and tails in pieces of a few rows, so that short histories meet every cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "SLICE_BYTES", 150)
        patch.setattr(reading, "READ_BYTES", 100)
        yield


_between = st.sampled_from(["settle", "turn", "turn", "restart", "merge", "end_of_grace"])


@given_on_engines(
    110, elsewhere=8, history=st.lists(st.tuples(actions, st.lists(_between, max_size=2)), min_size=4, max_size=14)
)
def test_files_show_what_the_store_shows(stores: Stores, history: list[tuple[Action, list[str]]]) -> None:
    directory = Path(tempfile.mkdtemp(prefix="tallyboard-test-"))
    try:
        with Service(directory, stores=stores) as service:
            exporting = Exporting(service)
            for action, between in history:
                action(service, RUN)
                for what in between:
                    getattr(exporting, what)()
                    check_order(service)
            settle(exporting.engine)
            check(service)
            exporting.end_of_grace()
            exporting.restart()
            settle(exporting.engine)
            check(service)
            exporting.engine.close()
            assert len(service.event_files(RUN)) <= 1
    finally:
        shutil.rmtree(directory)


def check(service: Service) -> None:
    """The newest file holds exactly the visible points."""
    with service.store.snapshot() as view:
        if view.load(RUN) is None:
            return
    expected = service.shown(RUN)
    if not service.event_files(RUN):
        assert expected == {}
        return
    found = curves(service.live_file(RUN))
    assert same(found, expected), (found, expected)


def check_order(service: Service) -> None:
    """At any time, the newest file is whole and has each tag's steps ascending (the Rust reader loses others)."""
    if not service.event_files(RUN):
        return
    for tag, curve in curves(service.live_file(RUN)).items():
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps)), (tag, curve)

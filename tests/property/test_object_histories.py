"""Whatever the history, and whenever the exporter looked, failed or was killed: readers of objects show the store."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallyboard_server.eventfiles import opening, reading
from tallyboard_server.eventfiles.objects import runobjects
from tallyboard_server.ingest import Merger
from tests.eventfiles_kit import same
from tests.histories import Action, actions
from tests.objects_kit import Crash, Fuse, FusedMemory, ObjectService, Reader, settle_objects

RUN = "p/run"


class Exporting:
    """What happens to the exporter between the actions of a history; what was written is never written otherwise."""

    def __init__(self, service: ObjectService) -> None:
        self._service = service
        self.memory = FusedMemory()
        self.engine = service.objects(self.memory)
        self._merger = Merger(service.store, service.ingest.record, min_blocks=2)
        self._seen: dict[str, bytes] = {}

    def do(self, what: str) -> None:
        getattr(self, what)()
        now = self._service.stored()
        for path, data in self._seen.items():
            opening = path.endswith(".000000")  # of which a memory shows what is written so far
            found = now.get(path, data)
            assert found.startswith(data) if opening else found == data, f"{path} was written otherwise"
        self._seen |= now

    def settle(self) -> None:
        settle_objects(self.engine)

    def turn(self) -> None:
        self.engine.notify([1])
        self._service.pass_time(1.5)
        self.engine.turn()

    def restart(self) -> None:
        self.engine.close()
        self.engine = self._service.objects(self.memory)

    def merge(self) -> None:
        self._merger.merge_run(1)

    def end_of_grace(self) -> None:
        self._service.pass_time(31)
        self.engine.turn()

    def crash(self, at: int, after: bool) -> None:
        """Die at the n-th call from now on, if there are so many before all is settled; then start again."""
        self.memory.fuse = Fuse(at, after)
        try:
            settle_objects(self.engine)
        except Crash:
            self.restart()
        self.memory.fuse = Fuse()

    def fail(self, at: int, after: bool) -> None:
        """Let a call fail; nothing is lost by that."""
        self.memory.fuse = Fuse(at, after, lambda: OSError(5, "the endpoint is gone"))
        self.turn()
        self.memory.fuse = Fuse()
        self._service.pass_time(61)


@pytest.fixture(autouse=True, scope="module")
def small_slices() -> Iterator[None]:
    """Openings and tails of a few rows, and generations that are outgrown by a few segments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "SLICE_BYTES", 150)
        patch.setattr(reading, "READ_BYTES", 100)
        patch.setattr(runobjects, "MANY", 3)
        yield


_faults = st.tuples(st.sampled_from(["crash", "fail"]), st.integers(1, 6), st.booleans())
_between = st.one_of(st.sampled_from(["settle", "turn", "turn", "restart", "merge", "end_of_grace"]), _faults)


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(actions, st.lists(_between, max_size=2)), min_size=4, max_size=12), st.booleans())
def test_readers_of_objects_show_what_the_store_shows(
    history: list[tuple[Action, list[str | tuple[str, int, bool]]]], watched: bool
) -> None:
    with tempfile.TemporaryDirectory(prefix="tallyboard-test-") as directory, ObjectService(Path(directory)) as service:
        exporting = Exporting(service)
        running = Reader(service.directory_of(RUN))
        for action, between in history:
            action(service, RUN)
            for what in between:
                if isinstance(what, str):
                    exporting.do(what)
                else:
                    getattr(exporting, what[0])(*what[1:])
                if watched:
                    running.reload()
        exporting.do("settle")
        check(service, running)
        for what in ("settle", "end_of_grace", "restart", "settle"):
            exporting.do(what)
        check(service, running)
        assert len({name.rpartition(".")[0] for name in service.names(RUN)}) <= 1
        exporting.engine.close()


def check(service: ObjectService, running: Reader) -> None:
    """A reader that ran all the time and one that begins now show exactly the visible points."""
    with service.store.snapshot() as view:
        if view.load(RUN) is None:
            return
    expected = service.shown(RUN)
    running.reload()
    for reader in (running, Reader(service.directory_of(RUN))):
        found = reader.reload()
        assert same(found, expected), (found, expected, service.names(RUN))

"""A service that is paused anywhere in its work on event files, is taken for dead, and goes on where it was.

Whatever the other has done meanwhile: readers see the points of the store, once, and no file is left that nobody knows.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns, Rewind
from tallyboard_server.eventfiles import ExportSettings
from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.eventfiles.files.exporter import file_engine
from tallyboard_server.eventfiles.files.storage import DiskFiles, FileTools
from tallyboard_server.eventfiles.layout import LogDirectory
from tallyboard_server.ingest import Append, Delete, Merger
from tallyboard_server.replicas.replica import VALID_S
from tallyboard_server.shares import SHARES
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.verify import RunCheck
from tests.eventfiles_kit import Clock, settle
from tests.postgres_stores import PostgresStores
from tests.replicas_kit import Node, Nodes, joined
from tests.stores import on

pytestmark = on("postgres")
GRACE_S = 30.0
PLACES_MAX = 200
AFTER = ("create", "write", "sync", "sync_directory", "rename", "remove")
"""What a disk does, and behind which it may be paused. (Between the look whether a run is still its own and the
renaming that follows nothing is done that could take long.)"""


class Pause:
    """Comes once, behind the n-th thing that is done to the disk, or around the n-th that is recorded."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.pause: Callable[[], None] = lambda: None
        self.is_over = False

    def here(self) -> None:
        """This is such a place."""
        self._left -= 1
        if self._left == 0 and not self.is_over:
            self.is_over = True
            self.pause()


def behind(method: Callable[..., Any], place: Pause) -> Callable[..., Any]:
    def done_first(*arguments: Any) -> Any:
        result = method(*arguments)
        place.here()
        return result

    return done_first


class Writer:
    """The event files' and the merger's part of a replica."""

    def __init__(self, nodes: Nodes, logdir: Path, wall: Clock) -> None:
        self.node: Node = nodes.join()
        self.disk = Disk()
        self._record = self.node.replica.fenced(self.node.ingest.record)
        tools = FileTools(
            self.node.store, self.record, ExportSettings(grace_s=GRACE_S), self.node.clock, wall,
            LogDirectory(logdir), self.disk, host="host", shares=self.node.held,
        )  # fmt: skip
        self.engine: Engine[DiskFiles] = file_engine(tools)
        self.merger = Merger(self.node.store, self.record, min_blocks=2, clock=wall, shares=self.node.held)
        self.place: Pause | None = None

    def record(self, work: Any) -> None:
        """With pauses before and behind it."""
        if self.place is not None:
            self.place.here()
        self._record(work)
        if self.place is not None:
            self.place.here()

    def turn(self) -> None:
        """What its threads do next, one after the other."""
        self.engine.begin_sweep()
        self.merger._next_sweep = 0.0
        for turn in (partial(self.engine.turn, force=True), self.merger._turn):
            with suppress(StoreError):  # as their threads do: they begin again
                turn()


@pytest.fixture
def nodes(stores: PostgresStores, tmp_path: Path) -> Iterator[Nodes]:
    with joined(stores, tmp_path) as made:
        yield made


def report(node: Node, run: str, step: int, **parts: Any) -> None:
    columns = Columns("step", ("loss",), np.arange(step, step + 3), np.full(3, 1e9), np.full((3, 1), float(step)))
    node.ingest.submit_blocking(Append(run, Batch(columns=(columns,), partial=True, **parts)))


def just_more(node: Node, run: str) -> None:
    report(node, run, 20)


def back_and_more(node: Node, run: str) -> None:
    report(node, run, 5, rewind=Rewind(next_steps={"step": 5}))
    report(node, run, 8)


CHANGES = {"more": (just_more, 1), "rewound": (back_and_more, 3)}
"""What happens, and the how manieth place each is tried: a rewind has three times as many."""


@pytest.mark.parametrize("returns", [False, True], ids=["stays away", "comes back to its shares"])
@pytest.mark.parametrize(("change", "every"), CHANGES.values(), ids=CHANGES)
def test_paused_anywhere(
    nodes: Nodes, tmp_path: Path, change: Callable[[Node, str], None], every: int, returns: bool
) -> None:
    logdir, wall = tmp_path / "logdir", Clock(1.75e9)
    paused, other = Writer(nodes, logdir, wall), Writer(nodes, logdir, wall)
    last = paused if returns else other
    for number in count(1, every):
        assert number < PLACES_MAX
        run = f"p/{number}"
        paused.node.renew()
        assert len(paused.node.shares) == SHARES
        was_paused = pause_once(nodes, paused, other, run, Pause(number), change, returns=returns)
        if not was_paused:
            break
        for _ in range(2):  # after the second, what is retired has gone
            last.node.renew()
            settle(last.engine)
            for clock in (paused.node.clock, other.node.clock, wall):
                clock.now += GRACE_S + 1.0
        check(last.node, logdir, run)
        other.node.ingest.submit_blocking(Delete(run))
        settle(last.engine)
        other.node.replica.stop()
    assert number > 10


def pause_once(
    nodes: Nodes, paused: Writer, other: Writer, run: str, place: Pause, change: Callable[[Node, str], None],
    *, returns: bool,
) -> bool:  # fmt: skip
    """A run begins, and grows; then its writer is paused in some place. Whether there was such a place."""

    def pause() -> None:
        nodes.silence(paused.node)
        other.node.renew()
        assert len(other.node.shares) == SHARES
        change(other.node, run)
        settle(other.engine)
        other.turn()
        paused.node.clock.now += VALID_S
        if returns:
            other.node.replica.stop()
            paused.node.renew()

    place.pause = pause
    report(paused.node, run, 1)
    report(paused.node, run, 4)
    with pytest.MonkeyPatch.context() as patch:
        paused.place = place
        for name in AFTER:
            patch.setattr(paused.disk, name, behind(getattr(paused.disk, name), place))
        for _ in range(3):
            paused.turn()
            if not place.is_over:
                change(paused.node, run)
        paused.place = None
    return place.is_over


def check(node: Node, logdir: Path, run: str) -> None:
    """Files are what is recorded, and the newest is what the store shows."""
    report_of = RunCheck(node.store, LogDirectory(logdir), run, catch_up_s=0.0)
    for _ in report_of.steps():
        pass
    found = report_of.report
    assert (found.differences, found.warnings) == ([], [])
    assert found.event_file is not None
    with node.store.snapshot() as view:
        state = view.load(run)
        assert state is not None
        recorded = {generation.file_name for generation in view.generations(state.id)}
    assert {path.name for path in (logdir / run).iterdir()} == recorded  # not even a hidden one is left

"""The exporter killed at every single file operation and record: the next one writes the same bytes, once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tallyboard_server.eventfiles.encoder import Encoder
from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.eventfiles.ordering import encode_blocks
from tallyboard_server.eventfiles.reader import read_event_file
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.tools import ExportSettings
from tests.eventfiles_kit import Service, columns, curves, same, settle

RUN = "digits/try1"


class Crash(BaseException):
    """The process ends here."""


class Fuse:
    """Counts operations and crashes at one of them, halfway through or after it took effect."""

    def __init__(self, crash_at: int | None = None) -> None:
        self.crash_at = crash_at
        self.count = 0
        self.log: list[str] = []

    def burn(self, what: str) -> bool:
        """Whether the crash comes with this operation."""
        self.count += 1
        self.log.append(what)
        return self.count == self.crash_at


class FusedDisk(Disk):
    """A disk on which the process may end: in the middle of a write, before or after anything else."""

    def __init__(self, fuse: Fuse, *, after: bool) -> None:
        self._fuse = fuse
        self._after = after

    def _around(self, what: str, operation: Callable[[], Any]) -> Any:
        crash = self._fuse.burn(what)
        if crash and not self._after:
            raise Crash(what)
        result = operation()
        if crash:
            raise Crash(what)
        return result

    def make_directory(self, path: Path, root: Path) -> None:
        self._around("mkdir", lambda: super(FusedDisk, self).make_directory(path, root))

    def create(self, path: Path) -> int:
        fd: int = self._around("create", lambda: super(FusedDisk, self).create(path))
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        part = data if self._fuse.count + 1 != self._fuse.crash_at or self._after else data[: len(data) // 2]
        crash = self._fuse.burn("write")
        super().write(fd, part, offset)
        if crash:
            raise Crash("write")

    def sync(self, fd: int) -> None:
        self._around("sync", lambda: super(FusedDisk, self).sync(fd))

    def sync_directory(self, path: Path) -> None:
        self._around("sync_directory", lambda: super(FusedDisk, self).sync_directory(path))

    def rename(self, old: Path, new: Path) -> None:
        self._around("rename", lambda: super(FusedDisk, self).rename(old, new))

    def remove(self, path: Path) -> None:
        self._around("remove", lambda: super(FusedDisk, self).remove(path))


HISTORY: list[Callable[[Service], object]] = [
    lambda s: s.report(RUN, [0, 1], {"loss": [1, 2], "acc": [3, 4]}, producer="a"),
    lambda s: s.batch(
        RUN,
        "a",
        columns=(
            columns([2, 4, 6], {"loss": [2, 4, 6]}, block=0),
            columns([3, 5], {"acc": [3, 5]}, block=1),
        ),
    ),
    lambda s: s.rewind(RUN, "b", global_step=4),
    lambda s: s.report(RUN, [4, 5], {"loss": [40, 50]}, producer="b"),
    lambda s: s.report(RUN, [10], {"loss": [100]}, producer="a"),
    lambda s: s.report(RUN, [6], {"loss": [60]}, producer="b"),
]


def play(service: Service, fuse: Fuse, *, after: bool) -> None:
    """Export a short history with a rewind, a late writer and the end of a grace period; start again after a crash."""

    def record(work: Callable[..., None]) -> None:
        crash = fuse.burn("record")
        if crash and not after:
            raise Crash("record")
        service.ingest.record(work)
        if crash:
            raise Crash("record")

    engine = service.engine(disk=FusedDisk(fuse, after=after), record=record)

    def guarded(step: Callable[[], object]) -> None:
        nonlocal engine
        try:
            step()
        except Crash:
            engine.close()
            engine = service.engine(disk=FusedDisk(fuse, after=after), record=record)
            settle(engine)

    for event in HISTORY:
        event(service)
        guarded(lambda: settle(engine))
        service.pass_time(7)
    guarded(lambda: settle(engine))
    service.pass_time(60)
    guarded(lambda: settle(engine))
    settle(engine)
    engine.close()


def operations(tmp_path: Path) -> list[str]:
    with Service(tmp_path / "uninterrupted", ExportSettings(grace_s=20.0)) as service:
        fuse = Fuse()
        play(service, fuse, after=True)
        return fuse.log


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_at_any_operation_leaves_no_trace(tmp_path: Path, after: bool) -> None:
    log = operations(tmp_path)
    assert {"mkdir", "create", "write", "sync", "sync_directory", "rename", "remove", "record"} <= set(log)
    assert len(log) > 30
    for crash_at in range(1, len(log) + 1):
        where = f"{log[crash_at - 1]} ({crash_at} of {len(log)})"
        with Service(tmp_path / f"crash{crash_at}", ExportSettings(grace_s=20.0)) as service:
            fuse = Fuse(crash_at)
            play(service, fuse, after=after)
            assert fuse.count >= crash_at
            check(service, where)


def check(service: Service, where: str) -> None:
    """One live file, that holds what the store shows, and after its opening exactly the journal's bytes."""
    assert [g.state for g in service.generations(RUN)] == ["live"], where
    (generation,) = service.generations(RUN)
    (path,) = service.event_files(RUN)
    assert path.name == generation.file_name, where
    assert [p.name for p in path.parent.iterdir()] == [path.name], where
    found = read_event_file(path)
    assert found.damage is None, where
    assert same(curves(found), service.shown(RUN)), where
    with service.store.snapshot() as view:
        state = view.load(RUN)
        assert state is not None
        assert generation.exported_pos == state.pos, where
        blocks = view.journal(state.id, after_pos=generation.first_pos, bytes_max=2**30)
        names = TagNames({tag.id: tag.name for tag in state.tags.values()})
        limits = {(c.id, number): limit for c in state.counters.values() for number, limit in c.limits().items()}
    tail = encode_blocks(Encoder(), blocks, names, limits)
    assert path.stat().st_size == generation.length, where
    assert path.read_bytes().endswith(tail), where

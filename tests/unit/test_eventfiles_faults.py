"""Faults of the disk under event files: descriptors that run out, a full disk, and a file that is asked for anew."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallyboard_server.eventfiles.files.disk import Disk, OpenFiles
from tallyboard_server.eventfiles.tools import ExportSettings
from tests.eventfiles_kit import Service, curves, same, settle

RUN = "digits/try1"


class FaultyDisk(Disk):
    """A disk that fails an operation with an errno as long as it is told to."""

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}

    def _fail(self, operation: str) -> None:
        if (number := self.faults.get(operation)) is not None:
            raise OSError(number, os.strerror(number))

    def open(self, path: Path) -> int:
        self._fail("open")
        return super().open(path)

    def create(self, path: Path) -> int:
        self._fail("create")
        return super().create(path)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        self._fail("write")
        super().write(fd, data, offset)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path) as running:
        yield running


def exported(service: Service, run: str = RUN) -> bool:
    return same(curves(service.live_file(run)), service.shown(run))


def test_when_descriptors_run_out_fewer_files_are_held_open(tmp_path: Path) -> None:
    class FewDescriptors(Disk):
        held: set[int]

        def open(self, path: Path) -> int:
            open_now = {fd for fd in self.held if is_open(fd)}
            if len(open_now) >= 4:
                raise OSError(errno.EMFILE, "Too many open files")
            fd = super().open(path)
            self.held = open_now | {fd}
            return fd

    disk = FewDescriptors()
    disk.held = set()
    paths = [tmp_path / str(i) for i in range(10)]
    for path in paths:
        path.touch()
    files = OpenFiles(disk, 100)
    for path in paths * 3:
        assert os.fstat(files.get(path)).st_ino == path.stat().st_ino
        assert len(files) <= 4
    files.close_all()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_without_a_single_descriptor_files_wait_and_are_not_taken_for_damaged(service: Service) -> None:
    disk = FaultyDisk()
    engine = service.engine(disk=disk)
    service.report(RUN, [0, 1], {"loss": [1, 2]})
    settle(engine)
    (path,) = service.event_files(RUN)
    service.report(RUN, [2], {"loss": [3]})
    engine.notify([1])
    service.pass_time(2)
    engine.turn()
    disk.faults = {"open": errno.EMFILE}
    service.report("digits/other", [0], {"loss": [1]})
    engine.notify([2])
    disk.faults["create"] = errno.EMFILE
    engine.turn()  # in trouble: what was held open is let go, and the sync can't open its file
    for _ in range(3):
        service.pass_time(20)
        engine.turn()
    assert any("Too many open files" in fault for fault in engine.faults())
    disk.faults = {}
    service.pass_time(11)
    settle(engine)
    assert (engine.faults(), engine.stats()["export_runs_in_trouble"]) == ([], 0)
    assert service.event_files(RUN) == [path]
    assert exported(service)
    assert exported(service, "digits/other")


def test_a_full_disk_is_every_run_s_fault_and_a_link_one_run_s(service: Service, tmp_path: Path) -> None:
    disk = FaultyDisk()
    engine = service.engine(disk=disk)
    (service.logdir / "linked").symlink_to(tmp_path)
    service.report("linked/run", [0], {"loss": [1]})
    disk.faults = {"write": errno.ENOSPC}
    service.report(RUN, [0], {"loss": [1]})
    engine.turn(force=True)
    engine.turn(force=True)
    assert [RUN in fault and "No space left" in fault for fault in engine.faults()] == [True]
    assert ["linked/run" in warning for warning in engine.warnings()] == [True]
    disk.faults = {}
    service.pass_time(11)
    engine.turn()
    service.pass_time(1)
    settle_one(service, engine)
    assert engine.faults() == []


def settle_one(service: Service, engine: object) -> None:
    """Turns until the run's file is there (the other run is in trouble for good)."""
    for _ in range(50):
        engine.turn(force=True)  # type: ignore[attr-defined]
        if service.event_files(RUN) and service.generations(RUN)[-1].state == "live":
            return
    raise AssertionError("no file")


class TestRebuild:
    def test_a_new_file_is_written_whatever_the_state_of_the_old(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1, 2], {"loss": [1, 2, 3]})
        settle(engine)
        (old,) = service.event_files(RUN)
        data = bytearray(old.read_bytes())
        data[-6] ^= 1
        old.write_bytes(data)
        engine.rebuild(1)
        settle(engine)
        assert service.event_files(RUN)[0] == old
        assert exported(service)
        assert [g.state for g in service.generations(RUN)] == ["retired", "live"]
        assert engine.stats()["export_repairs_total"] == 1
        service.pass_time(31)
        engine.turn()
        assert old not in service.event_files(RUN)

    def test_it_waits_for_a_file_that_is_being_written(self, service: Service) -> None:
        service.settings = ExportSettings(generation_interval_s=100.0)
        engine = service.engine()
        service.report(RUN, [0, 1, 2], {"loss": [1, 2, 3]})
        settle(engine)
        service.rewind(RUN, global_step=1)
        engine.rebuild(1)
        settle(engine)
        engine.rebuild(1)
        settle(engine)
        assert exported(service)
        assert next(g.number for g in service.generations(RUN) if g.state == "live") >= 3

    def test_damage_is_warned_of_until_it_is_repaired(self, service: Service) -> None:
        engine = service.engine()
        service.report(RUN, [0, 1, 2], {"loss": [1, 2, 3]})
        settle(engine)
        service.event_files(RUN)[0].unlink()
        service.pass_time(service.settings.sweep_interval_s)
        disk_full = FaultyDisk()
        disk_full.faults = {"create": errno.ENOSPC}
        engine._storage._tools.disk = disk_full  # type: ignore[attr-defined]
        engine.turn()
        assert any("it is missing" in warning and "written anew" in warning for warning in engine.warnings())
        disk_full.faults = {}
        service.pass_time(11)
        settle(engine)
        assert engine.warnings() == []
        assert exported(service)

"""Generations as files of a directory: created under a hidden name, synced, renamed; removed when they are recorded."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from tallyboard_server.eventfiles.encoder import file_head
from tallyboard_server.eventfiles.files.disk import OUT_OF_FILES, Disk, OpenFiles
from tallyboard_server.eventfiles.layout import (
    EVENT_FILE_MARK,
    LogDirectory,
    is_event_file,
    newest_seconds,
    part_name,
)
from tallyboard_server.eventfiles.runfiles import Build, RunFiles
from tallyboard_server.eventfiles.tools import CLOCK_AHEAD_S, Tools
from tallyboard_server.eventfiles.troubles import Troubles, raised_by
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, RunHead, Snapshot, StoreBusyError, Transaction

BUILDS_MAX: Final = 64
"""Generations in the making at once: each holds a descriptor."""


@dataclass
class FileTools(Tools):
    """The surroundings of an exporter that writes files."""

    logdir: LogDirectory
    disk: Disk
    open_files: OpenFiles = field(init=False)

    def __post_init__(self) -> None:
        self.open_files = OpenFiles(self.disk, self.settings.open_files_max)


@dataclass(eq=False)
class DiskFiles(RunFiles):
    """The event files of a run in its directory."""

    directory: Path

    @property
    def live_path(self) -> Path:
        """Path of the live file."""
        if self.live is None:
            raise ValueError(f"run {self.name} has no live event file")
        return self.directory / self.live.file_name

    def path(self, generation: Generation) -> Path:
        """Path of a generation's file."""
        return self.directory / generation.file_name

    def part(self, generation: Generation) -> Path:
        """Path of a generation's file while its opening is written."""
        return self.directory / part_name(self.run_id, generation.number)

    def shown(self, file: str) -> str:
        """See RunFiles.shown."""
        return str(self.directory / file)

    def inspect(self, disk: Disk) -> None:
        """Look at the directory: whether the live file is as it was left, and which event files are not ours."""
        if self.live is not None and self.damage is None:
            self.damage = inspect_file(disk, self.live_path, self.live.seconds, self.written_length)
        ours = {g.file_name for g in (self.live, *self.retired.values(), *self.leftovers) if g is not None}
        if self.build is not None:
            ours.add(self.build.generation.file_name)
        names = disk.list_names(self.directory)
        self.foreign = frozenset(name for name in names if is_event_file(name) and name not in ours)


class FileSink:
    """A file that is written under a hidden name, and gets its own when it is complete and synced."""

    def __init__(self, disk: Disk, part: Path, path: Path, is_own: Callable[[], bool]) -> None:
        """Creates it; OSError if there is one, or it can't be created. is_own: whether the run still is this process's:
        another one may have begun its files anew while this one was paused, and readers would see both."""
        self._is_own = is_own
        self._disk = disk
        self._part = part
        self._path = path
        self._length = 0
        self._fd: int | None = disk.create(part)

    def write(self, data: bytes) -> None:
        """See Sink.write."""
        self._disk.write(self._opened, data, self._length)
        self._length += len(data)

    def finish(self) -> None:
        """See Sink.finish."""
        self._disk.sync(self._opened)
        if not self._is_own():
            raise StoreBusyError(f"{self._path} is not shown: another service writes this run's event files by now")
        self._disk.rename(self._part, self._path)
        self._disk.sync_directory(self._path.parent)
        self.discard()

    def discard(self) -> None:
        """See Sink.discard."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def _opened(self) -> int:
        if self._fd is None:
            raise ValueError(f"{self._part} is closed")
        return self._fd


class FileStorage:
    """The Storage of a directory."""

    builds_max = BUILDS_MAX
    at_once = 1
    shared_fate = False

    def __init__(self, tools: FileTools) -> None:
        self._tools = tools

    def prepare(self) -> None:
        """Create the logdir if need be."""
        self._tools.logdir.root.mkdir(parents=True, exist_ok=True)

    def load(self, view: Snapshot, state: RunState) -> DiskFiles:
        """See Storage.load."""
        return load_files(view, state.id, state.name, self._tools.logdir, self._tools.disk)

    def inspect(self, files: DiskFiles) -> None:
        """See Storage.inspect."""
        files.inspect(self._tools.disk)

    def is_due(self, files: DiskFiles, head: RunHead) -> bool:
        """See Storage.is_due."""
        del files, head
        return False

    def next_generation(self, files: DiskFiles, state: RunState) -> tuple[Generation, bool]:
        """See Storage.next_generation."""
        tools = self._tools
        for leftover in files.leftovers:
            remove_leftover(tools.disk, files, leftover)
        now = tools.wall()
        names = [name for name in tools.disk.list_names(files.directory) if EVENT_FILE_MARK in name]
        newest = newest_seconds(names, up_to=int(now) + CLOCK_AHEAD_S)
        return files.new_generation(state, tools.host, now, newest), bool(names or files.live or files.retired)

    def record_building(self, transaction: Transaction, files: DiskFiles, generation: Generation) -> None:
        """See Storage.record_building."""
        for leftover in files.leftovers:
            transaction.drop_generation(files.run_id, leftover.number)
        transaction.save_generation(generation)

    def recorded_building(self, files: DiskFiles) -> None:
        """See Storage.recorded_building."""
        files.leftovers.clear()

    def create(self, files: DiskFiles, generation: Generation) -> FileSink:
        """See Storage.create."""
        self._tools.disk.make_directory(files.directory, self._tools.logdir.root)
        is_own = partial(self._tools.shares.has, files.run_id)
        return FileSink(self._tools.disk, files.part(generation), files.path(generation), is_own)

    def each(self, calls: Sequence[Callable[[], None]]) -> list[BaseException | None]:
        """See Storage.each."""
        return [raised_by(call) for call in calls]

    def record_live(self, transaction: Transaction, files: DiskFiles, live: Generation) -> None:
        """See Storage.record_live."""
        del files
        transaction.save_generation(live)

    def installed(self, files: DiskFiles, live: Generation) -> None:
        """See Storage.installed."""

    def abandoned(self, files: DiskFiles, generation: Generation) -> None:
        """See Storage.abandoned."""
        remove_leftover(self._tools.disk, files, generation)

    def may_go(self, files: DiskFiles, generation: Generation) -> bool:
        """See Storage.may_go."""
        del files, generation
        return True

    def remove(self, name: str, generations: Sequence[Generation]) -> None:
        """See Storage.remove."""
        disk, directory = self._tools.disk, self._tools.logdir.of_run(name)
        for generation in generations:
            self._tools.open_files.close(directory / generation.file_name)
            disk.remove(directory / generation.file_name)

    def remove_all(self, name: str, generations: Sequence[Generation]) -> None:
        """See Storage.remove_all."""
        disk, directory = self._tools.disk, self._tools.logdir.of_run(name)
        for generation in generations:
            self.remove(name, [generation])
            disk.remove(directory / part_name(generation.run_id, generation.number))
        disk.remove_empty_directories(directory, self._tools.logdir.root)

    def release(self, files: DiskFiles, generation: Generation) -> None:
        """See Storage.release."""
        self._tools.open_files.close(files.path(generation))

    def relieve(self, troubles: Troubles) -> None:
        """See Storage.relieve."""
        if troubles.any_of(OUT_OF_FILES):
            self._tools.open_files.close_all()  # leave the descriptors to what is in trouble

    def close(self) -> None:
        """See Storage.close."""
        self._tools.open_files.close_all()

    def stats(self) -> dict[str, float]:
        """See Storage.stats."""
        return {"export_open_files": len(self._tools.open_files)}


def load_files(view: Snapshot, run_id: int, name: str, logdir: LogDirectory, disk: Disk) -> DiskFiles:
    """What is recorded of a run's files, checked against the directory. Raises OSError.

    A generation that was being built when the process ended is taken over if its file has its final name already
    (it got it only when it was complete), and is a leftover otherwise.
    """
    files = DiskFiles(run_id, name, logdir.of_run(name))
    for generation in files.take_up(view.generations(run_id)):
        found = disk.head(files.path(generation), len(file_head(generation.seconds)))
        if found is not None and found[0] == file_head(generation.seconds) and files.build is None:
            files.build = Build(generation, None, begun_at=0.0, length=found[1])
        else:
            files.leftovers.append(generation)
    files.inspect(disk)
    return files


def remove_leftover(disk: Disk, files: DiskFiles, generation: Generation) -> None:
    """Remove what is there of a generation that was never completed, under its hidden name and its final one."""
    disk.remove(files.directory / part_name(files.run_id, generation.number))
    if inspect_file(disk, files.path(generation), generation.seconds, 0) is None:
        disk.remove(files.path(generation))


def inspect_file(disk: Disk, path: Path, seconds: int, length: int) -> str | None:
    """What is wrong with an event file of ours; None if it can be gone on with."""
    head = file_head(seconds)
    found = disk.head(path, len(head))
    if found is None:
        return "it is missing, or not a regular file"
    if found[0] != head:
        return "it begins with another header"
    if found[1] < length:
        return f"it has {found[1]} bytes of at least {length}"
    return None

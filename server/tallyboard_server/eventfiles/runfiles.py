"""What the exporter knows of one run's event files, and what follows from it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tallyboard_server.eventfiles.disk import Disk
from tallyboard_server.eventfiles.encoder import ENCODER_VERSION, file_head
from tallyboard_server.eventfiles.layout import (
    EVENT_FILE_MARK,
    LogDirectory,
    file_name,
    is_event_file,
    newest_seconds,
    part_name,
)
from tallyboard_server.eventfiles.opening import Opening
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, Snapshot

BUILDING: Final = "building"
LIVE: Final = "live"
RETIRED: Final = "retired"

_CLOCK_AHEAD_S: Final = 366 * 24 * 3600
"""Files named for a time further ahead than this are not followed there."""


@dataclass(slots=True, eq=False)
class Build:
    """A generation on its way: its opening is being written, or is complete and waits to be recorded as live.

    fd: of the part file; None before it exists and after it got its final name. length: bytes written so far.
    """

    generation: Generation
    opening: Opening | None
    part: Path
    begun_at: float
    fd: int | None = None
    length: int = 0

    @property
    def complete(self) -> bool:
        """Whether the file stands under its final name."""
        return self.opening is None


@dataclass(slots=True, eq=False)
class RunFiles:
    """The event files of a run.

    live: the generation being written; written_pos and written_length: how far that has come, synced or not.
    leftovers: recorded, but never to be completed. damage: why the live file can't be gone on with. settled: (pos,
    epoch) at which nothing was left to do. foreign: event files in the directory that are not ours.
    Times are of the monotonic clock.
    """

    run_id: int
    name: str
    directory: Path
    live: Generation | None = None
    retired: dict[int, Generation] = field(default_factory=dict)
    leftovers: list[Generation] = field(default_factory=list)
    build: Build | None = None
    last_number: int = 0
    last_seconds: int = 0
    written_pos: int = 0
    written_length: int = 0
    damage: str | None = None
    settled: tuple[int, int] | None = None
    foreign: frozenset[str] = frozenset()
    next_export_at: float = 0.0
    next_generation_at: float = 0.0

    @property
    def live_path(self) -> Path:
        """Path of the live file."""
        if self.live is None:
            raise ValueError(f"run {self.name} has no live event file")
        return self.directory / self.live.file_name

    def path(self, generation: Generation) -> Path:
        """Path of a generation's file."""
        return self.directory / generation.file_name

    def wants_generation(self, state: RunState) -> bool:
        """Whether a new file must be begun: the first with the first visible point, others when this one can't grow."""
        if self.live is None:
            return bool(self.retired) or any(c.last_step is not None for c in state.counters.values())
        return self.live.epoch != state.epoch or self.live.encoder != ENCODER_VERSION or self.damage is not None

    def inspect(self, disk: Disk) -> None:
        """Look at the directory: whether the live file is as it was left, and which event files are not ours."""
        if self.live is not None and self.damage is None:
            self.damage = inspect_file(disk, self.live_path, self.live.seconds, self.written_length)
        ours = {g.file_name for g in (self.live, *self.retired.values(), *self.leftovers) if g is not None}
        if self.build is not None:
            ours.add(self.build.generation.file_name)
        names = disk.list_names(self.directory)
        self.foreign = frozenset(name for name in names if is_event_file(name) and name not in ours)

    def next_generation(self, state: RunState, disk: Disk, host: str, now: float) -> tuple[Generation, bool]:
        """The generation to build for a state, and whether readers may hold points of earlier files.

        Its name sorts after all that were recorded or are in the directory (but for absurd dates).
        """
        names = [name for name in disk.list_names(self.directory) if EVENT_FILE_MARK in name]
        newest = newest_seconds(names, up_to=int(now) + _CLOCK_AHEAD_S)
        seconds = max(int(now), self.last_seconds + 1, newest + 1)
        number = self.last_number + 1
        generation = Generation(
            run_id=self.run_id,
            number=number,
            file_name=file_name(seconds, host, self.run_id, number),
            seconds=seconds,
            encoder=ENCODER_VERSION,
            epoch=state.epoch,
            first_pos=state.pos,
            exported_pos=state.pos,
            length=0,
            state=BUILDING,
            changed_at=now,
        )
        return generation, bool(names or self.live or self.retired)


def load_files(view: Snapshot, run_id: int, name: str, logdir: LogDirectory, disk: Disk) -> RunFiles:
    """What is recorded of a run's files, checked against the directory. Raises OSError.

    A generation that was being built when the process ended is taken over if its file has its final name already
    (it got it only when it was complete), and is a leftover otherwise.
    """
    files = RunFiles(run_id, name, logdir.of_run(name))
    building: list[Generation] = []
    for generation in view.generations(run_id):
        files.last_number = max(files.last_number, generation.number)
        files.last_seconds = max(files.last_seconds, generation.seconds)
        if generation.state == BUILDING:
            building.append(generation)
        elif generation.state == RETIRED:
            files.retired[generation.number] = generation
        else:
            if files.live is not None:
                files.retired[files.live.number] = files.live
            files.live = generation
            files.written_pos, files.written_length = generation.exported_pos, generation.length
    for generation in building:
        found = disk.head(files.path(generation), len(file_head(generation.seconds)))
        if found is not None and found[0] == file_head(generation.seconds) and files.build is None:
            part = files.directory / part_name(run_id, generation.number)
            files.build = Build(generation, None, part, begun_at=0.0, length=found[1])
        else:
            files.leftovers.append(generation)
    files.inspect(disk)
    return files


def remove_leftover(disk: Disk, files: RunFiles, generation: Generation) -> None:
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

"""Builds generations: recorded, written under a hidden name, synced, renamed, recorded as live; a slice at a time."""

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from tallyboard_server.eventfiles.layout import part_name
from tallyboard_server.eventfiles.opening import Opening
from tallyboard_server.eventfiles.runfiles import LIVE, RETIRED, Build, RunFiles, remove_leftover
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, Transaction

logger = logging.getLogger(__name__)

BUILDS_MAX: Final = 64
"""Generations in the making at once: each holds a descriptor."""
TURN_S: Final = 0.25
"""Time for building between two looks at the runs that only grow."""
VIEW_S: Final = 0.1
"""How long one read of the store lasts; a quarter second is the store's limit."""
_REST: Final = 10
"""A generation is followed by another no sooner than this many times what building it took."""


class Builder:
    """All generations in the making."""

    def __init__(
        self,
        tools: Tools,
        troubles: Troubles,
        *,
        on_live: Callable[[RunFiles, Generation | None], None],
        on_failed: Callable[[RunFiles], None],
    ) -> None:
        """on_live is told of a run's new generation, with the one it replaces."""
        self._tools = tools
        self._troubles = troubles
        self._on_live = on_live
        self._on_failed = on_failed
        self._writing: deque[RunFiles] = deque()
        self._complete: list[RunFiles] = []
        self.generations_total = 0
        self.repairs_total = 0

    def __len__(self) -> int:
        return len(self._writing) + len(self._complete)

    @property
    def room(self) -> int:
        """How many more can be begun."""
        return max(0, BUILDS_MAX - len(self))

    def begin(self, wanted: Sequence[tuple[RunFiles, RunState, TagNames]]) -> None:
        """Record new generations and create their files. `wanted` has at most `room` runs."""
        builds: list[tuple[RunFiles, Build]] = []
        for files, state, names in wanted:
            with self._troubles.kept_to(files.run_id, files.name) as attempt:
                builds.append((files, self._prepare(files, state, names)))
            if attempt.failed:
                self._on_failed(files)
        if not builds:
            return
        gone = self._record_building(builds)
        for files, build in builds:
            if files.run_id in gone:
                continue
            files.build = build
            with self._troubles.kept_to(files.run_id, files.name) as attempt:
                self._create(files, build)
                self._writing.append(files)
            if attempt.failed:
                self._abandon(files, build)

    def adopt(self, files: RunFiles) -> None:
        """Take over a complete file that a former process could not record as live any more."""
        self._complete.append(files)

    def advance(self) -> None:
        """Write on, in turn, for about TURN_S; then record what has become complete."""
        until = self._tools.clock() + TURN_S
        for _ in range(len(self._writing)):
            files = self._writing.popleft()
            build = files.build
            if build is None:  # forgotten meanwhile
                continue
            with self._troubles.kept_to(files.run_id, files.name) as attempt:
                self._write_slice(files, build)
                (self._complete if build.complete else self._writing).append(files)
            if attempt.failed:
                self._abandon(files, build)
            if self._tools.clock() >= until:
                break
        if self._complete:
            self._publish()

    def forget(self, files: RunFiles) -> None:
        """Drop a build whose run is gone; its files are removed with the run's others."""
        build = files.build
        if build is None:
            return
        files.build = None
        if files in self._complete:
            self._complete.remove(files)
        _close(build)

    def close(self) -> None:
        """Release descriptors; unfinished builds are leftovers for the next process."""
        for files in (*self._writing, *self._complete):
            if files.build is not None:
                _close(files.build)

    def _prepare(self, files: RunFiles, state: RunState, names: TagNames) -> Build:
        tools = self._tools
        for leftover in files.leftovers:
            remove_leftover(tools.disk, files, leftover)
        generation, has_predecessor = files.next_generation(state, tools.disk, tools.host, tools.wall())
        files.last_number, files.last_seconds = generation.number, generation.seconds
        opening = Opening(tools.encoder, state, names, seconds=generation.seconds, has_predecessor=has_predecessor)
        part = files.directory / part_name(files.run_id, generation.number)
        return Build(generation, opening, part, begun_at=tools.clock())

    def _record_building(self, builds: Sequence[tuple[RunFiles, Build]]) -> set[int]:
        """Record before any file exists; returns the runs that were deleted meanwhile."""
        gone: set[int] = set()

        def work(transaction: Transaction) -> None:
            gone.clear()
            for files, build in builds:
                state = transaction.load(files.name)
                if state is None or state.id != files.run_id:
                    gone.add(files.run_id)
                    continue
                for leftover in files.leftovers:
                    transaction.drop_generation(files.run_id, leftover.number)
                transaction.save_generation(build.generation)

        try:
            self._tools.record(work)
        except BaseException:
            for files, build in builds:  # it may have been recorded all the same
                files.leftovers.append(build.generation)
            raise
        for files, _ in builds:
            files.leftovers.clear()
        return gone

    def _create(self, files: RunFiles, build: Build) -> None:
        disk = self._tools.disk
        if build.opening is None:
            raise ValueError("a complete generation is not created again")
        disk.make_directory(files.directory, self._tools.logdir.root)
        build.fd = disk.create(build.part)
        head = build.opening.head()
        disk.write(build.fd, head, 0)
        build.length = len(head)

    def _write_slice(self, files: RunFiles, build: Build) -> None:
        opening, fd, disk = build.opening, build.fd, self._tools.disk
        if opening is None or fd is None:
            raise ValueError("a complete generation is not written to by its builder")
        if not opening.done:
            with self._tools.store.snapshot() as view:
                until = self._tools.clock() + VIEW_S
                slices = opening.read(view, lambda: self._tools.clock() >= until)
            data = opening.encode(slices)
            disk.write(fd, data, build.length)
            build.length += len(data)
        if opening.done:
            disk.sync(fd)
            disk.rename(build.part, files.path(build.generation))
            disk.sync_directory(files.directory)
            _close(build)
            build.opening = None

    def _publish(self) -> None:
        builds = [(files, files.build) for files in self._complete if files.build is not None]
        now = self._tools.wall()
        live = {
            files.run_id: replace(build.generation, state=LIVE, length=build.length, changed_at=now)
            for files, build in builds
        }
        retired = {
            files.run_id: replace(files.live, state=RETIRED, changed_at=now)
            for files, _ in builds
            if files.live is not None
        }

        def work(transaction: Transaction) -> None:
            for generation in (*live.values(), *retired.values()):
                transaction.save_generation(generation)

        self._tools.record(work)
        self._complete.clear()
        for files, build in builds:
            old = retired.get(files.run_id)
            self._install(files, build, live[files.run_id], old)
            self._on_live(files, old)

    def _install(self, files: RunFiles, build: Build, live: Generation, old: Generation | None) -> None:
        self.generations_total += 1
        self.repairs_total += files.damage is not None
        if old is not None:
            self._tools.open_files.close(files.path(old))
            files.retired[old.number] = old
            logger.info("event files of %s: %s replaces %s", files.name, live.file_name, old.file_name)
        files.live, files.build, files.damage = live, None, None
        files.written_pos, files.written_length = live.first_pos, live.length
        now = self._tools.clock()
        rest_s = _REST * (now - build.begun_at) if build.begun_at else 0.0
        files.next_generation_at = now + max(self._tools.settings.generation_interval_s, rest_s)

    def _abandon(self, files: RunFiles, build: Build) -> None:
        _close(build)
        files.build = None
        files.leftovers.append(build.generation)
        with suppress(OSError):  # else it goes before the next one is begun
            remove_leftover(self._tools.disk, files, build.generation)
        self._on_failed(files)


def _close(build: Build) -> None:
    if build.fd is not None:
        os.close(build.fd)
        build.fd = None

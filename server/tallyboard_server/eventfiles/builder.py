"""Builds generations: recorded, written a slice at a time, recorded as live once they stand complete."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final, Generic

from tallyboard_server.eventfiles.opening import Opening
from tallyboard_server.eventfiles.runfiles import LIVE, RETIRED, Build
from tallyboard_server.eventfiles.storage import F, Storage
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, RunHeldError, Transaction

logger = logging.getLogger(__name__)

TURN_S: Final = 0.25
"""Time for building between two looks at the runs that only grow."""
VIEW_S: Final = 0.1
"""How long one read of the store lasts; a quarter second is the store's limit."""
_REST: Final = 10
"""A generation is followed by another no sooner than this many times what building it took."""


class Builder(Generic[F]):
    """All generations in the making."""

    def __init__(
        self,
        tools: Tools,
        storage: Storage[F],
        troubles: Troubles,
        *,
        on_live: Callable[[F], None],
        on_failed: Callable[[F], None],
    ) -> None:
        """on_live is told of a run that has a new generation."""
        self._tools = tools
        self._storage = storage
        self._troubles = troubles
        self._on_live = on_live
        self._on_failed = on_failed
        self._writing: deque[F] = deque()
        self._complete: list[F] = []
        self.generations_total = 0
        self.repairs_total = 0

    def __len__(self) -> int:
        return len(self._writing) + len(self._complete)

    @property
    def room(self) -> int:
        """How many more can be begun."""
        return max(0, self._storage.builds_max - len(self))

    def begin(self, wanted: Sequence[tuple[F, RunState, TagNames]]) -> None:
        """Record new generations and create their files. `wanted` has at most `room` runs."""
        prepared: dict[int, Build] = {}

        def prepare(files: F, state: RunState, names: TagNames) -> None:
            prepared[files.run_id] = self._prepare(files, state, names)

        raised = self._storage.each([partial(prepare, *each) for each in wanted])
        for (files, _, _), error in zip(wanted, raised, strict=True):
            if error is not None:
                self._troubles.note(files.run_id, files.name, error)
                self._on_failed(files)
        builds = [(files, prepared[files.run_id]) for files, _, _ in wanted if files.run_id in prepared]
        if not builds:
            return
        skipped = self._record_building(builds)
        for files, build in builds:
            if files.run_id in skipped:
                continue
            files.build = build
            with self._troubles.kept_to(files.run_id, files.name) as attempt:
                self._create(files, build)
                self._writing.append(files)
            if attempt.failed:
                self._abandon(files, build)

    def adopt(self, files: F) -> None:
        """Take over a complete file that a former process could not record as live any more."""
        self._complete.append(files)

    def advance(self) -> None:
        """Write on, in turn, for about TURN_S; then record what has become complete."""
        until = self._tools.clock() + TURN_S
        for _ in range(len(self._writing)):
            if not self._writing:
                break
            self._write_on([self._writing.popleft() for _ in range(min(self._storage.at_once, len(self._writing)))])
            if self._tools.clock() >= until:
                break
        if self._complete:
            self._publish()

    def forget(self, files: F) -> None:
        """Drop a build whose run is gone; its files are removed with the run's others."""
        build = files.build
        if build is None:
            return
        files.build = None
        if files in self._complete:
            self._complete.remove(files)
        build.discard()

    def close(self) -> None:
        """Release descriptors; unfinished builds are leftovers for the next process."""
        for files in (*self._writing, *self._complete):
            if files.build is not None:
                files.build.discard()

    def _prepare(self, files: F, state: RunState, names: TagNames) -> Build:
        generation, has_predecessor = self._storage.next_generation(files, state)
        files.last_number, files.last_seconds = generation.number, generation.seconds
        opening = Opening(
            self._tools.encoder, state, names, seconds=generation.seconds, has_predecessor=has_predecessor
        )
        return Build(generation, opening, begun_at=self._tools.clock())

    def _record_building(self, builds: Sequence[tuple[F, Build]]) -> set[int]:
        """Record before any file exists; returns runs that were deleted meanwhile, and those that another replica
        changes at this moment, which stay due: of many busy runs hardly ever all can be had at once."""
        skipped: set[int] = set()

        def work(transaction: Transaction) -> None:
            skipped.clear()
            for files, build in builds:
                try:
                    state = transaction.load(files.name)
                except RunHeldError:
                    state = None
                if state is None or state.id != files.run_id:
                    skipped.add(files.run_id)
                    continue
                self._storage.record_building(transaction, files, build.generation)

        try:
            self._tools.record(work)
        except BaseException:
            for files, build in builds:  # it may have been recorded all the same
                files.leftovers.append(build.generation)
            raise
        for files, _ in builds:
            if files.run_id not in skipped:
                self._storage.recorded_building(files)
        return skipped

    def _create(self, files: F, build: Build) -> None:
        if build.opening is None:
            raise ValueError("a complete generation is not created again")
        build.sink = self._storage.create(files, build.generation)
        head = build.opening.head()
        build.sink.write(head)
        build.length = len(head)

    def _write_on(self, some: list[F]) -> None:
        """Write a slice of each, and have those that are complete stand under their names."""
        slices: list[tuple[F, Build, bytes]] = []
        for files in some:
            build = files.build
            if build is None:  # forgotten meanwhile
                continue
            with self._troubles.kept_to(files.run_id, files.name) as attempt:
                slices.append((files, build, self._next_slice(build)))
            if attempt.failed:
                self._abandon(files, build)
        raised = self._storage.each([partial(_write, build, data) for _, build, data in slices])
        for (files, build, data), error in zip(slices, raised, strict=True):
            if error is not None:
                self._troubles.note(files.run_id, files.name, error)
                self._abandon(files, build)
                continue
            build.length += len(data)
            (self._complete if build.complete else self._writing).append(files)

    def _next_slice(self, build: Build) -> bytes:
        opening = build.opening
        if opening is None:
            raise ValueError("a complete generation is not written to by its builder")
        if opening.done:
            return b""
        with self._tools.store.snapshot() as view:
            until = self._tools.clock() + VIEW_S
            slices = opening.read(view, lambda: self._tools.clock() >= until)
        return opening.encode(slices)

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
            for files, _ in builds:
                self._storage.record_live(transaction, files, live[files.run_id])
            for generation in retired.values():
                transaction.save_generation(generation)

        self._tools.record(work)
        self._complete.clear()
        for files, build in builds:
            old = retired.get(files.run_id)
            self._install(files, build, live[files.run_id], old)
            self._on_live(files)

    def _install(self, files: F, build: Build, live: Generation, old: Generation | None) -> None:
        self.generations_total += 1
        self.repairs_total += files.damage is not None
        if old is not None:
            self._storage.release(files, old)
            files.retired[old.number] = old
            logger.info("event files of %s: %s replaces %s", files.name, live.file_name, old.file_name)
        files.live, files.build, files.damage = live, None, None
        files.written_pos, files.written_length = live.first_pos, live.length
        self._storage.installed(files, live)
        now = self._tools.clock()
        rest_s = _REST * (now - build.begun_at) if build.begun_at else 0.0
        files.next_generation_at = now + max(self._tools.settings.generation_interval_s, rest_s)

    def _abandon(self, files: F, build: Build) -> None:
        build.discard()
        files.build = None
        files.leftovers.append(build.generation)
        with suppress(OSError):  # else it goes before the next one is begun
            self._storage.abandoned(files, build.generation)
        self._on_failed(files)


def _write(build: Build, data: bytes) -> None:
    """Write a slice, the last one to the end."""
    opening, sink = build.opening, build.sink
    if opening is None or sink is None:
        raise ValueError("a complete generation is not written to by its builder")
    if data:
        sink.write(data)
    if opening.done:
        sink.finish()
        build.sink = None
        build.opening = None

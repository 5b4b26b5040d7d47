"""How live event files grow: the journal's new blocks are written after what is there, and synced now and then."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from tallyboard_server.eventfiles.files.disk import OUT_OF_FILES, NotOurFileError
from tallyboard_server.eventfiles.files.storage import DiskFiles, FileTools
from tallyboard_server.eventfiles.reading import BLOCK_BYTES_GUESS, Tail, read_tail
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, Snapshot, Transaction

_SYNC_TURN_S: Final = 1.0
"""Time for syncing in one turn; what is left is synced in the next."""
_SYNC_SHARE: Final = 4
"""Syncing pauses for this many times what it took, so that a slow disk is left to the journal."""


class Tails:
    """Reads, writes and syncs the tails of all runs."""

    def __init__(self, tools: FileTools, troubles: Troubles) -> None:
        self._tools = tools
        self._troubles = troubles
        self._dirty: dict[int, DiskFiles] = {}
        self.next_sync_at = 0.0
        self.bytes_total = 0
        self.syncs_total = 0
        self.sync_seconds_total = 0.0
        self.bytes_at_once = float("inf")
        self.mean_block_bytes = BLOCK_BYTES_GUESS

    @property
    def unsynced(self) -> int:
        """Runs whose files hold something that is not recorded yet."""
        return len(self._dirty)

    def read(self, view: Snapshot, files: DiskFiles, state: RunState, names: TagNames) -> Tail[DiskFiles] | None:
        """See Growth.read."""
        return read_tail(view, files, state, names)

    def write(
        self, tails: list[Tail[DiskFiles]], rest: Callable[[], None]
    ) -> Iterator[tuple[Tail[DiskFiles], bool | None]]:
        """See Growth.write."""
        for tail in tails:
            with self._troubles.kept_to(tail.files.run_id, tail.files.name) as attempt:
                written = self._write(tail)
            yield tail, None if attempt.failed else written
            rest()

    def _write(self, tail: Tail[DiskFiles]) -> bool:
        """Write a tail; False if the file is not what it was left as (then files.damage says why).

        Raises OSError for anything else, and then nothing is taken as written.
        """
        files = tail.files
        data = tail.encode(self._tools.encoder)
        if data:
            try:
                fd = self._tools.open_files.check(files.live_path, files.written_length)
            except NotOurFileError as error:
                files.damage = str(error)
                return False
            self._tools.disk.write(fd, data, files.written_length)
        files.written_pos = tail.blocks[-1].pos
        files.written_length += len(data)
        if not self._dirty:
            self.next_sync_at = max(self.next_sync_at, self._tools.clock() + self._tools.settings.sync_interval_s)
        self._dirty[files.run_id] = files
        self.bytes_total += len(data)
        self.mean_block_bytes = tail.mean_block_bytes(self.mean_block_bytes)
        return True

    def forget(self, files: DiskFiles) -> None:
        """The run is gone, or its live file is no longer to be written to."""
        self._dirty.pop(files.run_id, None)

    def sync(self) -> list[DiskFiles]:
        """Sync what was written and record how far it reaches; returns runs whose file turned out damaged."""
        begun = self._tools.clock()
        damaged: list[DiskFiles] = []
        synced: list[tuple[DiskFiles, Generation]] = []
        for files in list(self._dirty.values()):
            if files.live is None or files.damage is not None:
                self._dirty.pop(files.run_id)
                continue
            with self._troubles.kept_to(files.run_id, files.name) as attempt:
                self._sync_file(files)
                synced.append(
                    (
                        files,
                        replace(files.live, exported_pos=files.written_pos, length=files.written_length),
                    )
                )
            if attempt.failed:
                damaged.append(files)
            if self._tools.clock() - begun >= _SYNC_TURN_S:
                break
        self._record(synced)
        pause_s = _SYNC_SHARE * (self._tools.clock() - begun)
        if len(synced) + len(damaged) >= len(self._dirty):
            pause_s = max(pause_s, self._tools.settings.sync_interval_s)
        self.next_sync_at = self._tools.clock() + pause_s
        for files, _ in synced:
            self._dirty.pop(files.run_id, None)
            self._troubles.over(files.run_id, files.name)
        return damaged

    def _sync_file(self, files: DiskFiles) -> None:
        """After a failed fsync the kernel may have dropped the data, so the file can't be gone on with."""
        try:
            fd = self._tools.open_files.check(files.live_path, files.written_length)
            begun = self._tools.clock()
            self._tools.disk.sync(fd)
            self.sync_seconds_total += self._tools.clock() - begun
        except OSError as error:
            if error.errno in OUT_OF_FILES:  # it could not even be opened: it is as it was, and stays to be synced
                raise
            self._tools.open_files.close(files.live_path)
            self._dirty.pop(files.run_id, None)
            files.damage = f"it could not be synced: {error}"
            raise

    def _record(self, synced: list[tuple[DiskFiles, Generation]]) -> None:
        if not synced:
            return

        def work(transaction: Transaction) -> None:
            for _, generation in synced:
                transaction.save_generation(generation)

        # Should this fail: the files stay unsynced as far as anybody knows, and are synced again.
        self.next_sync_at = self._tools.clock() + self._tools.settings.sync_interval_s
        self._tools.record(work)
        self.syncs_total += 1
        for files, generation in synced:
            files.live = generation

"""How live event files grow: the journal's new blocks are written after what is there, and synced now and then."""

from dataclasses import dataclass, replace
from typing import Final

from tallyboard_server.eventfiles.disk import OUT_OF_FILES, NotOurFileError
from tallyboard_server.eventfiles.ordering import Blobs, Limits, encode_blocks, keys_of
from tallyboard_server.eventfiles.runfiles import RunFiles
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import Block, RunState
from tallyboard_server.store.protocol import NO_BLOBS, Generation, Snapshot, Transaction

READ_BYTES: Final = 4 * 1024 * 1024
"""Journal read of one run at a time; more only if one batch is longer."""
_SYNC_TURN_S: Final = 1.0
"""Time for syncing in one turn; what is left is synced in the next."""
_SYNC_SHARE: Final = 4
"""Syncing pauses for this many times what it took, so that a slow disk is left to the journal."""
_FEWER: Final = 8
"""A tail of large blobs is read again with so many times fewer bytes of columns, until it is small enough."""
_BLOCK_BYTES_GUESS: Final = 4096.0
_MEAN_WEIGHT: Final = 0.05


@dataclass(slots=True, frozen=True)
class Tail:
    """What to write next for a run: blocks, the blobs they stand for, and the journal's end (position, epoch) when they
    were read."""

    files: RunFiles
    blocks: list[Block]
    names: TagNames
    limits: Limits
    end: tuple[int, int]
    blobs: Blobs

    @property
    def nbytes(self) -> int:
        """Bytes of the columns and blobs."""
        return sum(block.nbytes for block in self.blocks) + sum(len(blob.data) for blob in self.blobs.values())


class Tails:
    """Reads, writes and syncs the tails of all runs."""

    def __init__(self, tools: Tools, troubles: Troubles) -> None:
        self._tools = tools
        self._troubles = troubles
        self._dirty: dict[int, RunFiles] = {}
        self.next_sync_at = 0.0
        self.bytes_total = 0
        self.syncs_total = 0
        self.sync_seconds_total = 0.0
        self.mean_block_bytes = _BLOCK_BYTES_GUESS

    @property
    def unsynced(self) -> int:
        """Runs whose files hold something that is not recorded yet."""
        return len(self._dirty)

    def read(self, view: Snapshot, files: RunFiles, state: RunState, names: TagNames) -> Tail | None:
        """The next blocks for a live file that is behind; None if the journal no longer holds them."""
        blocks, blobs = _read(view, files, names)
        if not blocks or blocks[0].pos != files.written_pos + 1:
            return None
        touched = {block.counter_id for block in blocks}
        limits = {
            (counter.id, number): limit
            for counter in state.counters.values()
            if counter.id in touched
            for number, limit in counter.limits().items()
        }
        return Tail(files, blocks, names, limits, (state.pos, state.epoch), blobs)

    def write(self, tail: Tail) -> bool:
        """Write a tail; False if the file is not what it was left as (then files.damage says why).

        Raises OSError for anything else, and then nothing is taken as written.
        """
        files = tail.files
        data = encode_blocks(self._tools.encoder, tail.blocks, tail.names, tail.limits, tail.blobs)
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
        mean = tail.nbytes / len(tail.blocks)
        self.mean_block_bytes += (mean - self.mean_block_bytes) * _MEAN_WEIGHT
        return True

    def forget(self, files: RunFiles) -> None:
        """The run is gone, or its live file is no longer to be written to."""
        self._dirty.pop(files.run_id, None)

    def sync(self) -> list[RunFiles]:
        """Sync what was written and record how far it reaches; returns runs whose file turned out damaged."""
        begun = self._tools.clock()
        damaged: list[RunFiles] = []
        synced: list[tuple[RunFiles, Generation]] = []
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

    def _sync_file(self, files: RunFiles) -> None:
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

    def _record(self, synced: list[tuple[RunFiles, Generation]]) -> None:
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


def _read(view: Snapshot, files: RunFiles, names: TagNames) -> tuple[list[Block], Blobs]:
    """The next blocks of a run and their blobs, together about READ_BYTES, or one batch."""
    bytes_max = READ_BYTES
    while True:
        blocks = view.journal(files.run_id, after_pos=files.written_pos, bytes_max=bytes_max)
        keys = keys_of(blocks, names)
        if not keys:
            return blocks, NO_BLOBS
        sizes = view.blob_sizes(files.run_id, keys)
        if bytes_max == 1 or sum(sizes.get(key, 0) for key in keys) <= READ_BYTES:
            return blocks, view.blobs(files.run_id, list(sizes))
        bytes_max = max(1, bytes_max // _FEWER)

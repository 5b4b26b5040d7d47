"""The embedded store: one writing connection, a few reading ones, and a write-ahead log kept small."""

import logging
import queue
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw

from tallyboard.wire.limits import MIB
from tallyboard_server.durable import sync_file
from tallyboard_server.model import Block
from tallyboard_server.store.migrations import UNFINISHED_MOVE, unfinished
from tallyboard_server.store.protocol import SNAPSHOT_S_MAX, Group, Keep, StoreBusyError, StoreError
from tallyboard_server.store.sql import merging
from tallyboard_server.store.sql.cache import StateCache
from tallyboard_server.store.sql.snapshot import SqlSnapshot
from tallyboard_server.store.sqlite.backup import Backup
from tallyboard_server.store.sqlite.connection import (
    PAGE_BYTES,
    SqliteConnection,
    mapped_errors,
    open_reader,
    open_writer,
)
from tallyboard_server.store.sqlite.directory import DataDirectory
from tallyboard_server.store.sqlite.gate import ReaderGate
from tallyboard_server.store.sqlite.migrate import migrate
from tallyboard_server.store.sqlite.transaction import SqliteTransaction

logger = logging.getLogger(__name__)

READERS: Final = 6
"""Reading connections; a further reader waits."""
READER_WAIT_S: Final = 10.0
CHECKPOINT_EVERY_BYTES: Final = 32 * MIB
"""Log written between two checkpoints that wait for nobody."""
TRUNCATE_ABOVE_BYTES: Final = 192 * MIB
"""Log size from which the reader gate closes; with the group in progress it stays below 256 MiB."""
READ_MAX_S: Final = SNAPSHOT_S_MAX
"""How long a read transaction may last; the gate waits a little longer than that for readers to leave."""
TRUNCATE_AGAIN_S: Final = 2.0
"""After a reader overstayed: the writer must not wait at the gate between any two groups."""
VACUUM_EVERY_S: Final = 1.0
VACUUM_PAGES: Final = 64
"""Free pages given back at a time: about a millisecond."""
PAUSE_MAX_S: Final = 0.1
"""A backup rests after each slice for as long as that took, but no longer than this."""
FREE_BYTES_KEPT: Final = 64 * MIB
"""Free pages kept for blocks to come."""


class SqliteStore:
    """A store in one SQLite file; see store.protocol for what each method promises."""

    def __init__(
        self,
        directory: DataDirectory,
        *,
        checkpoint_bytes: int = CHECKPOINT_EVERY_BYTES,
        truncate_bytes: int = TRUNCATE_ABOVE_BYTES,
    ) -> None:
        self.directory = directory
        self._cache = StateCache()
        self._gate = ReaderGate()
        self._checkpoint_bytes = checkpoint_bytes
        self._truncate_bytes = truncate_bytes
        self._writing = threading.Lock()
        self._closed = False
        self._log_pages = 0
        self._log_pages_tried = 0
        self._next_vacuum = 0.0
        self._next_truncation = 0.0
        self._figures = {
            "store_commits_total": 0.0,
            "store_commit_seconds_total": 0.0,
            "store_checkpoints_total": 0.0,
            "store_checkpoint_seconds_total": 0.0,
            "store_truncations_total": 0.0,
            "store_log_written_bytes_total": 0.0,
        }
        self._writer = open_writer(directory.database)
        with mapped_errors():
            if self._writer.table_exists(None, UNFINISHED_MOVE):
                raise unfinished(f"data directory {directory.path}")
            migrate(self._writer)
            self._writer.set_wal_hook(self._on_log_grown)
        self._readers: queue.LifoQueue[SqliteConnection] = queue.LifoQueue()
        for _ in range(READERS):
            self._readers.put(open_reader(directory.database))

    @classmethod
    def open(cls, path: Path) -> "SqliteStore":
        """Open (or create) the store in a data directory; raises StoreError if that can't be."""
        directory = DataDirectory(path)
        try:
            return cls(directory)
        except BaseException:
            directory.release()
            raise

    @property
    def shared(self) -> bool:
        """See Store.shared."""
        return False

    @contextmanager
    def transaction(self, runs: Collection[str] = ()) -> Iterator[SqliteTransaction]:
        """See Store.transaction."""
        with self._writing:
            self._check_open()
            with mapped_errors():
                if self._writer.in_transaction:  # a rollback that failed: nothing can be written before it is done
                    self._writer.execute("ROLLBACK")
                self._writer.execute("BEGIN IMMEDIATE")
            transaction = SqliteTransaction(self._writer, self._cache)
            try:
                yield transaction
                transaction.flush()
                self._commit()
            except BaseException:
                transaction.forget()  # whether a COMMIT in doubt went through is read from the file
                self._rollback()
                raise
            transaction.publish()

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        """See Store.snapshot."""
        self._check_open()
        try:  # before the gate: who only waits for a connection must not keep it from emptying
            connection = self._readers.get(timeout=READER_WAIT_S)
        except queue.Empty as error:
            raise StoreBusyError("too many reads at once; retry") from error
        try:
            with self._gate.reading():
                with mapped_errors():
                    connection.execute("BEGIN")
                view = SqlSnapshot(connection, self._cache)
                try:
                    yield view
                finally:
                    view.close()
                    with mapped_errors():
                        connection.execute("ROLLBACK")
        finally:
            self._readers.put(connection)

    def maintain(self) -> None:
        """See Store.maintain."""
        with self._writing:
            self._check_open()
            with mapped_errors():
                self._trim_log()
                self._give_back_pages()

    def backup(self, target: Path) -> Iterator[float]:
        """See Store.backup."""
        with self._backing_up(target) as backup:
            while True:
                begun = time.monotonic()
                with self._writing, mapped_errors():
                    self._check_open()
                    if backup.step():
                        break
                    share = backup.share
                yield share
                time.sleep(min(PAUSE_MAX_S, time.monotonic() - begun))
        sync_file(target)
        yield 1.0

    def prepare_merge(self, run_id: int, sources: Sequence[Block], groups: Sequence[Group] = ()) -> object:
        """See Store.prepare_merge."""
        return merging.pack_merge(run_id, sources, groups)

    def prepare_prune(self, group: Group, blocks: Sequence[Block], keep: Keep) -> object:
        """See Store.prepare_prune."""
        return merging.pack_prune(group, blocks, keep)

    def stats(self) -> dict[str, float]:
        """See Store.stats."""
        return {
            **self._figures,
            "store_log_bytes": float(self._log_pages * PAGE_BYTES),
            "store_file_bytes": float(self._file_bytes("")),
            "store_log_file_bytes": float(self._file_bytes("-wal")),
            "store_cached_runs": float(len(self._cache)),
        }

    def close(self) -> None:
        """See Store.close."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            for _ in range(READERS):
                try:
                    self._readers.get(timeout=READER_WAIT_S).close()
                except queue.Empty:
                    logger.warning("a reader did not come back; its connection is left to the process's end")
            with mapped_errors():
                self._writer.close()
            self.directory.release()

    @contextmanager
    def _backing_up(self, target: Path) -> Iterator[Backup]:
        """A backup of the writer's connection; it is touched only while nobody writes."""
        with self._writing, mapped_errors():
            self._check_open()
            backup = Backup(self._writer, target)
        try:
            yield backup
        finally:
            with self._writing, mapped_errors():
                backup.close()

    def _commit(self) -> None:
        begun = time.monotonic()
        with mapped_errors():
            self._writer.execute("COMMIT")
        self._figures["store_commits_total"] += 1
        self._figures["store_commit_seconds_total"] += time.monotonic() - begun

    def _rollback(self) -> None:
        """Undo; after a COMMIT in doubt SQLite has either done that itself or still holds the transaction."""
        if self._writer.in_transaction:
            try:
                self._writer.execute("ROLLBACK")
            except apsw.Error:
                logger.exception("rollback failed; it is tried again before the next transaction")

    def _on_log_grown(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        written = pages - self._log_pages if pages > self._log_pages else pages
        self._figures["store_log_written_bytes_total"] += written * PAGE_BYTES
        self._log_pages = pages
        if pages < self._log_pages_tried:  # the log began anew
            self._log_pages_tried = 0
        return apsw.SQLITE_OK

    def _trim_log(self) -> None:
        if (self._log_pages - self._log_pages_tried) * PAGE_BYTES >= self._checkpoint_bytes:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._log_pages_tried = self._log_pages
        if self._log_pages * PAGE_BYTES >= self._truncate_bytes and time.monotonic() >= self._next_truncation:
            with self._gate.closed(timeout_s=2 * READ_MAX_S) as inside:
                if inside:
                    self._next_truncation = time.monotonic() + TRUNCATE_AGAIN_S
                    logger.warning(
                        "%d of %d reads last longer than %.2f s; the log can't be trimmed yet",
                        inside, READERS, 2 * READ_MAX_S,
                    )  # fmt: skip
                    return
                self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
                self._figures["store_truncations_total"] += 1
                self._log_pages = self._log_pages_tried = 0

    def _give_back_pages(self) -> None:
        """Return free pages to the file system once they are many: the next blocks take most of them anyway."""
        now = time.monotonic()
        if now < self._next_vacuum:
            return
        self._next_vacuum = now + VACUUM_EVERY_S
        free = self._writer.execute("PRAGMA freelist_count").get
        if isinstance(free, int) and free * PAGE_BYTES > FREE_BYTES_KEPT:
            self._writer.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")

    def _checkpoint(self, mode: int) -> None:
        begun = time.monotonic()
        self._writer.wal_checkpoint(mode=mode)
        self._figures["store_checkpoints_total"] += 1
        self._figures["store_checkpoint_seconds_total"] += time.monotonic() - begun

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")

    def _file_bytes(self, suffix: str) -> int:
        try:
            return Path(f"{self.directory.database}{suffix}").stat().st_size
        except OSError:
            return 0

"""The exporter to a directory: keeps its files in step with the store."""

import time
from collections.abc import Callable
from pathlib import Path

from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.eventfiles.files.storage import DiskFiles, FileStorage, FileTools
from tallyboard_server.eventfiles.files.tails import Tails
from tallyboard_server.eventfiles.layout import LogDirectory
from tallyboard_server.eventfiles.thread import ExporterThread
from tallyboard_server.eventfiles.tools import ExportSettings
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Record, Store


class Exporter(ExporterThread[DiskFiles]):
    """Writes `<logdir>/<run>/events.out.tfevents.…` for every run of a store."""

    def __init__(
        self,
        store: Store,
        logdir: Path,
        record: Record,
        *,
        settings: ExportSettings | None = None,
        shares: Shares = EVERYTHING,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        tools = FileTools(
            store,
            record,
            settings or ExportSettings(),
            clock,
            wall,
            LogDirectory(logdir),
            disk or Disk(),
            shares=shares,
        )
        storage = FileStorage(tools)
        super().__init__(store, file_engine(tools, storage), storage, clock)


def file_engine(tools: FileTools, storage: FileStorage | None = None) -> Engine[DiskFiles]:
    """An engine whose event files are files."""
    troubles = Troubles(tools.clock)
    return Engine(tools, storage or FileStorage(tools), Tails(tools, troubles), troubles)

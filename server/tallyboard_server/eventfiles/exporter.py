"""The exporter of one machine: keeps the event files of a directory in step with the store."""

import time
from collections.abc import Callable
from pathlib import Path

from tallyboard_server.eventfiles.disk import Disk
from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.layout import LogDirectory
from tallyboard_server.eventfiles.ondisk import DiskFiles, FileTools, OnDisk
from tallyboard_server.eventfiles.tails import Tails
from tallyboard_server.eventfiles.thread import ExporterThread
from tallyboard_server.eventfiles.tools import ExportSettings, Record
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Store


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
        """`record` runs a function in a transaction of the one writer and returns when it is durable."""
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
        place = OnDisk(tools)
        super().__init__(store, file_engine(tools, place), place, clock)


def file_engine(tools: FileTools, place: OnDisk | None = None) -> Engine[DiskFiles]:
    """An engine whose event files are files."""
    troubles = Troubles(tools.clock)
    return Engine(tools, place or OnDisk(tools), Tails(tools, troubles), troubles)

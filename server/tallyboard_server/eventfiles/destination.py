"""Where event files go, as the settings name it: the exporter that writes there, the shelf that reads there."""

from pathlib import Path
from typing import Any

from tallyboard_server.eventfiles.files.exporter import Exporter
from tallyboard_server.eventfiles.layout import LogDirectory
from tallyboard_server.eventfiles.objects.bucket import TIMEOUT_S, Bucket
from tallyboard_server.eventfiles.objects.exporter import ObjectExporter, object_settings
from tallyboard_server.eventfiles.objects.segments import SEGMENT_BYTES
from tallyboard_server.eventfiles.objects.shelf import ObjectShelf
from tallyboard_server.eventfiles.shelf import Shelf
from tallyboard_server.eventfiles.thread import ExporterThread
from tallyboard_server.eventfiles.tools import ExportSettings
from tallyboard_server.objecturl import ObjectUrl
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Record, Store

AnyExporter = ExporterThread[Any]


class Destination:
    """A directory, or a prefix of objects."""

    def __init__(self, where: Path | ObjectUrl, *, timeout_s: float = TIMEOUT_S) -> None:
        """timeout_s: how long an object storage may take to answer.

        Raises ExtraMissingError, which is a ValueError, if something is not installed; nothing is asked for yet.
        """
        self._where = where if isinstance(where, Path) else Bucket(where, timeout_s=timeout_s)

    def shelf(self, store: Store) -> Shelf:
        """Its event files, for reading."""
        if isinstance(self._where, Path):
            return LogDirectory(self._where)
        return ObjectShelf(self._where, store)

    def exporter(
        self,
        store: Store,
        record: Record,
        *,
        settings: ExportSettings | None = None,
        segment_interval_s: float = 20.0,
        segment_bytes: float = SEGMENT_BYTES,
        shares: Shares = EVERYTHING,
    ) -> AnyExporter:
        """What writes them. `settings` is for directories, segment_* for objects."""
        if isinstance(self._where, Path):
            return Exporter(store, self._where, record, settings=settings, shares=shares)
        return ObjectExporter(
            store, self._where, record,
            settings=object_settings(segment_interval_s), segment_bytes=segment_bytes, shares=shares,
        )  # fmt: skip

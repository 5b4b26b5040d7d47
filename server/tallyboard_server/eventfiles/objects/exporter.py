"""The exporter to an object storage: keeps rows of immutable objects in step with the store."""

import time
from collections.abc import Callable

from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.objects.bucket import Bucket
from tallyboard_server.eventfiles.objects.runobjects import RunObjects
from tallyboard_server.eventfiles.objects.segments import SEGMENT_BYTES, Segments
from tallyboard_server.eventfiles.objects.storage import ObjectStorage
from tallyboard_server.eventfiles.thread import ExporterThread
from tallyboard_server.eventfiles.tools import ExportSettings, Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Record, Store

GRACE_S = 600.0
"""How long replaced objects stay. A reader that has not left them by then may never recover (see
docs/object-storage.md), and TensorBoard may take minutes to come by."""


class ObjectExporter(ExporterThread[RunObjects]):
    """Writes `<url>/<run>/events.out.tfevents.…` for every run of a store."""

    def __init__(
        self,
        store: Store,
        bucket: Bucket,
        record: Record,
        *,
        settings: ExportSettings,
        segment_bytes: float = SEGMENT_BYTES,
        shares: Shares = EVERYTHING,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """settings.interval_s: between two segments of a run. segment_bytes: of journal, with which one goes sooner."""
        tools = Tools(store, record, settings, clock, wall, shares=shares)
        storage = ObjectStorage(tools, bucket)
        super().__init__(store, object_engine(tools, storage, bucket, segment_bytes=segment_bytes), storage, clock)


def object_engine(
    tools: Tools, storage: ObjectStorage, bucket: Bucket, *, segment_bytes: float = SEGMENT_BYTES
) -> Engine[RunObjects]:
    """An engine whose event files are objects."""
    troubles = Troubles(tools.clock)
    growth = Segments(tools, bucket, troubles, bytes_at_once=segment_bytes)
    return Engine(tools, storage, growth, troubles)


def object_settings(interval_s: float) -> ExportSettings:
    """Settings for segments of a run that are so many seconds apart."""
    return ExportSettings(interval_s=interval_s, generation_interval_s=max(5.0, interval_s), grace_s=GRACE_S)

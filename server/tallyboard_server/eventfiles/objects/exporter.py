"""The exporter to an object storage: keeps rows of immutable objects in step with the store."""

import time
from collections.abc import Callable

from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.objects.bucket import Bucket
from tallyboard_server.eventfiles.objects.place import ObjectPlace
from tallyboard_server.eventfiles.objects.runobjects import RunObjects
from tallyboard_server.eventfiles.objects.segments import SEGMENT_BYTES, Segments
from tallyboard_server.eventfiles.thread import ExporterThread
from tallyboard_server.eventfiles.tools import ExportSettings, Record, Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Store

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
        place = ObjectPlace(tools, bucket)
        super().__init__(store, object_engine(tools, place, bucket, segment_bytes=segment_bytes), place, clock)


def object_engine(
    tools: Tools, place: ObjectPlace, bucket: Bucket, *, segment_bytes: float = SEGMENT_BYTES
) -> Engine[RunObjects]:
    """An engine whose event files are objects."""
    troubles = Troubles(tools.clock)
    growth = Segments(tools, bucket, troubles, bytes_at_once=segment_bytes)
    return Engine(tools, place, growth, troubles)


def object_settings(interval_s: float) -> ExportSettings:
    """Settings for segments of a run that are so many seconds apart."""
    return ExportSettings(interval_s=interval_s, generation_interval_s=max(5.0, interval_s), grace_s=GRACE_S)

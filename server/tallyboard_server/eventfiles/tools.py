"""What the parts of the exporter share: where to read, how to record, what to write with, how patient to be."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tallyboard_server.eventfiles.encoder import Encoder
from tallyboard_server.eventfiles.layout import host_name
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Record, Store

CLOCK_AHEAD_S: Final = 366 * 24 * 3600
"""Files named for a time further ahead than this are not followed there."""


@dataclass(slots=True, frozen=True)
class ExportSettings:
    """How often things happen, in seconds.

    interval_s: a run's file grows at most this often, so that many small reports are encoded together.
    sync_interval_s: how often what was written is synced and recorded. generation_interval_s: least time between two
    new files of a run. grace_s: how long a replaced file stays, for the Python reader to leave it.
    sweep_interval_s: how often every run and its file is looked at.
    """

    interval_s: float = 1.0
    sync_interval_s: float = 5.0
    generation_interval_s: float = 5.0
    grace_s: float = 30.0
    sweep_interval_s: float = 30.0
    open_files_max: int = 256


@dataclass
class Tools:
    """The exporter's surroundings. clock is monotonic, wall is the time of day; both in seconds.

    shares: which runs are this process's to write files of.
    """

    store: Store
    record: Record
    settings: ExportSettings
    clock: Callable[[], float]
    wall: Callable[[], float]
    host: str = field(default_factory=host_name, kw_only=True)
    encoder: Encoder = field(default_factory=Encoder, kw_only=True)
    shares: Shares = field(default=EVERYTHING, kw_only=True)

"""Tallyboard's client: report scalars of a training, keyed by named step counters, and read them back."""

from tallyboard.collect.stats import CounterStats, Stats
from tallyboard.counter import Counter
from tallyboard.documents import Config, Summary
from tallyboard.errors import (
    ConfigurationError,
    ContractError,
    CounterTakenError,
    InvalidReportError,
    ReadError,
    RunLimitError,
    RunNotFoundError,
    StepDecreasedError,
    TagOfOtherCounterError,
    TagOfOtherKindError,
    TagRepeatedError,
    TallyboardError,
)
from tallyboard.reading import read
from tallyboard.run import Run
from tallyboard.start import init
from tallyboard.summary_writer.writer import SummaryWriter
from tallyboard.syncing.sync import Synced, sync
from tallyboard.version import __version__

__all__ = [
    "Config",
    "ConfigurationError",
    "ContractError",
    "Counter",
    "CounterStats",
    "CounterTakenError",
    "InvalidReportError",
    "ReadError",
    "Run",
    "RunLimitError",
    "RunNotFoundError",
    "Stats",
    "StepDecreasedError",
    "Summary",
    "SummaryWriter",
    "Synced",
    "TagOfOtherCounterError",
    "TagOfOtherKindError",
    "TagRepeatedError",
    "TallyboardError",
    "__version__",
    "init",
    "read",
    "sync",
]

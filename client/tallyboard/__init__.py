"""Tallyboard's client: report scalars of a training, keyed by named step counters, and read them back."""

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
    TagRepeatedError,
    TallyboardError,
)
from tallyboard.reading import read
from tallyboard.run import Run
from tallyboard.start import init
from tallyboard.stats import CounterStats, Stats
from tallyboard.syncing import Synced, sync
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
    "Synced",
    "TagOfOtherCounterError",
    "TagRepeatedError",
    "TallyboardError",
    "__version__",
    "init",
    "read",
    "sync",
]

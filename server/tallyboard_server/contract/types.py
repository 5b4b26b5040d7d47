"""What applying a batch gives back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tallyboard.wire import Blob, Reason, Receipt, limits
from tallyboard_server.model import Block, KeptAlert, KeptRefusal, RunState, frozen

LastStepBefore = Callable[[int, int, int], int | None]
"""(counter id, attempt number, step) → the largest step below `step` in that attempt, or None."""


@dataclass(slots=True, frozen=True)
class RunLimits:
    """How much one run may have; at most what the protocol allows."""

    tags: int = field(default_factory=lambda: limits.TAGS_PER_RUN_MAX)
    counters: int = field(default_factory=lambda: limits.COUNTERS_PER_RUN_MAX)
    attempts_per_counter: int = field(default_factory=lambda: limits.ATTEMPTS_PER_COUNTER_MAX)
    producers: int = field(default_factory=lambda: limits.PRODUCERS_PER_RUN_MAX)


@dataclass(slots=True, frozen=True)
class Outcome:
    """The new state, what to store with it (journal blocks, blobs, alerts, refusals; bounded), and the receipt.

    blobs: by their keys, those of all accepted reports; the store may have some of them already. replayed: the batch
    had been applied before; state is the old one and nothing is to be stored. reasons: how many reports were
    refused why.
    """

    state: RunState
    blocks: tuple[Block, ...]
    receipt: Receipt
    refused: tuple[KeptRefusal, ...] = ()
    replayed: bool = False
    blobs: Mapping[float, Blob] = field(default_factory=frozen)
    alerts: tuple[KeptAlert, ...] = ()
    reasons: Mapping[Reason, int] = field(default_factory=frozen)

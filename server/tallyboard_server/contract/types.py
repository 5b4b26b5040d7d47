"""What applying a batch gives back."""

from collections.abc import Callable
from dataclasses import dataclass

from tallyboard.wire import Receipt
from tallyboard_server.model import Block, KeptRefusal, RunState

LastStepBefore = Callable[[int, int, int], int | None]
"""(counter id, attempt number, step) → the largest step below `step` in that attempt, or None."""


@dataclass(slots=True, frozen=True)
class Outcome:
    """The new state, the journal blocks to store with it, the receipt, and what was refused (bounded).

    replayed: the batch had been applied before; state is the old one and nothing is to be stored.
    """

    state: RunState
    blocks: tuple[Block, ...]
    receipt: Receipt
    refused: tuple[KeptRefusal, ...] = ()
    replayed: bool = False

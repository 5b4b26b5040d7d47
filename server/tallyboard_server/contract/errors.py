"""Why a batch was not applied at all. Whoever raises one has changed nothing.

ContractError
├── RefusedError       reports broke the rules and the batch was all or nothing
├── SeqReusedError     a seq that was applied came again with other bytes
├── SeqGapError        a seq came before the one it follows
├── BlobCollisionError two blobs of a run have the same key
└── LimitError         the run would have more counters, tags, attempts, producers or blocks than allowed
"""

from collections.abc import Mapping
from typing import ClassVar

from tallyboard.wire import Reason, Refusal
from tallyboard_server.model import RunState


class ContractError(Exception):
    """Base: `code` is the stable name of the reason, the message says what to do."""

    code: ClassVar[str] = "contract"


class RefusedError(ContractError):
    """Some reports of an all-or-nothing batch were refused, so none was stored.

    `refused` lists the first of them, `refused_count` counts them, `reasons` by their reasons.
    `state` equals the state before but for how often
    counters that do not move were reported in vain (Attempt.unmoved); it is the state before if none was.
    """

    code = "reports_refused"

    def __init__(
        self, message: str, refused: list[Refusal], refused_count: int, state: RunState, reasons: Mapping[Reason, int]
    ) -> None:
        super().__init__(message)
        self.refused = refused
        self.refused_count = refused_count
        self.state = state
        self.reasons = reasons


class SeqReusedError(ContractError):
    """The seq was applied already, with other bytes."""

    code = "seq_reused"


class SeqGapError(ContractError):
    """The seq leaves out at least one batch; `expected` is the next one."""

    code = "seq_gap"

    def __init__(self, message: str, expected: int) -> None:
        super().__init__(message)
        self.expected = expected


class BlobCollisionError(ContractError):
    """A value other than one that the run has shares 62 bits of its hash with it; only one of them can be kept."""

    code = "blob_collision"


class LimitError(ContractError):
    """The run is full of something."""

    code = "run_limit"

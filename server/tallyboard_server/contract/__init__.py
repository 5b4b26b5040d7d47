"""The step contract: the pure rules by which a batch becomes part of a run's history, or is refused.

`apply` goes through the parts of a batch in their order: `stream` (was it applied before?), `opening`,
`rewind`, `reports` (whole; or screening → judge → landing), alerts, summary and status. Nothing here does input or
output, or reads a clock.
"""

from tallyboard_server.contract.apply import apply, new_run
from tallyboard_server.contract.documents import merge_patch, too_large
from tallyboard_server.contract.errors import (
    BlobCollisionError,
    ContractError,
    LimitError,
    RefusedError,
    SeqGapError,
    SeqReusedError,
)
from tallyboard_server.contract.texts import blob_collision
from tallyboard_server.contract.types import LastStepBefore, Outcome, RunLimits

__all__ = [
    "BlobCollisionError",
    "ContractError",
    "LastStepBefore",
    "LimitError",
    "Outcome",
    "RefusedError",
    "RunLimits",
    "SeqGapError",
    "SeqReusedError",
    "apply",
    "blob_collision",
    "merge_patch",
    "new_run",
    "too_large",
]

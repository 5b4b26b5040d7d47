"""The one way to change a run: commands wait for the writer, which groups them into transactions."""

from tallyboard_server.ingest.budget import ByteBudget
from tallyboard_server.ingest.carry_out import Bounds
from tallyboard_server.ingest.commands import Append, Command, Delete, Done, Patch
from tallyboard_server.ingest.errors import (
    IngestError,
    OverloadedError,
    ProjectFullError,
    RunChangedError,
    RunDeletedError,
    RunExistsError,
    RunForbiddenError,
    RunNotFoundError,
)
from tallyboard_server.ingest.heartbeats import HeartbeatKeeper
from tallyboard_server.ingest.merger import Merger
from tallyboard_server.ingest.writer import Ingest

__all__ = [
    "Append",
    "Bounds",
    "ByteBudget",
    "Command",
    "Delete",
    "Done",
    "HeartbeatKeeper",
    "Ingest",
    "IngestError",
    "Merger",
    "OverloadedError",
    "Patch",
    "ProjectFullError",
    "RunChangedError",
    "RunDeletedError",
    "RunExistsError",
    "RunForbiddenError",
    "RunNotFoundError",
]

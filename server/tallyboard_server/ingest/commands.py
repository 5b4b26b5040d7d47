"""What can be asked of the writer. Each command names one run and is carried out whole or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tallyboard.wire import Batch, Reason, Receipt
from tallyboard_server.model import Block, RunState
from tallyboard_server.principal import SERVICE, Principal


@dataclass(slots=True, frozen=True)
class Append:
    """Apply a batch to a run (POST /scalars, POST /rewind, and PUT /runs with batch.open).

    create: make the run if it is absent. explicit: the caller asked for the run by name to exist (PUT), which
    also brings back a deleted name. With batch.open.resume == "new" and the name taken by another uid, the next
    free name is used (`try1-2`); with "must", an absent run is RunNotFoundError. by: who wants it; a batch that would
    go to a run out of its reach (an open's uid may lead elsewhere) is RunForbiddenError.
    """

    name: str
    batch: Batch
    create: bool = True
    explicit: bool = False
    by: Principal = SERVICE


@dataclass(slots=True, frozen=True)
class Patch:
    """Change what people say of a run (PATCH /runs).

    `changes` holds RunMeta fields: status, display_name, notes, group, tags, archived are replaced;
    config and summary are merged as RFC 7396 has it (null removes a key). by: who wants it.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    by: Principal = SERVICE


@dataclass(slots=True, frozen=True)
class Delete:
    """Delete a run with all its points and event files (DELETE /runs).

    unless_changed_since: not if anything came after this time (seconds since the epoch): RunChangedError. by: who
    wants it.
    """

    name: str
    unless_changed_since: float | None = None
    by: Principal = SERVICE


Command = Append | Patch | Delete


@dataclass(slots=True, frozen=True)
class Done:
    """A command that is durable: the receipt to answer with, and the run as it is now (as it was, for Delete).

    created: the run did not exist before. deleted: it does not any more. ended: it was running before, and is no more.
    reasons: how many reports were refused why. blocks: what it added to the journal.
    """

    receipt: Receipt
    state: RunState
    created: bool = False
    deleted: bool = False
    reasons: Mapping[Reason, int] = field(default_factory=dict)
    ended: bool = False
    blocks: tuple[Block, ...] = ()

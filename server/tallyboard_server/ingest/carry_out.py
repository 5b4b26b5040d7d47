"""What each command does to a run, within a transaction that somebody else began and will commit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NoReturn

from tallyboard.wire import Batch, InvalidNameError, Open, Receipt, check_run
from tallyboard_server.contract import (
    BlobCollisionError,
    LimitError,
    Outcome,
    RefusedError,
    RunLimits,
    apply,
    blob_collision,
    merge_patch,
    new_run,
    too_large,
)
from tallyboard_server.ingest.auditing import note, note_batch
from tallyboard_server.ingest.commands import Append, Command, Delete, Done, Patch
from tallyboard_server.ingest.errors import (
    ProjectFullError,
    RunChangedError,
    RunDeletedError,
    RunExistsError,
    RunForbiddenError,
    RunNotFoundError,
)
from tallyboard_server.model import KeptAlert, RunState, counter_values, frozen
from tallyboard_server.store.protocol import Transaction

SUFFIX_MAX: Final = 10_000
"""How many names (`try1-2`, `try1-3`, …) are tried before giving up."""


@dataclass(slots=True, frozen=True)
class Bounds:
    """How much there may be: in one run, and runs of one project."""

    run: RunLimits = field(default_factory=RunLimits)
    runs_per_project: int = 20_000


Queue = Callable[[Transaction, str, Sequence[KeptAlert]], None]
"""Has alerts of a run, by its name, wait to be sent to people, in the transaction that keeps them."""


def nobody(_transaction: Transaction, _run: str, _alerts: Sequence[KeptAlert]) -> None:
    """A Queue that leads nowhere."""


def carry_out(
    command: Command, transaction: Transaction, now: float, bounds: Bounds | None = None, queue: Queue = nobody
) -> Done:
    """Do what a command says; `now` is in seconds since the epoch.

    Raises ContractError, IngestError or StoreError; then it has saved nothing, but for how often counters that do not
    move were reported in vain.
    """
    match command:
        case Append():
            return _append(command, transaction, now, bounds or Bounds(), queue)
        case Patch():
            return _patch(command, transaction, now)
        case Delete():
            state = _existing(command.name, transaction)
            since = command.unless_changed_since
            if since is not None and state.meta.updated_at > since:
                raise RunChangedError(f"run {state.name!r} has changed meanwhile")
            transaction.delete_run(state)
            note(transaction, now, command.by, "run.delete", state.name)
            return Done(Receipt(run=state.name), state, deleted=True)


def _append(command: Append, transaction: Transaction, now: float, bounds: Bounds, queue: Queue) -> Done:
    batch = command.batch
    name = _settled_name(command, transaction)
    if not command.by.reaches(name):
        raise RunForbiddenError(
            f"the batch's open.uid was used for a run that is not in project {command.by.project!r}, the only one of "
            "this token; open the run with another uid"
        )
    before = transaction.load(name)
    if before is None:
        before = _created(name, command, transaction, now, bounds.runs_per_project)
        created = True
    else:
        created = False
    run_id = before.id

    def last_step_before(counter_id: int, attempt: int, step: int) -> int | None:
        return transaction.last_step_before(run_id, counter_id, attempt, step)

    try:
        outcome = apply(before, batch, now=now, last_step_before=last_step_before, run_limits=bounds.run)
    except RefusedError as error:
        if not created and error.state is not before:
            transaction.save(error.state)
        raise
    if created or not outcome.replayed:
        if outcome.blobs:
            _check_collisions(run_id, outcome, transaction)
        transaction.save(outcome.state, outcome.blocks, outcome.refused, outcome.blobs, outcome.alerts)
        queue(transaction, name, outcome.alerts)
        if created:
            note(transaction, now, command.by, "run.create", name)
        note_batch(transaction, now, command.by, batch, before, outcome.state)
    return Done(
        outcome.receipt,
        outcome.state,
        created,
        reasons=outcome.reasons,
        ended=_has_ended(before, outcome.state),
        blocks=outcome.blocks,
    )


def _check_collisions(run_id: int, outcome: Outcome, transaction: Transaction) -> None:
    """Raise BlobCollisionError if the run has another blob under the key of one of these."""
    for key, known in transaction.blob_hashes(run_id, list(outcome.blobs)).items():
        if outcome.blobs[key].hash != known:
            raise BlobCollisionError(blob_collision(key))


def _settled_name(command: Append, transaction: Transaction) -> str:
    """The run that a batch goes to: its own name, or for a new run whose name is taken, the next free one."""
    opening = command.batch.open
    if opening is None:
        return command.name
    if opening.uid is not None and (known := transaction.name_of_uid(opening.uid)) is not None:
        return known
    if opening.resume != "new" or not transaction.taken(command.name):
        return command.name
    if _is_replay(command.batch, transaction.load(command.name)):
        return command.name
    for number in range(2, SUFFIX_MAX):
        name = f"{command.name}-{number}"
        if not transaction.taken(name):
            return _checked(name)
    raise RunExistsError(f"{command.name} and {SUFFIX_MAX} names after it are taken; choose another name")


def _is_replay(batch: Batch, state: RunState | None) -> bool:
    """Whether the run knows this producer: then an Open without a uid is a repeated first batch."""
    return state is not None and batch.producer is not None and batch.producer in state.producers


def _checked(name: str) -> str:
    try:
        return check_run(name)
    except InvalidNameError as error:
        raise RunExistsError(f"no free name was found: {error}") from error


def _created(name: str, command: Append, transaction: Transaction, now: float, runs_max: int) -> RunState:
    opening: Open | None = command.batch.open
    if not command.create or (opening is not None and opening.resume == "must"):
        _raise_absent(name, transaction)
    begins = opening is not None and command.batch.seq in (None, 1)  # a later Open amends a run that was begun
    if not command.explicit and not begins and transaction.is_deleted(name):
        _raise_absent(name, transaction)
    _check_room(name, transaction, runs_max)
    uid = opening.uid if opening is not None else None
    return new_run(transaction.next_run_id(), name, now=now, uid=uid)


def _check_room(name: str, transaction: Transaction, runs_max: int) -> None:
    """Raise ProjectFullError if the project of a new run has as many runs as it may have."""
    project, slash, _ = name.partition("/")
    if slash and transaction.runs_at_most(f"{project}/", runs_max) >= runs_max:
        raise ProjectFullError(
            f"project {project!r} has {runs_max} runs, as many as it may have (TALLYBOARD_RUNS_PER_PROJECT_MAX); "
            "delete some, or report to another project"
        )


def _patch(command: Patch, transaction: Transaction, now: float) -> Done:
    before = _existing(command.name, transaction)
    changes: dict[str, Any] = dict(command.changes)
    for document in ("config", "summary"):
        if document in changes:
            merged = merge_patch(dict(getattr(before.meta, document)), changes[document])
            if (problem := too_large(document, merged)) is not None:
                raise LimitError(problem)
            changes[document] = frozen(merged)
    state = replace(before, meta=replace(before.meta, updated_at=now, **changes))
    transaction.save(state)
    note(transaction, now, command.by, "run.change", state.name, fields=sorted(command.changes))
    receipt = Receipt(run=state.name, counters=counter_values(state.counters))
    return Done(receipt, state, ended=_has_ended(before, state))


def _has_ended(before: RunState, after: RunState) -> bool:
    return before.meta.status == "running" != after.meta.status


def _existing(name: str, transaction: Transaction) -> RunState:
    state = transaction.load(name)
    if state is None:
        _raise_absent(name, transaction)
    return state


def _raise_absent(name: str, transaction: Transaction) -> NoReturn:
    if transaction.is_deleted(name):
        raise RunDeletedError(f"run {name!r} was deleted; PUT /api/v1/runs/{name} creates it again")
    raise RunNotFoundError(f"there is no run {name!r}; a report or PUT /api/v1/runs/{name} creates it")

"""What the audit says of each thing that was done: entries for a transaction, in the words of docs/audit.md."""

from itertools import islice
from typing import Any, Final

import msgspec

from tallyboard.wire import Batch
from tallyboard_server.model import RunState
from tallyboard_server.principal import AuditEntry, Principal
from tallyboard_server.store.protocol import Transaction

ACTIONS: Final = (
    "run.create", "run.rewind", "run.take_over", "run.change", "run.delete", "run.prune", "run.pruned", "run.repair",
    "backup.download",
)  # fmt: skip
"""What is done to runs and to the store; docs/audit.md says what each tells."""

COUNTERS_NAMED_MAX: Final = 1_000
"""Counters that an entry names: those of single tags may be a hundred thousand."""


def note(transaction: Transaction, now: float, by: Principal, action: str, run: str | None, **detail: Any) -> None:
    """Keep what was done, with the transaction that does it. now: seconds since the epoch; detail: what JSON holds."""
    said = msgspec.json.encode(detail).decode()
    transaction.append_audit(AuditEntry(0, now, by.name, by.token, by.address, action, run, said))


def note_batch(
    transaction: Transaction, now: float, by: Principal, batch: Batch, before: RunState, after: RunState
) -> None:
    """What a batch did to a run besides adding to it: a rewind (not one that was done before), counters taken over."""
    if batch.rewind is None and batch.open is None:  # nearly always
        return
    if (rewind := batch.rewind) is not None and _attempts(after) > _attempts(before):
        note(transaction, now, by, "run.rewind", after.name, next_steps=rewind.next_steps, reason=rewind.reason)
    writers = _writers(after)
    taken = {
        name: [was, now_writes]
        for name, was in _writers(before).items()
        if (now_writes := writers.get(name, was)) != was
    }
    if taken:
        named = dict(islice(taken.items(), COUNTERS_NAMED_MAX))
        more = {"more": len(taken) - len(named)} if len(taken) > len(named) else {}
        note(transaction, now, by, "run.take_over", after.name, counters=named, **more)


def _attempts(state: RunState) -> int:
    return sum(len(counter.attempts) for counter in state.counters.values())


def _writers(state: RunState) -> dict[str, str]:
    """Who writes each counter that has a writer."""
    current = {name: counter.current for name, counter in state.counters.items()}
    return {name: attempt.writer for name, attempt in current.items() if attempt is not None}

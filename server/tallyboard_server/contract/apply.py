"""(state, batch) → (new state, journal blocks, receipt): the parts of a batch in order, all or nothing."""

from collections.abc import Mapping
from dataclasses import replace

from tallyboard.wire import Batch, Blob, Receipt, is_implicit, limits
from tallyboard_server.contract import refusals, reports, stream, texts
from tallyboard_server.contract.documents import merge_bounded
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.errors import BlobCollisionError, RefusedError
from tallyboard_server.contract.opening import open_run
from tallyboard_server.contract.rewind import rewind_run
from tallyboard_server.contract.segments import Segment
from tallyboard_server.contract.types import LastStepBefore, Outcome, RunLimits
from tallyboard_server.model import ANONYMOUS, KeptAlert, KeptRefusal, RunMeta, RunState, counter_values, frozen


def new_run(run_id: int, name: str, *, now: float, uid: str | None = None) -> RunState:
    """The state of a run that holds nothing yet. `now`: seconds since the epoch."""
    return RunState(run_id, name, RunMeta(created_at=now, updated_at=now, uid=uid))


def apply(
    state: RunState,
    batch: Batch,
    *,
    now: float,
    last_step_before: LastStepBefore,
    run_limits: RunLimits | None = None,
) -> Outcome:
    """Apply a batch to a run: open, rewind, reports, alerts, summary and status, in this order.

    `now`: seconds since the epoch. `last_step_before` is asked at most once per counter that is rewound, and
    only for what was saved before this batch. Status: the batch's own; else an open makes the run running
    again, and reports alone change nothing (late reports of a finished run don't revive it).

    run_limits: None: those of the protocol.

    Raises RefusedError if a report breaks the rules and the batch is all or nothing, SeqReusedError or
    SeqGapError if the batch is out of its producer's order, LimitError if the run is full. Then nothing has
    changed.
    """
    if (replayed := stream.replay(state, batch)) is not None:
        return replayed
    writer = batch.producer or ANONYMOUS
    draft = Draft(state, run_limits or RunLimits())
    draft.warnings += batch.warnings
    if batch.open is not None:
        open_run(draft, batch.open, batch.producer)
    if batch.rewind is not None:
        rewind_run(draft, batch.rewind, writer, last_step_before)
    judged = reports.apply_reports(draft, batch.columns, writer, now) if batch.columns else []
    refused_count = sum(segment.refused_count for segment in judged)
    kept = refusals.describe(judged, limits.REFUSED_KEPT_PER_RUN_MAX) if refused_count else []
    if refused_count and not batch.partial:
        listed = kept[: limits.REFUSED_PER_RECEIPT_MAX]
        total = sum(len(columns) for columns in batch.columns)
        message = f"{refused_count} of {total} reports refused, so none was stored: {listed[0].detail}"
        raise RefusedError(message, listed, refused_count, refusals.with_unmoved(state, judged), refusals.tally(judged))
    summary = draft.meta.summary
    if batch.summary:
        summary = merge_bounded("summary", summary, batch.summary, draft.warnings)
    draft.meta = replace(draft.meta, updated_at=now, status=batch.status or draft.meta.status, summary=summary)
    receipt = _receipt(draft, batch, judged)
    receipt.refused_count = refused_count
    receipt.refused = kept[: limits.REFUSED_PER_RECEIPT_MAX]
    stream.remember(draft, batch, receipt, now)
    return Outcome(
        draft.freeze(),
        tuple(draft.blocks),
        receipt,
        tuple(KeptRefusal(now, writer, refusal) for refusal in kept),
        blobs=_blobs(judged),
        alerts=tuple(KeptAlert(now, writer, alert) for alert in batch.alerts),
        reasons=refusals.tally(judged) if refused_count else frozen(),
    )


def _blobs(judged: list[Segment]) -> Mapping[float, Blob]:
    """The blobs of all accepted reports by their keys. Raises BlobCollisionError."""
    found: dict[float, Blob] = {}
    for segment in judged:
        columns = segment.columns
        if not columns.blobs or not segment.accepted:
            continue
        keys = columns.values[:, 0].tolist()
        for row in segment.accepted_rows().tolist():
            if found.setdefault(keys[row], columns.blobs[row]).hash != columns.blobs[row].hash:
                raise BlobCollisionError(texts.blob_collision(keys[row]))
    return found


def _receipt(draft: Draft, batch: Batch, judged: list[Segment]) -> Receipt:
    touched = dict.fromkeys(segment.columns.counter for segment in judged)
    counters = {
        name: draft.counters[name].value() for name in touched if name in draft.counters and not is_implicit(name)
    }
    if batch.open is not None or batch.rewind is not None:
        counters |= counter_values(draft.counters)
    not_rewound = {}
    if batch.rewind is not None:
        named = batch.rewind.next_steps
        not_rewound = {name: value for name, value in counters.items() if value.attempt and name not in named}
    return Receipt(
        run=draft.before.name,
        accepted=sum(segment.accepted for segment in judged),
        stored=sum(segment.stored for segment in judged),
        repeated=sum(segment.repeated for segment in judged),
        counters=counters,
        not_rewound=not_rewound,
        warnings=draft.warnings,
    )

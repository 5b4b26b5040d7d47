"""Exactly once: which batch of a producer's stream comes next, and what was answered to the last one."""

import msgspec

from tallyboard.wire import Batch, Receipt, limits
from tallyboard_server.contract.draft import Draft
from tallyboard_server.contract.errors import LimitError, SeqGapError, SeqReusedError
from tallyboard_server.contract.types import Outcome
from tallyboard_server.model import Producer, RunState, counter_values, frozen

_ORIGIN_KEYS = ("host", "pid", "user", "began_at")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Receipt).decode


def replay(state: RunState, batch: Batch) -> Outcome | None:
    """The outcome of a batch that was applied before; None if it is the next one, or not numbered.

    Raises SeqReusedError if its seq was applied with other bytes, SeqGapError if one before it is missing.
    """
    if batch.producer is None or batch.seq is None:
        return None
    producer = state.producers.get(batch.producer)
    last = 0 if producer is None else producer.seq
    if batch.seq == last + 1:
        return None
    if producer is None or batch.seq > last:
        raise SeqGapError(
            f"seq {batch.seq} of producer {batch.producer!r} came before seq {last + 1}: "
            f"send the batches in order, from {last + 1} on",
            expected=last + 1,
        )
    return Outcome(state, (), _replayed_receipt(state, producer, batch.seq, batch.checksum), replayed=True)


def remember(draft: Draft, batch: Batch, receipt: Receipt, now: float) -> None:
    """Keep the batch's seq, checksum and receipt with its producer, if it is numbered. Raises LimitError."""
    if batch.producer is None or batch.seq is None:
        return
    producers = dict(draft.producers)
    known = producers.get(batch.producer)
    if known is None:
        _make_room(draft, producers)
        known = Producer(batch.producer)
    origin = known.origin
    if batch.open is not None and batch.open.provenance:
        told = batch.open.provenance
        origin = {key: str(told[key])[:200] for key in _ORIGIN_KEYS if told.get(key) is not None}
    producers[batch.producer] = Producer(
        known.name,
        batch.seq,
        (batch.checksum, *known.checksums[: limits.REPLAY_WINDOW - 1]),
        _encode(receipt),
        origin,
        now,
    )
    draft.producers = frozen(producers)


def _replayed_receipt(state: RunState, producer: Producer, seq: int, checksum: int) -> Receipt:
    age = producer.seq - seq
    compared = age < len(producer.checksums)
    if compared and producer.checksums[age] != checksum:
        raise SeqReusedError(
            f"seq {seq} of producer {producer.name!r} was applied with other content; a batch must not "
            f"change once it was sent: give the new one seq {producer.seq + 1}, or start a new producer"
        )
    if age == 0 and producer.receipt:
        receipt = _decode(producer.receipt)
        receipt.replayed = True
        return receipt
    receipt = Receipt(run=state.name, counters=counter_values(state.counters), replayed=True)
    if not compared:
        receipt.warnings.append(
            f"seq {seq} was applied long ago (the last one is {producer.seq}); "
            "its content was not compared with what was applied then"
        )
    return receipt


def _make_room(draft: Draft, producers: dict[str, Producer]) -> None:
    """Forget the producer that was silent for longest and holds no attempt, if there are too many."""
    if len(producers) < draft.limits.producers:
        return
    holders = {attempt.writer for counter in draft.counters.values() for attempt in counter.attempts}
    idle = [producer for producer in producers.values() if producer.name not in holders]
    if not idle:
        raise LimitError(
            f"the run has {len(producers)} producers, each holding a counter; "
            "use one producer per process, or another run"
        )
    del producers[min(idle, key=lambda producer: (producer.last_seen, producer.name)).name]

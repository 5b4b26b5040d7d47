"""Whose counters are whose: what a stream that waited long, or was forgotten, may still take."""

from collections.abc import Iterable
from typing import Any

import msgspec

from tallyboard.outbox.stream import Stream
from tallyboard.wire import MSGPACK, Open, decode_message, names
from tallyboard.wire.messages import BatchMessage


class AttemptBrief(msgspec.Struct):
    """A counter's attempt, as GET /runs shows it, with what is known of its writer.

    began_at: when that began, by its own clock; last_seen: by the service's. Seconds since the epoch.
    """

    writer: str
    host: str | None = None
    pid: int | None = None
    began_at: float | None = None
    last_seen: float | None = None


class CounterBrief(msgspec.Struct):
    """A counter of a run, its attempts oldest first."""

    attempts: list[AttemptBrief] = []


class RunBrief(msgspec.Struct):
    """A run as GET /runs shows it, as far as senders need it. provenance: of the job that opened it last."""

    run: str
    counters: dict[str, CounterBrief] = {}
    provenance: dict[str, Any] = {}


def claimed(body: bytes) -> set[str]:
    """The counters that a frozen batch rewinds, or takes over from another writer."""
    message = decode_message(body, MSGPACK, BatchMessage)
    rewound = set() if message.rewind is None else set(message.rewind.next_steps)
    return rewound | set(() if message.open is None else message.open.take_over or ())


def gone_on(view: RunBrief, stream: Stream, counters: Iterable[str]) -> str | None:
    """Which job that began later now writes one of these counters, in words; None if none does.

    What such a stream still claims is outdated: sending it would take the newer job's points away. Of counters that
    tags have to themselves the service does not name the writers: there, any job that opened the run later counts.
    """
    for name in counters:
        if names.is_implicit(name):
            if (who := _opened_later(view, stream)) is not None:
                return f"{who} began later and has gone on with the run"
            continue
        attempts = view.counters.get(name, CounterBrief()).attempts
        if not attempts or attempts[-1].writer == stream.producer:
            continue
        current = attempts[-1]
        began_at = current.began_at if current.began_at is not None else current.last_seen
        if (began_at or 0.0) > stream.began_at:
            who = f"process {current.pid} on {current.host}" if current.host else f"producer {current.writer}"
            return f"{who} began later and has gone on with {name}"
    return None


def _opened_later(view: RunBrief, stream: Stream) -> str | None:
    began_at = view.provenance.get("began_at")
    if not isinstance(began_at, int | float) or began_at <= stream.began_at:
        return None
    return f"process {view.provenance.get('pid')} on {view.provenance.get('host')}"


def reopening(stream: Stream, view: RunBrief | None) -> Open:
    """What a new producer has to send first, if the service has forgotten the stream's old one.

    It goes on with the run and its counters; if a later job has gone on with one of them meanwhile, it begins a run of
    its own instead, so that nothing is lost and nothing taken away.
    """
    if view is not None and gone_on(view, stream, stream.counters) is not None:
        return afresh(stream)
    resume = "new" if stream.opening.resume == "new" else "continue"
    take_over = tuple(stream.counters)
    return msgspec.structs.replace(stream.opening, uid=stream.uid, resume=resume, take_over=take_over)


def afresh(stream: Stream) -> Open:
    """What begins a run of its own: the service takes the next free name."""
    return msgspec.structs.replace(stream.opening, uid=f"{stream.uid}-{stream.producer}", resume="new", take_over=())

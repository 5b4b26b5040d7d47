"""The open part of a batch: what is said of the run, counters declared, counters handed over on resume."""

from dataclasses import replace

from tallyboard.wire import ALL_IMPLICIT, Open, is_implicit
from tallyboard_server.contract.documents import merge_bounded
from tallyboard_server.contract.draft import Draft
from tallyboard_server.model import Counter


def open_run(draft: Draft, message: Open, producer: str | None) -> None:
    """Apply an Open. Raises LimitError if it declares too many counters.

    Config and provenance are merged, group, notes and tags replaced where given, the uid kept if there is
    one. The run is running again: somebody opened it. Resuming hands the current attempt of every counter, or of
    those named in `take_over`, to the producer, tail and all, so that its steps go on where the last writer stopped.
    """
    meta = draft.meta
    draft.meta = replace(
        meta,
        status="running",
        uid=meta.uid or message.uid,
        group=meta.group if message.group is None else message.group,
        notes=meta.notes if message.notes is None else message.notes,
        tags=message.tags or meta.tags,
        config=merge_bounded("config", meta.config, message.config, draft.warnings),
        provenance=merge_bounded("provenance", meta.provenance, message.provenance, draft.warnings),
    )
    for name, spec in message.counters.items():
        counter = draft.add_counter(name)
        if spec.total is not None and spec.total != counter.total:
            draft.put_counter(replace(counter, total=spec.total))
    if producer is not None:
        for name in _handed_over(draft, message):
            _hand_over(draft, draft.counters[name], producer)


def _handed_over(draft: Draft, message: Open) -> list[str]:
    if message.take_over is None:
        return [] if message.resume == "new" else list(draft.counters)
    together = ALL_IMPLICIT in message.take_over
    named = [name for name in message.take_over if name in draft.counters]
    return named + [name for name in draft.counters if together and is_implicit(name)]


def _hand_over(draft: Draft, counter: Counter, producer: str) -> None:
    current = counter.current
    if current is not None and current.writer != producer:
        taken = replace(current, writer=producer)
        draft.put_counter(replace(counter, attempts=(*counter.attempts[:-1], taken)))

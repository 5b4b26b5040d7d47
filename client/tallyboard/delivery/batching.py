"""Batching: a section of recorded parts becomes batches.

Law: applying the batches one after the other does what applying each recorded part by itself, in order, would do.
"""

from collections.abc import Iterator

from tallyboard.collect.lanes import Section
from tallyboard.wire import Batch


def batches(section: Section) -> Iterator[Batch]:
    """One batch, or two if the section holds reports that travel apart; not yet numbered.

    The recorder closes sections small enough that neither can exceed wire.limits.
    """
    rows = tuple(packed.columns() for packed in section.rows)
    apart = tuple(packed.columns() for packed in section.apart)
    summary, alerts = section.summary or None, tuple(section.alerts)
    if apart and (rows or section.open or section.rewind):
        yield Batch(partial=True, open=section.open, rewind=section.rewind, columns=rows)
        yield Batch(partial=True, columns=apart, summary=summary, status=section.status, alerts=alerts)
        return
    yield Batch(
        partial=True,
        open=section.open,
        rewind=section.rewind,
        columns=rows or apart,
        summary=summary,
        status=section.status,
        alerts=alerts,
    )

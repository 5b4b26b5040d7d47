"""The doctor's look into one event file, wherever it is: is it whole, and does it hold what the run has?"""

import time
from typing import BinaryIO, Final

from tallyboard_server.api.messages import RunView
from tallyboard_server.cli.finding import Finding, bad, good
from tallyboard_server.cli.output import ago
from tallyboard_server.eventfiles.reader import ScalarPoint, read_items
from tallyboard_server.eventfiles.tfrecord import Damage

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Larger event files are not read to the end; at some 50 bytes a scalar this takes half a minute."""


def compared(path: str, stream: BinaryIO, view: RunView, lag_max_s: float) -> Finding:
    """How an event file compares with a run: whether it is whole, and has every counter's last step.

    lag_max_s: what is older than this should be in it.
    """
    reached, damage = _last_steps(stream)
    if damage is not None and not damage.torn:
        return bad(
            f"{path} is damaged at byte {damage.offset}: {damage.reason}", "delete it; the service writes it anew"
        )
    behind = [
        f"{name} is at {counter.last_step} but the file at {last}"
        for name, counter in view.counters.items()
        if (last := max((reached.get(tag, -1) for tag in counter.tags), default=None)) != counter.last_step
    ]
    age_s = time.time() - view.health.last_seen
    if behind and age_s > lag_max_s:
        return bad(
            f"{path} is behind: {'; '.join(behind)}, {ago(age_s)} after the last report",
            "the exporter is stuck: see the service's log, and GET /readyz",
        )
    return good(f"{path} " + ("is being written" if behind else "holds every counter's last step"))


def _last_steps(stream: BinaryIO) -> tuple[dict[str, int], Damage | None]:
    """The largest step of each tag in an event file, and what keeps it from being read to its end."""
    reached: dict[str, int] = {}
    damage = None
    for item in read_items(stream):
        if isinstance(item, ScalarPoint):
            reached[item.tag] = max(item.step, reached.get(item.tag, item.step))
        elif isinstance(item, Damage):
            damage = item
    return reached, damage

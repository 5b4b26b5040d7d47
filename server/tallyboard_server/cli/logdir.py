"""The doctor's look at the directory that TensorBoard is given: are the files there, ours, whole and up to date?"""

import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from tallyboard_server.api.messages import RunView
from tallyboard_server.cli.finding import Finding, bad, good, note
from tallyboard_server.cli.output import ago, count
from tallyboard_server.eventfiles.layout import is_event_file
from tallyboard_server.eventfiles.reader import ScalarPoint, read_items
from tallyboard_server.eventfiles.tfrecord import Damage
from tallyboard_server.objecturl import ObjectUrl

FILES_LISTED_MAX: Final = 10_000
"""Directory entries looked at when no run is named."""

FILE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Larger event files are not read to the end; at some 50 bytes a scalar this takes half a minute."""

LAG_MAX_S: Final = 15.0
"""Event files follow the store within seconds; what is older than this should be in them."""

_OURS: Final = re.compile(r"events\.out\.tfevents\.\d{10}\.[A-Za-z0-9-]+\.\d+\.\d+")


Logdir = Path | ObjectUrl


def look_at_logdir(view: RunView | None, logdir: Logdir | None, told: Logdir | None) -> Iterator[Finding]:
    """Findings about a logdir. told: where the service says that it writes; view: the run in question, if any."""
    if logdir is not None and told is not None and _resolved(logdir) != told:
        yield bad(
            f"TensorBoard was given {logdir}, but the service writes its event files to {told}",
            f"tensorboard --logdir {told}",
        )
    directory = logdir or told
    if directory is None:
        yield note("where event files are is not told", "that takes a token for all projects; or name them by --logdir")
    elif isinstance(directory, ObjectUrl):
        from tallyboard_server.cli.objects import look_at_objects  # here: it stands on this module

        yield from look_at_objects(view, directory)
    elif not (directory.is_dir() or logdir or directory.parent.is_dir()):
        yield good(f"event files are not on this machine ({directory}); look there, or name a copy with --logdir")
    elif not directory.is_dir():
        yield bad(f"there is no directory {directory}", f"the service writes its event files to {told}")
    elif view is None:
        yield _any_files(directory)
    else:
        yield from _run_files(directory / view.run, view)


def _resolved(logdir: Logdir) -> Logdir:
    return logdir.resolve() if isinstance(logdir, Path) else logdir


def _any_files(logdir: Path) -> Finding:
    entries = islice(logdir.rglob("*"), FILES_LISTED_MAX)
    files = sum(1 for entry in entries if is_event_file(entry.name))
    if files:
        return good(f"{logdir} holds {count(files, 'event file')}")
    return bad(f"{logdir} holds no event file", "report something: `tallyboard serve` prints a line to try")


def _run_files(directory: Path, view: RunView) -> Iterator[Finding]:
    there = sorted(directory.iterdir()) if directory.is_dir() else []
    names = [path for path in there if is_event_file(path.name)]
    ours = [path for path in names if _OURS.fullmatch(path.name)]
    if foreign := [path.name for path in names if path not in ours]:
        yield bad(
            f"{directory} also holds files that Tallyboard did not write: {', '.join(foreign[:3])}",
            "TensorBoard mixes their points with the run's; move them to a directory of their own",
        )
    if ours:
        yield _content(ours[-1], view)
    elif any(counter.last_step is not None for counter in view.counters.values()):
        yield bad(f"{directory} holds no event file of the run", "see the service's log, and GET /readyz")


def _content(path: Path, view: RunView) -> Finding:
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        return good(f"{path.name} is there ({size:,} bytes, not read)")
    with path.open("rb") as stream:
        return compared(str(path), stream, view)


def compared(path: str, stream: BinaryIO, view: RunView, lag_max_s: float | None = None) -> Finding:
    """How an event file compares with a run: whether it is whole, and has every counter's last step."""
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
    if behind and age_s > (LAG_MAX_S if lag_max_s is None else lag_max_s):
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

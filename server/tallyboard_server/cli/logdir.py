"""The doctor's look at the directory that TensorBoard is given: are the files there, ours, whole and up to date?"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from tallyboard_server.api.messages import RunView
from tallyboard_server.cli.eventfile import FILE_BYTES_MAX, compared
from tallyboard_server.cli.finding import Finding, bad, good, note
from tallyboard_server.cli.objects import look_at_objects
from tallyboard_server.cli.output import count
from tallyboard_server.eventfiles.layout import is_event_file
from tallyboard_server.objecturl import ObjectUrl

FILES_LISTED_MAX: Final = 10_000
"""Directory entries looked at when no run is named."""

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
        return compared(str(path), stream, view, LAG_MAX_S)

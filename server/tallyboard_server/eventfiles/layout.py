"""Where event files live and what they are called; the only way from a run's name to a path.

<logdir>/<run>/events.out.tfevents.<seconds>.<host>.<run id>.<number>

TensorBoard reads a run's files in the order of their names, so `seconds` grows from file to file. The opening of a
file is written under a name without `tfevents`, which no reader looks at, and renamed when it is complete.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from tallyboard.wire import InvalidNameError, check_run
from tallyboard_server.store.protocol import Generation

EVENT_FILE_MARK: Final = "tfevents"
"""TensorBoard takes every file with this in its name for an event file."""

_SECONDS_DIGITS: Final = 10
"""Names sort as times do until the year 2286."""
_NAMED: Final = re.compile(rf"events\.out\.tfevents\.(\d{{{_SECONDS_DIGITS}}})\.")
_HOST_CHARS_MAX: Final = 64


class UnsafePathError(OSError):
    """A run's directory would lie outside the logdir (a symbolic link leads there), or its name can't be a path."""


class LogDirectory:
    """The directory that TensorBoard is pointed at."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def of_run(self, name: str) -> Path:
        """The directory of a run, which need not exist yet; raises UnsafePathError."""
        try:
            path = self.root / check_run(name)
        except InvalidNameError as error:
            raise UnsafePathError(str(error)) from error
        root = self.root.resolve()
        if not path.resolve().is_relative_to(root) or path.resolve() == root:
            raise UnsafePathError(f"{path} leads out of {root} (a symbolic link); remove the link")
        return path

    def where(self, run: str, file: str) -> str:
        """See Shelf.where."""
        return str(self.of_run(run) / file)

    @contextmanager
    def open(self, run: str, generation: Generation) -> Iterator[tuple[BinaryIO, int]]:
        """See Shelf.open. Never what a link leads to, or a pipe."""
        path = self.of_run(run) / generation.file_name
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            yield stream, os.fstat(stream.fileno()).st_size

    def event_files(self, run: str) -> dict[str, str]:
        """See Shelf.event_files."""
        try:
            names = sorted(entry.name for entry in self.of_run(run).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {name: name for name in names if is_event_file(name)}


def host_name() -> str:
    """This machine's name, fit for a file name."""
    cleaned = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:_HOST_CHARS_MAX]
    return cleaned.replace(EVENT_FILE_MARK, "-") or "localhost"


def file_name(seconds: int, host: str, run_id: int, number: int) -> str:
    """The name of a generation's event file."""
    return f"events.out.tfevents.{seconds:0{_SECONDS_DIGITS}d}.{host}.{run_id}.{number}"


def part_name(run_id: int, number: int) -> str:
    """The name of a generation's file while its opening is being written."""
    return f".tallyboard-{run_id}-{number}.part"


def is_event_file(name: str) -> bool:
    """Whether TensorBoard would read a file of this name."""
    return EVENT_FILE_MARK in name


def newest_seconds(names: list[str], *, up_to: int) -> int:
    """The largest time in the names of event files, of those not beyond `up_to`; 0 if there is none."""
    times = (int(found[1]) for name in names if (found := _NAMED.match(name)))
    return max((seconds for seconds in times if seconds <= up_to), default=0)

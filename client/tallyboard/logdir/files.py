"""What a logdir holds: directories with event files, which TensorBoard calls runs, and the files in their order."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Final

from tallyboard.logdir.tags import mended
from tallyboard.wire import InvalidNameError, check_run, limits

EVENT_FILE_MARK: Final = "tfevents"
"""TensorBoard takes every file with this in its name for an event file."""
DIRECTORIES_MAX: Final = 1_000_000
_SECONDS: Final = re.compile(r"tfevents\.(\d{1,19})")


class LogdirError(Exception):
    """A logdir that can't be read; the message says why."""


@dataclass(slots=True, frozen=True)
class FoundFile:
    """An event file and its size when it was found."""

    path: Path
    size: int

    @property
    def name(self) -> str:
        """Its name within the directory."""
        return self.path.name


@dataclass(slots=True, frozen=True)
class FoundRun:
    """A directory with event files, oldest first. parts: its path from the logdir; empty: the logdir itself."""

    parts: tuple[str, ...]
    files: tuple[FoundFile, ...]


def find_runs(logdir: Path, tell: Callable[[str], None]) -> list[FoundRun]:
    """All runs of a logdir by their paths. tell: is given what can't be looked into.

    Symbolic links are followed, each directory is looked into once. Raises LogdirError for a logdir that is none.
    """
    try:
        os.scandir(logdir).close()
    except OSError as error:
        raise LogdirError(f"{logdir} can't be read: {error.strerror or error}") from error
    found: list[FoundRun] = []
    seen: set[tuple[int, int]] = set()
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        parts = waiting.pop()
        directory = logdir.joinpath(*parts)
        try:
            status = directory.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if len(seen) > DIRECTORIES_MAX:
                raise LogdirError(f"{logdir} has more than {DIRECTORIES_MAX} directories; name one of them")
            files, below = _contents(directory)
        except OSError as error:
            tell(f"{directory} can't be read: {error.strerror or error}")
            continue
        if files:
            found.append(FoundRun(parts, tuple(files)))
        waiting += [(*parts, name) for name in below]
    return sorted(found, key=lambda run: [os.fsencode(part) for part in run.parts])


def run_name(parts: tuple[str, ...], logdir_name: str, project: str | None) -> str:
    """What a run is called: `project/path`, or if no project is given, `logdir's name/path`.

    The logdir's own files are the run `project/logdir's name`, or `logdir's name`. A part of the path that can't be
    part of a name is mended: what no name may hold becomes `_`, and eight characters of a hash follow. What is too
    deep or too long is cut the same way.
    """
    parts = parts or ((logdir_name,) if project is not None else ())
    first = project.split("/") if project is not None else [_segment(logdir_name)]
    below = [_segment(part) for part in parts]
    room = limits.RUN_DEPTH_MAX - len(first)
    if len(below) > room:
        below = [
            *below[: room - 1],
            mended("/".join(parts[room - 1 :]), limits.RUN_SEGMENT_BYTES_MAX, "_".join(below[room - 1 :])),
        ]
    name = "/".join([*first, *below])
    if len(name.encode()) > limits.RUN_NAME_BYTES_MAX:
        last = mended("/".join(parts), limits.RUN_SEGMENT_BYTES_MAX, "_".join(below))
        name = "/".join([*first, last])
    return check_run(name)


def file_key(name: str) -> str:
    """A file's name as a key of a JSON document: valid UTF-8, not too long."""
    readable = os.fsencode(name).decode("utf-8", "backslashreplace")
    return readable if len(readable.encode()) <= _KEY_BYTES_MAX else mended(readable, _KEY_BYTES_MAX)


_KEY_BYTES_MAX: Final = 200


def _contents(directory: Path) -> tuple[list[FoundFile], list[str]]:
    """Event files in their order, and directories."""
    files: list[FoundFile] = []
    below: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir():
                below.append(entry.name)
            elif EVENT_FILE_MARK in entry.name:
                try:
                    status = entry.stat()
                except FileNotFoundError:
                    continue  # removed meanwhile, or a link to nothing
                if S_ISREG(status.st_mode):
                    files.append(FoundFile(Path(entry.path), status.st_size))
    return sorted(files, key=_order), below


def _order(file: FoundFile) -> tuple[int, bytes]:
    """By the seconds in the name, which is when the file was begun."""
    seconds = _SECONDS.search(file.name)
    return (int(seconds[1]) if seconds else 0, os.fsencode(file.name))


def _segment(part: str) -> str:
    try:
        return check_run(part)
    except InvalidNameError:
        clean = part.replace("\\", "_").replace("/", "_").replace(EVENT_FILE_MARK, "tf_events").strip()
        if clean.startswith("."):
            clean = "_" + clean[1:]
        return mended(part, limits.RUN_SEGMENT_BYTES_MAX, clean or "_")

"""`tallyboard export`: every point of runs in files that other programs read."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from tallyboard_server.cli.output import Exit, count, fail, stderr
from tallyboard_server.cli.sources import Source, source
from tallyboard_server.cli.verifying import DatabaseUrl, DataDir
from tallyboard_server.durable import sync_directory, sync_file
from tallyboard_server.export import FORMATS, ExportBrokenError, Format, Wanted
from tallyboard_server.store.protocol import StoreError

STDOUT: Final = "-"
_WILDCARDS: Final = frozenset("*?[")

FormatName = StrEnum("FormatName", list(FORMATS))  # type: ignore[misc]  # typer takes choices from an enum only


class Attempts(StrEnum):
    """Which points."""

    VISIBLE = "visible"
    ALL = "all"


def export(
    runs: Annotated[list[str], typer.Argument(help="Runs, or patterns as in a shell: 'mnist/*'.")],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="A file, or a directory (that exists, or ends in /) for a file per run; - is stdout."
        ),
    ] = STDOUT,
    form: Annotated[
        FormatName | None,
        typer.Option("--format", "-f", help="The kind of file.", show_default="by the file's name, else csv"),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only these tags, or patterns: 'val/*'; may be repeated.")
    ] = None,
    attempts: Annotated[Attempts, typer.Option(help="all: superseded points, too.")] = Attempts.VISIBLE,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    data_dir: DataDir = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Write every point of runs to files, one line or row a point: run, counter, step, wall_time, tag, value.

    A file appears under its name when it is whole. csv and jsonl take several runs into one file; of the other
    formats each run has a file of its own, in a directory. tfevents are event files for TensorBoard.
    """
    chosen = FORMATS[str(form)] if form is not None else _by_suffix(output)
    wanted = Wanted(tuple(tag or ()), superseded=attempts is Attempts.ALL)
    try:
        with source(data_dir, None, database_url) as where:
            names = matching(where, runs)
            if output != STDOUT and (output.endswith(("/", os.sep)) or Path(output).is_dir()):
                _into_directory(where, names, chosen, wanted, Path(output), force=force)
            else:
                _into_one(where, names, chosen, wanted, output, force=force)
    except (StoreError, ExportBrokenError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or output}: {error.strerror or error}")


def matching(where: Source, patterns: list[str]) -> list[str]:
    """The runs that are named, then those that patterns match, each once; a pattern that matches none is an error."""
    found: dict[str, None] = {}
    globs = []
    for pattern in patterns:
        if _WILDCARDS.isdisjoint(pattern):
            found[pattern] = None
        else:
            globs.append(pattern)
    if globs:
        hits = dict.fromkeys(globs, 0)
        for name in where.runs():
            if matched := [pattern for pattern in globs if name == pattern or fnmatchcase(name, pattern)]:
                found[name] = None
                for pattern in matched:
                    hits[pattern] += 1
        if missed := [pattern for pattern, hit in hits.items() if not hit]:
            fail(f"no run matches {missed[0]!r}", Exit.NOT_FOUND)
    return list(found)


def _by_suffix(output: str) -> Format:
    suffix = Path(output).suffix
    return next((form for form in FORMATS.values() if form.suffix and form.suffix == suffix), FORMATS["csv"])


def _into_directory(
    where: Source, names: list[str], form: Format, wanted: Wanted, directory: Path, *, force: bool
) -> None:
    for number, name in enumerate(names, start=1):
        file_name, pieces = where.export(name, form, wanted)
        own = directory / name / file_name if form.name == "tfevents" else directory / f"{name}{form.suffix}"
        own.parent.mkdir(parents=True, exist_ok=True)
        with _new_file(own, force=force) as file:
            size = _written(pieces, file, f"{name} ({number} of {len(names):,})")
        stderr.print(f"{own}: {size:,} bytes", markup=False)


def _into_one(where: Source, names: list[str], form: Format, wanted: Wanted, output: str, *, force: bool) -> None:
    if len(names) > 1 and not form.joinable:
        fail(f"{form.name} holds one run a file, and there are {len(names):,}: name a directory, as in -o {form.name}/")
    if output == STDOUT:
        if not (form.joinable or not sys.stdout.isatty()):
            fail(f"{form.name} is nothing for a terminal: name a file with -o, or pipe it on")
        _into_stdout(where, names, form, wanted)
        return
    with _new_file(Path(output), force=force) as file:
        size = _joined(where, names, form, wanted, file)
    stderr.print(f"{output}: {size:,} bytes, {count(len(names), 'run')}", markup=False)


def _into_stdout(where: Source, names: list[str], form: Format, wanted: Wanted) -> None:
    try:
        _joined(where, names, form, wanted, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # whoever reads has enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more may be flushed into the pipe
        raise typer.Exit(Exit.FAILED) from None


def _joined(where: Source, names: list[str], form: Format, wanted: Wanted, file: BinaryIO) -> int:
    """All runs one after the other, the head line once."""
    size = 0
    for number, name in enumerate(names, start=1):
        _, pieces = where.export(name, form, wanted)
        if number > 1 and form.head_line:
            pieces = _without_first_line(pieces)
        size += _written(pieces, file, f"{name} ({number} of {len(names):,})")
    return size


def _written(pieces: Iterable[bytes], file: BinaryIO, what: str) -> int:
    size = 0
    with stderr.status(f"{what} …") as status:
        for piece in pieces:
            file.write(piece)
            size += len(piece)
            status.update(f"{what}: {size / 1e6:,.1f} MB")
    return size


def _without_first_line(pieces: Iterable[bytes]) -> Iterator[bytes]:
    passed = False
    for piece in pieces:
        if passed:
            yield piece
            continue
        _, newline, rest = piece.partition(b"\n")
        if newline:
            passed = True
            yield rest


@contextmanager
def _new_file(path: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file that gets its name when the block has ended well; ends the command if it can't be written."""
    if path.is_dir() or (path.exists() and not force):
        fail(f"{path} exists already; name another file, or say --force")
    unfinished = path.with_name(f".{path.name[:200]}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("xb") as file:
            yield file
        sync_file(unfinished)
        unfinished.replace(path)
        sync_directory(path.parent)
    finally:
        with suppress(OSError):  # it has its name, or was never made
            unfinished.unlink()

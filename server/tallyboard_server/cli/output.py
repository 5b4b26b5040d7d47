"""How commands talk: tables and lines on stdout, errors in one line on stderr, exit codes that scripts can read."""

import sys
from datetime import UTC, datetime
from enum import IntEnum
from typing import Final, Literal, Never

from rich.console import Console
from rich.table import Table

from tallyboard.version import __version__

_PIPED_COLUMNS: Final = 1_000
"""Width where no terminal sets one: what is piped into another program is never cut."""

stdout = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
stderr = Console(stderr=True, highlight=False, soft_wrap=True)


class Exit(IntEnum):
    """Exit codes. 2 is click's, for a command line that makes no sense."""

    FAILED = 1
    UNREACHABLE = 3
    NOT_FOUND = 4
    UNAUTHORIZED = 5


def fail(message: str, code: Exit = Exit.FAILED) -> Never:
    """End the command with one line on stderr: what, where, what to do."""
    stderr.print(f"tallyboard: {message}", markup=False, style="red" if stderr.is_terminal else None)
    raise SystemExit(int(code))


def version() -> str:
    """The version of this very code, installed or not."""
    return __version__


def table(*columns: str, right: tuple[str, ...] = (), wrap: tuple[str, ...] = ()) -> Table:
    """An empty table; columns in `right` hold numbers, those in `wrap` give way where a terminal is narrow."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        made.add_column(column, justify=justify, no_wrap=column not in wrap, overflow="fold")
    return made


def printable(text: str) -> str:
    """Text of a job's, without what a terminal would take for commands."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def ago(seconds: float) -> str:
    """A span of time as people say it: 8 s, 5 min, 3 h, 12 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def timestamp(wall_time: float) -> str:
    """Seconds since the epoch as UTC, to the second; as the number it is, if no calendar has it."""
    try:
        return datetime.fromtimestamp(wall_time, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{wall_time:g} s"


def count(number: int, noun: str) -> str:
    """1 run, 2 runs, 1,000 runs."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

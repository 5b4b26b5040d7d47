"""What `sync` prints and how it ends, for each of the command lines that offer it."""

import sys
from typing import Final

from tallyboard.errors import ConfigurationError
from tallyboard.syncing.sync import Synced, sync

EXIT_LEFT: Final = 1
"""Something is left to do."""
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
"""As the other commands have it: no service answers."""


def run_sync(directory: str | None, url: str | None, token: str | None, *, as_new: bool) -> int:
    """Sync, and print what became of each stream; returns the exit code."""
    try:
        results = sync(directory, url=url, token=token, as_new=as_new, tell=_tell)
    except ConfigurationError as error:
        _tell(f"tallyboard: {error}")
        return EXIT_USAGE
    except KeyboardInterrupt:
        _tell("tallyboard: stopped; run it again to go on")
        return EXIT_LEFT
    if not results:
        print("nothing waits to be sent")
    for result in results:
        print(describe(result))
    if any(result.state == "away" for result in results):
        return EXIT_UNREACHABLE
    return 0 if all(result.done for result in results) else EXIT_LEFT


def describe(result: Synced) -> str:
    """One line about a stream."""
    parts = [f"{result.reports:,} reports sent"] if result.reports or result.done else []
    if result.refused:
        parts.append(f"{result.refused:,} of them refused (see `tallyboard doctor`)")
    if result.remaining:
        parts.append(f"{result.remaining:,} left in {result.path}")
    elif result.done:
        parts.append("checked and removed here")
    if result.detail:
        parts.append(result.detail)
    return f"{result.run}: {result.state}: {', '.join(parts)}"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""`python -m tallyboard sync`: what of the command line needs nothing but the client."""

import argparse
import sys
from collections.abc import Sequence

from tallyboard.syncing.command import run_sync


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    return run_sync(options.directory, options.url, options.token, as_new=options.as_new)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tallyboard", description="Metrics logging for machine-learning training.")
    commands = parser.add_subparsers(required=True, metavar="sync")
    command = commands.add_parser("sync", help="send what jobs have left on this machine's disk")
    command.add_argument("directory", nargs="?", help="spool dir, or one stream's folder in it")
    command.add_argument("--url", help="the service, if not the one the jobs were told of (TALLYBOARD_URL)")
    command.add_argument("--token", help="its token (TALLYBOARD_TOKEN)")
    command.add_argument(
        "--as-new", action="store_true", help="what must not go to its run any more gets one of its own"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

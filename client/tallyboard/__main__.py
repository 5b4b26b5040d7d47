"""`python -m tallyboard`: sync, import and watch, which need nothing but the client."""

import argparse
import sys
from collections.abc import Sequence

from tallyboard.logdir.command import add_parsers, asked_of, run_import, run_watch
from tallyboard.syncing.command import run_sync


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "import":
        return run_import(asked_of(options))
    if options.command == "watch":
        return run_watch(asked_of(options))
    return run_sync(options.directory, options.url, options.token, as_new=options.as_new)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tallyboard", description="Metrics logging for machine-learning training.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="sync | import | watch")
    command = commands.add_parser("sync", help="send what jobs have left on this machine's disk")
    command.add_argument("directory", nargs="?", help="spool dir, or one stream's folder in it")
    command.add_argument("--url", help="the service, if not the one the jobs were told of (TALLYBOARD_URL)")
    command.add_argument("--token", help="its token (TALLYBOARD_TOKEN)")
    command.add_argument(
        "--as-new", action="store_true", help="what must not go to its run any more gets one of its own"
    )
    add_parsers(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())

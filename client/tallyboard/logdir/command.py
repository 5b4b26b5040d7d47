"""What `tallyboard import` and `tallyboard watch` print and how they end, for each command line that offers them."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from tallyboard.delivery.transport import HttpTransport
from tallyboard.errors import ConfigurationError
from tallyboard.logdir.files import LogdirError
from tallyboard.logdir.importing import Import, Summary
from tallyboard.logdir.mends import Mends
from tallyboard.logdir.shipping import Service, SystemClock
from tallyboard.logdir.tags import CounterRule
from tallyboard.logdir.watching import Watch
from tallyboard.settings import DEFAULT_URL, service_ca_file, service_token, service_url
from tallyboard.version import __version__
from tallyboard.wire import InvalidNameError, check_counter, check_run

EXIT_INCOMPLETE: Final = 1
"""Something of the logdir is not in the service; the last lines say what."""
EXIT_USAGE: Final = 2
EXIT_UNREACHABLE: Final = 3
"""As the other commands have it: no service answers."""
IMPORT_PATIENCE_S: Final = 60.0
WATCH_PATIENCE_S: Final = 5.0
"""Then the watch says that the service is away, and goes on waiting."""

IMPORT_HELP: Final = "bring what TensorBoard's writers have left in a logdir to the service"
WATCH_HELP: Final = "bring a logdir to the service as it grows, until stopped"


@dataclass(slots=True, frozen=True)
class Asked:
    """What the command line says. counters: PATTERN=NAME each. url, token: else those of the environment."""

    logdir: str
    project: str | None = None
    counters: Sequence[str] = ()
    url: str | None = None
    token: str | None = None
    dry_run: bool = False


def run_import(asked: Asked, environ: Mapping[str, str] = os.environ) -> int:
    """Import a logdir, and print what came of it; returns the exit code."""
    try:
        rules = counter_rules(asked.counters)
        _check_project(asked.project)
        service = None if asked.dry_run else _service(asked, environ, IMPORT_PATIENCE_S)
        summary = Import(Path(asked.logdir), service, asked.project, rules, _tell).run()
    except (ConfigurationError, InvalidNameError, LogdirError) as error:
        _tell(f"tallyboard: {error}")
        return EXIT_USAGE
    except KeyboardInterrupt:
        _tell("tallyboard: stopped; run it again to go on")
        return EXIT_INCOMPLETE
    _print_summary(summary, dry_run=asked.dry_run)
    _print_mends(summary.mends)
    if summary.away:
        _tell(f"tallyboard: the service does not answer ({summary.away}); run it again to go on")
        return EXIT_UNREACHABLE
    return 0 if summary.mends.lossless else EXIT_INCOMPLETE


def run_watch(asked: Asked, environ: Mapping[str, str] = os.environ) -> int:
    """Watch a logdir until SIGINT or SIGTERM, and print what was mended; returns the exit code."""
    clock = _StoppableClock()
    try:
        rules = counter_rules(asked.counters)
        _check_project(asked.project)
        service = _service(asked, environ, WATCH_PATIENCE_S, clock)
        watch = Watch(Path(asked.logdir), service, asked.project, rules, _tell, clock)
        clock.stop_on_signals()
        watch.run()
    except (ConfigurationError, InvalidNameError, LogdirError) as error:
        _tell(f"tallyboard: {error}")
        return EXIT_USAGE
    watch.end()
    print(f"{watch.points:,} points sent")
    _print_mends(watch.mends)
    return 0 if watch.mends.lossless else EXIT_INCOMPLETE


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both commands to a command line; their options become an Asked by `asked_of`."""
    for name, help_text in (("import", IMPORT_HELP), ("watch", WATCH_HELP)):
        parser = commands.add_parser(name, help=help_text)
        parser.add_argument("logdir", help="what `tensorboard --logdir` would be given")
        parser.add_argument("--project", help="what the runs' names begin with (the logdir's name)")
        parser.add_argument(
            "--counter",
            action="append",
            default=[],
            metavar="PATTERN=NAME",
            help="tags like PATTERN count on the shared counter NAME: '*=global_step'; else each counts on its own",
        )
        parser.add_argument("--url", help="the service (TALLYBOARD_URL)")
        parser.add_argument("--token", help="its token (TALLYBOARD_TOKEN)")
        if name == "import":
            parser.add_argument("--dry-run", action="store_true", help="only read, and say what would be mended")


def asked_of(options: argparse.Namespace) -> Asked:
    """What the parsers of `add_parsers` have understood."""
    return Asked(
        options.logdir,
        options.project,
        tuple(options.counter),
        options.url,
        options.token,
        dry_run=getattr(options, "dry_run", False),
    )


def counter_rules(arguments: Sequence[str]) -> tuple[CounterRule, ...]:
    """`PATTERN=NAME` arguments; the first that matches a tag holds. Raises ConfigurationError, InvalidNameError."""
    rules = []
    for argument in arguments:
        pattern, equals, counter = argument.rpartition("=")
        if not equals or not pattern:
            raise ConfigurationError(f"--counter {argument!r} is not PATTERN=NAME; write for example 'val/*=epoch'")
        rules.append(CounterRule(pattern, check_counter(counter)))
    return tuple(rules)


class _StoppableClock(SystemClock):
    """The machine's clock, whose waits end when somebody wants the process to stop."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def wait(self, seconds: float) -> bool:
        return not self._stop.wait(seconds)

    def stop_on_signals(self) -> None:
        """End waits on SIGINT and SIGTERM; a second signal ends the process as usual."""

        def stop(number: int, _: FrameType | None) -> None:
            signal.signal(number, signal.SIG_DFL)
            self._stop.set()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)


def _service(asked: Asked, environ: Mapping[str, str], patience_s: float, clock: SystemClock | None = None) -> Service:
    url = service_url(asked.url or environ.get("TALLYBOARD_URL") or DEFAULT_URL)
    token = service_token(asked.token or environ.get("TALLYBOARD_TOKEN") or None)
    ca_file = service_ca_file(None, environ)
    transport = HttpTransport(url, token, f"tallyboard/{__version__}", ca_file=ca_file)
    return Service(transport, patience_s=patience_s, clock=clock)


def _check_project(project: str | None) -> None:
    if project is not None:
        check_run(project)


def _print_summary(summary: Summary, *, dry_run: bool) -> None:
    rate = summary.points_read / max(summary.seconds, 1e-9)
    what = "read" if dry_run else "sent"
    count = summary.points_read if dry_run else summary.points_sent
    print(
        f"{summary.runs:,} {'run' if summary.runs == 1 else 'runs'}, {summary.runs_sent:,} with something new: "
        f"{count:,} points {what}, "
        f"{summary.bytes_read / 1e6:,.1f} MB in {summary.seconds:,.1f} s ({rate:,.0f} points/s)"
    )


def _print_mends(mends: Mends) -> None:
    for line in mends.lines():
        print(line)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

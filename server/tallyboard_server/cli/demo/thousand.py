"""`tallyboard demo-thousand`: a service with a thousand runs of sweeps, some of which go on until Ctrl-C."""

import signal
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final

import typer

from tallyboard.wire import Batch
from tallyboard_server.cli.demo.curves import Curves, batches, curves, going_on, rank_batch
from tallyboard_server.cli.demo.process import StartError, interrupt
from tallyboard_server.cli.demo.running import service
from tallyboard_server.cli.demo.sweeps import Trial, steps_left, trials
from tallyboard_server.cli.http import ApiProblemError, Service, UnreachableError
from tallyboard_server.cli.output import count, fail, stderr, stdout

SENDERS: Final = 3
"""Threads that make and send trials: the service writes meanwhile."""
LOST_AFTER_S: Final = 30.0
"""So that those who look need not wait five minutes until the silent runs are shown as lost."""
TURN_S: Final = 1.0
"""The runs that go on report once in so long, a step each."""
RUNS_MAX: Final = 100_000
_TRIES: Final = 120
_RETRY_S: Final = 0.5


def demo_thousand(
    once: Annotated[bool, typer.Option("--once", help="Fill the store, and end.")] = False,
    runs: Annotated[int, typer.Option(min=1, max=RUNS_MAX, help="How many runs.")] = 1_000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes other curves.")] = 1,
    port: Annotated[int, typer.Option(help="Port; another is taken if it is in use.")] = 6007,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the store lives; must be empty.", show_default="a temporary directory")
    ] = None,
) -> None:
    """Serve a thousand runs of sweeps: three projects, several counters each; some diverge, fail, are preempted or
    fall silent, and a few go on reporting until Ctrl-C.

    The curves are formulas with noise, the same for the same seed; they take about half a minute to write.
    """
    where = data_dir or Path(tempfile.mkdtemp(prefix="tallyboard-thousand-"))
    if where.exists() and any(where.iterdir()):
        fail(f"{where} is not empty; name another --data-dir")
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with service(port, where, {"TALLYBOARD_LOST_AFTER_S": str(LOST_AFTER_S)}) as running:
            began, now = time.monotonic(), time.time()
            with stderr.status(f"writing {count(runs, 'run')} …"):
                scalars = fill(running, trials(runs, seed), seed, now)
            took_s = time.monotonic() - began
            stdout.print(f"wrote {count(runs, 'run')}, {count(scalars, 'scalar')} in {took_s:.0f} s: {running.url}/")
            if not once:
                going = [curves(trial, seed, now) for trial in trials(runs, seed) if trial.course == "running"]
                go_on(running, going, time.sleep)
    except (StartError, UnreachableError, ApiProblemError) as error:
        fail(f"demo-thousand: {error}")
    except KeyboardInterrupt:
        stdout.print("stopped")


def fill(at: Service, wanted: Iterable[Trial], seed: int, now: float) -> int:
    """Send all trials as they are at `now` (seconds since the epoch); returns how many scalars were stored."""
    with ThreadPoolExecutor(SENDERS) as senders:
        return sum(senders.map(lambda trial: _send(at, curves(trial, seed, now)), wanted))


def go_on(at: Service, going: Iterable[Curves], wait: Callable[[float], object]) -> None:
    """Let trials that are running take a step a turn, all at once, each until it comes to its end; never returns."""
    left = {found.trial.name: (found, steps_left(found.trial)) for found in going}
    while True:
        for name, (found, steps) in list(left.items()):
            if (step := next(steps, None)) is None:
                del left[name]
                continue
            _deliver(at, name, going_on(found, step, time.time()))
        wait(TURN_S)


def _send(at: Service, found: Curves) -> int:
    name = found.trial.name
    stored = sum(_deliver(at, name, batch) for batch in batches(found))
    return stored + sum(_deliver(at, rank, rank_batch(found, number)) for number, rank in enumerate(found.trial.ranks))


def _deliver(at: Service, run: str, batch: Batch) -> int:
    """How many scalars were stored; waits while the service has too much to do."""
    for _ in range(_TRIES):
        try:
            return at.report(run, batch).stored
        except ApiProblemError as error:
            if error.problem.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
        time.sleep(_RETRY_S)
    raise UnreachableError(f"{at.url} was too busy for {_TRIES * _RETRY_S:g} s")

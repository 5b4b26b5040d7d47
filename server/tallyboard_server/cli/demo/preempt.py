"""`tallyboard demo-preempt`: one training, killed, cut off and doubled, told by Tallyboard and by plain tensorboardX.

Five jobs carry it on, each from the last checkpoint. Job 1 is killed. The service is killed beside job 2, which is
killed, too. The network of job 3 is cut; then it hangs and is taken for dead, but wakes up and reports on beside job 4,
which has passed it and is killed. Job 5 comes to the end.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

import typer

from tallyboard_server.cli.demo.compare import as_float32
from tallyboard_server.cli.demo.job import LOSS, RUN, Job, plain_logdir, reported
from tallyboard_server.cli.demo.outcome import Outcome, Shown, concluded, drawn, surviving
from tallyboard_server.cli.demo.process import StartError
from tallyboard_server.cli.demo.recorder import Points
from tallyboard_server.cli.demo.running import logdir_of
from tallyboard_server.cli.demo.stage import Stage, data_dir_of
from tallyboard_server.cli.demo.tensorboard import tensorboard
from tallyboard_server.cli.demo.trainings import ExamplesMissingError, check_examples
from tallyboard_server.cli.http import Service
from tallyboard_server.cli.output import fail, stderr, stdout
from tallyboard_server.cli.sources import Online
from tallyboard_server.cli.verifying import tell
from tallyboard_server.verify import RunReport

_CATCH_UP_S: Final = 30.0
_SETTLE_S: Final = 1.5
"""Longer than the second in which this TensorBoard looks for news."""


def demo_preempt(
    steps: Annotated[int, typer.Option(min=100, help="Steps of the training.")] = 600,
    folder: Annotated[
        Path | None, typer.Option(help="Where everything goes; must be empty.", show_default="a temporary directory")
    ] = None,
) -> None:
    """Preempt a training three times, kill its service, cut its network, let a job live on that was taken for dead.

    Shows what TensorBoard's default reader makes of it: of Tallyboard's event files, and of those that the very same
    jobs wrote with plain tensorboardX. Exit code 1 if Tallyboard's curve is not exactly the surviving jobs'.
    """
    try:
        check_examples()
    except ExamplesMissingError as error:
        fail(f"demo-preempt: {error}")
    where = folder or Path(tempfile.mkdtemp(prefix="tallyboard-preempt-"))
    where.mkdir(parents=True, exist_ok=True)
    if any(where.iterdir()):
        fail(f"{where} is not empty; name another --folder")
    stdout.print(
        f"One training on handwritten digits, {steps:,} steps, in five jobs, each of which goes on from a checkpoint.\n"
        "Every job reports its loss twice: to Tallyboard, and with plain tensorboardX into a directory.\n"
        "It takes about a minute.\n"
    )
    try:
        outcome = play(where, steps)
    except StartError as error:
        fail(f"demo-preempt: {error}")
    for text in (drawn(outcome, steps), concluded(outcome)):
        stdout.print(f"\n{text}", markup=False)
    stdout.print(f"\nEverything is kept in {where}", markup=False)
    if not outcome.is_whole:
        fail("Tallyboard's curve is not that of the surviving jobs")


def play(folder: Path, steps: int) -> Outcome:
    """The whole story. Raises StartError."""
    logdirs = logdir_of(data_dir_of(folder)), plain_logdir(folder)
    for logdir in logdirs:
        logdir.mkdir(parents=True)
    with tensorboard(logdirs[0]) as ours, tensorboard(logdirs[1]) as theirs, Stage(folder, steps) as stage:
        jobs = story(stage)
        report = _verified(stage.service)
        points = [reported(job) for job in jobs]
        expected = as_float32(surviving(points))
        with stderr.status("reading what the open TensorBoards show …"):
            live = _read(ours.scalars, expected), _read(theirs.scalars, None)
    with stderr.status("reading what newly started TensorBoards show …"):
        fresh = _read_anew(logdirs[0], expected), _read_anew(logdirs[1], None)
    tallyboard, plain = (Shown(*both) for both in zip(live, fresh, strict=True))
    return Outcome(expected, tallyboard, plain, sum(map(len, points)), report.ok)


def story(stage: Stage) -> list[Job]:
    """What happens, in order; returns the jobs."""

    def at(checkpoints: float) -> int:
        return int(checkpoints * stage.every)

    first = stage.start_job()
    stage.let(first, at(2) - 1)
    stage.wait_past_checkpoint(first)
    stage.kill_job(first)
    second = stage.start_job()
    stage.kill_service(second, at(3.5))
    stage.let(second, at(4) - 1)
    stage.wait_for(second, at(3.75))
    stage.kill_job(second)
    third = stage.start_job()
    stage.cut_network(third, at(4.5))
    stage.let(third, at(5.5))
    stage.wait_for(third, at(5.5))
    stage.wait_past_checkpoint(third)
    stage.freeze(third)
    fourth = stage.start_job()
    stage.let(fourth, at(8.5))
    stage.wait_acknowledged(fourth, at(7.5))
    stage.thaw(third, at(9.5))
    stage.let(fourth, at(11) - 1)
    stage.wait_for(fourth, at(10.5))
    stage.kill_job(fourth)
    fifth = stage.start_job()
    stage.kill_job(third, "is found and killed")
    stage.wait_until_done(fifth)
    return [first, second, third, fourth, fifth]


def _verified(service: Service) -> RunReport:
    stdout.print(f"\n`tallyboard verify {RUN}`: every job is an attempt of each counter", markup=False)
    report = Online(service).verify(RUN, lambda _scalars: None)
    tell(report, whole=True)
    return report


def _read(scalars: Callable[[str, str], Points], expected: Points | None) -> Points:
    """The curve that TensorBoard shows once that is the one expected, or no longer changes, or time is up."""
    deadline = time.monotonic() + _CATCH_UP_S
    shown: Points = {}
    while time.monotonic() < deadline:
        before, shown = shown, scalars(RUN, LOSS)
        if shown == expected or (expected is None and shown and shown == before):
            break
        time.sleep(_SETTLE_S)
    return shown


def _read_anew(logdir: Path, expected: Points | None) -> Points:
    with tensorboard(logdir) as board:
        return _read(board.scalars, expected)

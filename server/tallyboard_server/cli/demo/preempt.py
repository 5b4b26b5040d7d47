"""`tallyboard demo-preempt`: one training, killed, cut off and doubled, told by Tallyboard and by plain tensorboardX.

Five jobs carry it on, each from the last checkpoint. Jobs 1 and 2 are killed; the service is killed, and the network
cut, while they run. Job 3 hangs and is taken for dead, but wakes up and reports on beside job 4, which has passed it
and is killed; job 5 comes to the end.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Annotated, Final

import typer

from tallyboard_server.cli.demo import chart
from tallyboard_server.cli.demo.compare import as_float32
from tallyboard_server.cli.demo.forwarder import Forwarder
from tallyboard_server.cli.demo.job import LOSS, RUN, Job, plain_logdir, reported
from tallyboard_server.cli.demo.process import StartError, free_port
from tallyboard_server.cli.demo.running import HOST, logdir_of
from tallyboard_server.cli.demo.tensorboard import tensorboard
from tallyboard_server.cli.demo.trainings import ExamplesMissingError
from tallyboard_server.cli.http import Service
from tallyboard_server.cli.output import count, fail, stdout
from tallyboard_server.cli.sources import Online
from tallyboard_server.cli.verifying import tell

WAIT_TIMEOUT_S: Final = 120.0
AWAY_S: Final = 1.5
"""How long the service, and then the network, is away."""
_POLL_S: Final = 0.05
_TRAINING_S: Final = 15.0
"""The training takes about so long, whatever its steps: a job takes seconds to start, and others go on meanwhile."""
_CHECKPOINTS: Final = 15
_CATCH_UP_S: Final = 30.0
_SETTLE_S: Final = 1.5
"""Longer than the second in which this TensorBoard looks for news."""

Points = dict[int, float]


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
    where = folder or Path(tempfile.mkdtemp(prefix="tallyboard-preempt-"))
    where.mkdir(parents=True, exist_ok=True)
    if any(where.iterdir()):
        fail(f"{where} is not empty; name another --folder")
    try:
        outcome = play(where, steps)
    except (StartError, ExamplesMissingError) as error:
        fail(f"demo-preempt: {error}")
    stdout.print(told(outcome, steps), markup=False)
    stdout.print(f"everything is kept in {where}", markup=False)
    if not outcome.is_whole:
        fail("Tallyboard's curve is not that of the surviving jobs")


@dataclass(slots=True, frozen=True)
class Shown:
    """A curve in TensorBoard: in one that was open all along, and in one that was started at the end."""

    live: Points
    fresh: Points


@dataclass(slots=True, frozen=True)
class Outcome:
    """The loss at each step: expected (of each step the last job that trained on from it), and as TensorBoard shows it.

    tallyboard, plain: of Tallyboard's event files, and of tensorboardX's. logged: points that all jobs reported.
    """

    expected: Points
    tallyboard: Shown
    plain: Shown
    logged: int
    verified: bool

    @property
    def is_whole(self) -> bool:
        """Whether Tallyboard's curve is exactly the expected one."""
        return self.verified and self.tallyboard.live == self.tallyboard.fresh == self.expected


def play(folder: Path, steps: int) -> Outcome:
    """The whole story. Raises StartError."""
    logdirs = logdir_of(folder), plain_logdir(folder)
    for logdir in logdirs:
        logdir.mkdir(parents=True)
    with tensorboard(logdirs[0]) as ours, tensorboard(logdirs[1]) as theirs, Stage(folder, steps) as stage:
        jobs = _story(stage, steps)
        verified = _verified(stage.service)
        points = [reported(job) for job in jobs]
        expected = as_float32(surviving(points))
        live = _read(ours.scalars, expected), _read(theirs.scalars, None)
    fresh = _read_anew(logdirs[0], expected), _read_anew(logdirs[1], None)
    tallyboard, plain = (Shown(*both) for both in zip(live, fresh, strict=True))
    return Outcome(expected, tallyboard, plain, sum(map(len, points)), verified)


def _story(stage: "Stage", steps: int) -> list[Job]:
    """What happens, in order; returns the jobs."""

    def at(share: float) -> int:
        return int(share * steps)

    first = stage.start_job()
    stage.wait_for(first, at(0.1))
    stage.kill_job(first)
    second = stage.start_job()
    stage.kill_service()
    stage.wait_for(second, at(0.25))
    stage.kill_job(second)
    third = stage.start_job()
    stage.cut_network()
    stage.wait_for(third, at(0.35))
    stage.freeze(third)
    fourth = stage.start_job()
    stage.wait_for(fourth, min(reported(fourth)) + at(0.25))
    stage.thaw(third)
    stage.wait_for(fourth, min(reported(fourth)) + at(0.4))
    stage.kill_job(fourth)
    fifth = stage.start_job()
    stage.kill_job(third, "at last")
    stage.wait_until_done(fifth)
    return [first, second, third, fourth, fifth]


@dataclass(slots=True)
class Stage:
    """The service, the network before it, and the jobs, each in a process that can be killed."""

    folder: Path
    steps: int
    service: Service = field(init=False)
    _server: "subprocess.Popen[bytes]" = field(init=False)
    _network: Forwarder = field(init=False)
    _jobs: "dict[int, subprocess.Popen[bytes]]" = field(default_factory=dict)
    _began_at: float = field(default_factory=time.monotonic)

    def __enter__(self) -> "Stage":
        port = free_port(HOST)
        self.service = Service(f"http://{HOST}:{port}")
        self._network = Forwarder((HOST, port))
        self._start_service(port)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self._jobs.values(), self._server):
            process.kill()
            process.wait()
        self._network.close()

    def say(self, text: str) -> None:
        """Tell what happens, and when."""
        stdout.print(f"{time.monotonic() - self._began_at:6.1f} s  {text}", markup=False)

    def start_job(self) -> Job:
        """The next job begins."""
        url = f"http://{HOST}:{self._network.port}"
        number, every = len(self._jobs) + 1, max(1, self.steps // _CHECKPOINTS)
        job = Job(number, url, self.folder, self.steps, every, _TRAINING_S / self.steps)
        command = [sys.executable, "-m", "tallyboard_server.cli.demo.job", *job.arguments]
        with job.log.open("wb") as log:
            self._jobs[job.number] = self._start(command, log)
        self._wait(lambda: bool(reported(job)), f"job {job.number} did not begin; see {job.log}", job)
        self.say(f"job {job.number} trains from step {min(reported(job))} on")
        return job

    def wait_for(self, job: Job, step: int) -> None:
        """Wait until a job has reported a step."""
        self._wait(lambda: max(reported(job), default=0) >= step, f"job {job.number} did not come to step {step}", job)

    def wait_until_done(self, job: Job) -> None:
        """Wait until a job has ended by itself."""
        process = self._jobs[job.number]
        self._wait(lambda: process.poll() is not None, f"job {job.number} did not end")
        if process.returncode != 0:
            raise StartError(f"job {job.number} failed; see {job.log}")
        self.say(f"job {job.number} has come to the end, step {max(reported(job))}")

    def kill_job(self, job: Job, when: str = "") -> None:
        """SIGKILL."""
        process = self._jobs[job.number]
        process.kill()
        process.wait()
        self.say(f"job {job.number} is killed at step {max(reported(job))} {when}".rstrip())

    def freeze(self, job: Job) -> None:
        """It hangs (SIGSTOP), as on a node that does not answer any more."""
        self._jobs[job.number].send_signal(signal.SIGSTOP)
        self.say(f"job {job.number} hangs at step {max(reported(job))} and is taken for dead")

    def thaw(self, job: Job) -> None:
        """It goes on where it hung, knowing nothing of its successor."""
        self._jobs[job.number].send_signal(signal.SIGCONT)
        self.say(f"job {job.number} wakes up and reports on")

    def kill_service(self) -> None:
        """SIGKILL; some time later it is there again."""
        self._server.kill()
        self._server.wait()
        self.say("the service is killed")
        time.sleep(AWAY_S)
        self._start_service(int(self.service.url.rpartition(":")[2]))
        self.say("the service is back")

    def cut_network(self) -> None:
        """Cut; some time later mended."""
        self._network.cut()
        self.say("the network is cut")
        time.sleep(AWAY_S)
        self._network.mend()
        self.say("the network is back")

    def _start_service(self, port: int) -> None:
        command = [sys.executable, "-m", "tallyboard_server.cli", "serve", "--host", HOST, "--port", str(port)]
        command += ["--data-dir", str(self.folder / "data"), "--logdir", str(logdir_of(self.folder))]
        with (self.folder / "service.log").open("ab") as log:
            self._server = self._start(command, log)
        self._wait(self.service.is_alive, f"the service did not start; see {self.folder / 'service.log'}")

    def _start(self, command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """A process of the story: what it can't send stays in the story's folder."""
        environment = os.environ | {"TALLYBOARD_SPOOL_DIR": str(self.folder / "spool")}
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603 - our own command

    def _wait(self, condition: Callable[[], bool], failure: str, job: Job | None = None) -> None:
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        while not condition():
            ended = job is not None and self._jobs[job.number].poll() is not None and not condition()
            if ended or time.monotonic() > deadline:
                raise StartError(failure)
            time.sleep(_POLL_S)


def surviving(jobs: list[Points]) -> Points:
    """Of each job what lies before the first step of the next: what one undisturbed training would have reported."""
    found: Points = {}
    for points in jobs:
        first = min(points)
        found = {step: value for step, value in found.items() if step < first} | points
    return found


def told(outcome: Outcome, steps: int) -> str:
    """Both curves, in a few lines."""
    total = len(outcome.expected)
    lines = [
        "",
        f"{LOSS} as TensorBoard's default reader shows it. Five jobs logged {count(outcome.logged, 'point')}, of which",
        f"{total:,} are the training: one a step. █ all of a stretch are there, ▒ some, · none; below, the curve.",
    ]
    for name, shown in (("Tallyboard", outcome.tallyboard), ("plain tensorboardX", outcome.plain)):
        for when, points in (("open all along", shown.live), ("started afterwards", shown.fresh)):
            right = {step: value for step, value in points.items() if outcome.expected.get(step) == value}
            stale = f", and {len(points) - len(right):,} of superseded jobs" if len(points) > len(right) else ""
            lines += ["", f"{name}, TensorBoard {when}: {len(right):,} of {total:,} points{stale}"]
            lines += [f"  {line(points, range(1, steps + 1))}" for line in (chart.presence, chart.curve)]
    return "\n".join((*lines, ""))


def _verified(service: Service) -> bool:
    report = Online(service).verify(RUN, lambda _scalars: None)
    tell(report, whole=True)
    return report.ok


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

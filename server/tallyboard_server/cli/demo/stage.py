"""The preemption demo's stage: the service, the network before it, and jobs, each in a process that can be killed.

A stage direction is over when what it means has happened: a job has begun when the service has heard where, and the
network is back when the service has what a job kept meanwhile. Jobs train no further than they are let, so that the
story is the same on a slow machine.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from tallyboard_server.api.messages import AttemptView, RunView
from tallyboard_server.cli.demo.forwarder import Forwarder
from tallyboard_server.cli.demo.job import COUNTER, RUN, Job, checkpointed, replace, reported
from tallyboard_server.cli.demo.process import StartError, free_port
from tallyboard_server.cli.demo.running import HOST, serve_command
from tallyboard_server.cli.http import ApiProblemError, Service, run_path
from tallyboard_server.cli.output import count, stdout

WAIT_TIMEOUT_S: Final = 120.0
AWAY_S: Final = 1.5
"""How long the service, and then the network, is away: at least; a job tries to send meanwhile."""
TRAINING_S: Final = 15.0
"""The training takes about so long, whatever its steps: a job takes seconds to start, and others go on meanwhile."""
CHECKPOINTS: Final = 15
_POLL_S: Final = 0.05


def data_dir_of(folder: Path) -> Path:
    """Where the service of a stage keeps its data."""
    return folder / "data"


@dataclass(slots=True)
class Stage:
    """Used as a context; whatever waits raises StartError when it does not come to pass in `WAIT_TIMEOUT_S`."""

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

    @property
    def every(self) -> int:
        """A job saves a checkpoint each time it has taken so many steps."""
        return max(1, self.steps // CHECKPOINTS)

    def say(self, text: str) -> None:
        """Tell what happens, and when."""
        stdout.print(f"{time.monotonic() - self._began_at:6.1f} s  {text}", markup=False)

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def start_job(self) -> Job:
        """The next job begins, and the service has heard where. It takes a few steps, and then waits to be let on."""
        url = f"http://{HOST}:{self._network.port}"
        number, whence = len(self._jobs) + 1, checkpointed(self.folder)
        job = Job(number, url, self.folder, self.steps, self.every, TRAINING_S / self.steps)
        self.let(job, whence + max(1, self.every // 4))
        command = [sys.executable, "-m", "tallyboard_server.cli.demo.job", *job.arguments]
        with job.log.open("wb") as log:
            self._jobs[number] = self._start(command, log)
        self._wait(lambda: bool(reported(job)), f"job {number} did not begin; see {job.log}", job)
        self.wait_acknowledged(job, whence + 1)
        self.say(
            f"job {number} " + (f"goes on after the checkpoint of step {whence}" if whence else "begins from scratch")
        )
        return job

    def let(self, job: Job, step: int) -> None:
        """Let a job train up to a step."""
        replace(job.cue, str(step).encode())

    def wait_for(self, job: Job, step: int) -> None:
        """Wait until a job has reported a step."""
        self._wait(lambda: max(reported(job), default=0) >= step, f"job {job.number} did not come to step {step}", job)

    def wait_acknowledged(self, job: Job, step: int) -> None:
        """Wait until the service has acknowledged a step of a job."""
        failure = f"the service did not acknowledge step {step} of job {job.number}; see {job.log}"
        self._wait(lambda: self._acknowledged(job) >= step, failure, job)

    def wait_past_checkpoint(self, job: Job) -> None:
        """Wait until a job has saved a checkpoint, and the service has acknowledged steps beyond it."""
        failure = f"the service acknowledged no steps of job {job.number} beyond a checkpoint; see {job.log}"
        first = min(reported(job))
        self._wait(lambda: first <= checkpointed(self.folder) < self._acknowledged(job), failure, job)

    def wait_until_done(self, job: Job) -> None:
        """Let a job train to the end, and wait until it has ended by itself."""
        self.let(job, self.steps)
        process = self._jobs[job.number]
        self._wait(lambda: process.poll() is not None, f"job {job.number} did not end; see {job.log}")
        if process.returncode != 0:
            raise StartError(f"job {job.number} failed; see {job.log}")
        self.say(f"job {job.number} has come to the end, step {max(reported(job))}")

    def kill_job(self, job: Job, what: str = "is killed") -> None:
        """SIGKILL."""
        process = self._jobs[job.number]
        process.kill()
        process.wait()
        self.say(f"job {job.number} {what} at step {max(reported(job))}")

    def freeze(self, job: Job) -> None:
        """It hangs (SIGSTOP), as on a node that does not answer any more."""
        self._jobs[job.number].send_signal(signal.SIGSTOP)
        self.say(f"job {job.number} hangs at step {max(reported(job))}, and is taken for dead")

    def thaw(self, job: Job, until: int) -> None:
        """It goes on where it hung, knowing nothing of its successor, and the service has heard of it again."""
        hung_at = max(reported(job))
        self.let(job, until)
        self._jobs[job.number].send_signal(signal.SIGCONT)
        self.say(f"job {job.number} wakes up and reports on, beside the job that took its place")
        self.wait_acknowledged(job, hung_at + 1)

    # ── what they report to ──────────────────────────────────────────────────────────────────────────────────────

    def kill_service(self, beside: Job, until: int) -> None:
        """SIGKILL; it is started again when a job beside it has come to a step."""
        self._server.kill()
        self._server.wait()
        self.say("the service is killed")
        with self._away("the service", beside, until):
            self._start_service(int(self.service.url.rpartition(":")[2]))

    def cut_network(self, beside: Job, until: int) -> None:
        """Cut; mended when a job behind it has come to a step."""
        self._network.cut()
        self.say("the network is cut")
        with self._away("the network", beside, until):
            self._network.mend()

    @contextmanager
    def _away(self, what: str, job: Job, until: int) -> Iterator[None]:
        """Entered when a job has reported up to a step while something was away; left when all that has arrived."""
        before = max(reported(job))
        self.let(job, until)
        time.sleep(AWAY_S)
        self.wait_for(job, until)
        yield
        self.wait_acknowledged(job, until)
        self.say(f"{what} is back, and has {count(until - before, 'step')} that job {job.number} kept meanwhile")

    def _start_service(self, port: int) -> None:
        with (self.folder / "service.log").open("ab") as log:
            self._server = self._start(serve_command(port, data_dir_of(self.folder)), log)
        self._wait(self.service.is_alive, f"the service did not start; see {self.folder / 'service.log'}")

    def _start(self, command: list[str], log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """A process of the story: what it can't send stays in the story's folder."""
        environment = os.environ | {"TALLYBOARD_SPOOL_DIR": str(self.folder / "spool")}
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603 - our own command

    def _acknowledged(self, job: Job) -> int:
        """The last step that the service has of a job; 0 if it has none."""
        pid, first = self._jobs[job.number].pid, min(reported(job))
        attempts = (attempt for attempt in self._attempts() if attempt.pid == pid and attempt.start >= first - 1)
        return max((attempt.last_step or 0 for attempt in attempts), default=0)

    def _attempts(self) -> list[AttemptView]:
        try:
            view = self.service.get(run_path("/runs", RUN), RunView)
        except ApiProblemError as error:
            if error.problem.status != 404:
                raise
            return []
        return view.counters[COUNTER].attempts if COUNTER in view.counters else []

    def _wait(self, condition: Callable[[], bool], failure: str, job: Job | None = None) -> None:
        deadline = time.monotonic() + WAIT_TIMEOUT_S
        while not condition():
            ended = job is not None and self._jobs[job.number].poll() is not None and not condition()
            if ended or time.monotonic() > deadline:
                raise StartError(failure)
            time.sleep(_POLL_S)

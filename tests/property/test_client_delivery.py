"""Jobs that are cut off, killed, replaced and synced in any order: in the end, the curves are what was trained.

The model of it all is one dictionary per tag: a job that begins at step n forgets what lies from n on, and each report
sets its step. Whatever happens on the way, the service comes to show just that.
"""

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import tallyboard
from tallyboard.collect.recorder import Recorder
from tallyboard.collect.routing import Router
from tallyboard.collect.sections import Sections
from tallyboard.collect.stats import Tally
from tallyboard.delivery.alarm import Alarm
from tallyboard.delivery.dispatch import Dispatcher
from tallyboard.delivery.forerunners import find
from tallyboard.delivery.replies import Replies
from tallyboard.delivery.sender import Sender
from tallyboard.delivery.transmit import Transmitter
from tallyboard.outbox.spool import Place, Policy, Spool
from tallyboard.outbox.stream import Stream
from tallyboard.wire import Open
from tests.property.local_service import LocalService
from tests.unit.client_kit import Certain, Clock, Ears, Inline

RUN = "digits/try1"
MACHINES = ("m1", "m2")
TURNS_MAX = 2_000


@dataclass
class Job:
    """A training, from its sender down to the disk of its machine."""

    machine: str
    uid: str
    recorder: Recorder
    spool: Spool
    sender: Sender
    tally: Tally
    step: int
    epoch: int
    ears: Ears = field(default_factory=Ears)

    def has_claimed(self) -> bool:
        """Whether the service has heard where the job began."""
        return self.spool.progress.batches >= 2

    def is_delivered(self) -> bool:
        return self.recorder.mark() <= self.sender._delivered


class Delivery(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="delivery-"))
        self.clock = Clock()
        self.service = LocalService(self.folder / "data", self.clock)
        self.ids = count(1)
        self.values = count(1)
        self.loss: dict[int, float] = {}
        self.val: dict[int, float] = {}
        self.jobs: list[Job] = []
        self.trainer: Job | None = None
        self.checkpoint = (1, 1)
        self.patches = ExitStack()
        self.patches.enter_context(patch("tallyboard.syncing.sync.HttpTransport", lambda *_, **_options: self.service))
        self.patches.enter_context(patch("tallyboard.syncing.sync.FIRST_PATIENCE_S", -1.0))
        self.patches.enter_context(patch("tallyboard.syncing.sync.PATIENCE_S", -1.0))

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(policy=st.sampled_from(["spill", "always"]))
    def first_job(self, policy: Policy) -> None:
        self._begin("m1", policy)

    @precondition(lambda self: self._may_begin_elsewhere())
    @rule(machine=st.sampled_from(MACHINES), policy=st.sampled_from(["spill", "always"]))
    def another_job_resumes(self, machine: str, policy: Policy) -> None:
        """The one before it may live on."""
        self._begin(machine, policy)

    @precondition(lambda self: self.trainer is not None)
    @rule(policy=st.sampled_from(["spill", "always"]))
    def killed_and_restarted_on_its_machine(self, policy: Policy) -> None:
        assert self.trainer is not None
        machine = self.trainer.machine
        self._kill(self.trainer)
        self._begin(machine, policy)

    @rule(which=st.integers(0, 9))
    def killed(self, which: int) -> None:
        others = [job for job in self.jobs if job is not self.trainer]
        if others:
            self._kill(others[which % len(others)])

    @rule(steps=st.integers(1, 30))
    def trains(self, steps: int) -> None:
        job = self.trainer
        assert job is not None
        for _ in range(steps):
            value = float(next(self.values))
            self.loss[job.step] = value
            self._log(job, value)
            if job.step % 5 == 0:
                self.val[job.epoch - 1] = value

    @rule(which=st.integers(0, 9), steps=st.integers(1, 30))
    def a_zombie_trains(self, which: int, steps: int) -> None:
        others = [job for job in self.jobs if job is not self.trainer]
        for _ in range(steps if others else 0):
            self._log(others[which % len(others)], -1.0)

    @rule()
    def saves_a_checkpoint(self) -> None:
        job = self.trainer
        assert job is not None
        job.sender._keep()
        self.checkpoint = (job.step, job.epoch)

    # ── the world ────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(seconds=st.sampled_from([0.1, 0.6, 3.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        end = self.clock.now + seconds
        while self.clock.now < end:
            rests = [job.sender.turn() for job in self.jobs]
            self.clock.advance(min(max(min(rests, default=1.0), 0.05), seconds))

    @rule(is_up=st.booleans())
    def the_network_is(self, is_up: bool) -> None:
        self.service.is_up = is_up

    @rule(answers=st.integers(1, 3))
    def answers_get_lost(self, answers: int) -> None:
        self.service.lost_answers = answers

    @rule(which=st.integers(0, 99))
    def a_request_comes_again(self, which: int) -> None:
        self.service.deliver_late(which)

    @rule()
    def the_service_restarts(self) -> None:
        self.service.restart()

    @rule(machine=st.sampled_from(MACHINES))
    def somebody_syncs(self, machine: str) -> None:
        self._sync(machine)

    @invariant()
    def nothing_is_refused_or_held(self) -> None:
        assert all(receipt.refused_count == 0 for receipt in self.service.receipts)
        self.service.receipts.clear()
        for job in self.jobs:
            assert job.sender.stopped is None, job.ears.heard

    def teardown(self) -> None:
        try:
            self._in_the_end()
        finally:
            for job in list(self.jobs):
                self._kill(job)
            self.service.store.close()
            self.patches.close()
            shutil.rmtree(self.folder)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _in_the_end(self) -> None:
        """With the network mended and everybody heard, the service shows what was trained."""
        self.service.is_up, self.service.lost_answers = True, 0
        for _ in range(TURNS_MAX):
            self.clock.advance(max(min((job.sender.turn() for job in self.jobs), default=0.0), 0.1))
            if all(job.is_delivered() for job in self.jobs):
                break
        for job in self.jobs:
            stats = job.tally.stats()
            assert (stats.waiting, stats.dropped_reports, stats.accepted) == (0, 0, stats.reports), job.ears.heard
        for machine in MACHINES:
            self._sync(machine)
        assert self.service.points(RUN, "loss") == self.loss
        assert self.service.points(RUN, "val") == self.val
        living = {job.uid for job in self.jobs}
        left = [path.name for machine in MACHINES for path in (self.folder / machine).glob("*")]
        assert set(left) <= living

    def _sync(self, machine: str) -> None:
        for result in tallyboard.sync(self.folder / machine, url="http://service"):
            assert result.state in ("sent", "busy", "away"), result

    def _may_begin_elsewhere(self) -> bool:
        """A job whose claims the service has not heard can't be replaced by one it knows nothing of."""
        return self.trainer is not None and len(self.jobs) < 4 and self.trainer.has_claimed()

    def _begin(self, machine: str, policy: Policy) -> None:
        self.clock.advance(1.0)
        step, epoch = self.checkpoint
        self.loss = {s: v for s, v in self.loss.items() if s < step}
        self.val = {s: v for s, v in self.val.items() if s < epoch}
        job = self._job(machine, policy, step, epoch)
        job.recorder.open(Open(uid=job.uid, resume="continue", take_over=(), provenance={"began_at": self.clock.now}))
        job.recorder.rewind({"global_step": step, "epoch": epoch}, "resumed", {})
        self.jobs.append(job)
        self.trainer = job

    def _job(self, machine: str, policy: Policy, step: int, epoch: int) -> Job:
        uid = f"u{next(self.ids)}"
        ears, tally, alarm, root = Ears(), Tally(), Alarm(), self.folder / machine
        recorder = Recorder(
            Sections(tally, alarm.ring), router=Router(), strict=False, clock=self.clock, notices=ears, tally=tally,
            resumed=True,
        )  # fmt: skip
        stream = Stream(
            uid=uid, asked=RUN, run=RUN, url="http://service", producer=uid, began_at=self.clock.now,
            opening=Open(uid=uid, resume="continue", take_over=()),
        )  # fmt: skip
        spool = Spool(stream, Place(root, policy), ears, self.clock)
        replies = Replies(
            recorder, stream, ears, tally, url="http://service", adopt=True, clock=self.clock
        )  # fmt: skip
        sender = Sender(
            recorder, spool, Dispatcher(spool, self._new_id), Transmitter(self.service, Certain()), Inline(), replies,
            ears, forerunners=lambda: find(root, RUN, "http://service", self._new_id), online=True, alarm=alarm,
            clock=self.clock,
        )  # fmt: skip
        return Job(machine, uid, recorder, spool, sender, tally, step, epoch, ears)

    def _new_id(self) -> str:
        return f"p{next(self.ids)}"

    def _log(self, job: Job, value: float) -> None:
        job.recorder.log({"loss": value}, job.step, None, None, None)
        job.step += 1
        if job.step % 5 == 0:
            job.recorder.log({"val": value}, job.epoch, "epoch", None, None)
            job.epoch += 1

    def _kill(self, job: Job) -> None:
        """As the kernel does it: files are closed, and what was in memory is gone."""
        job.sender.abandon()
        self.jobs.remove(job)
        if job is self.trainer:
            self.trainer = None


def test_whatever_happens_the_curves_are_what_was_trained() -> None:
    run_state_machine_as_test(
        Delivery, settings=settings(max_examples=80, stateful_step_count=30, deadline=None, database=None)
    )

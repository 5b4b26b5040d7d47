"""The thread that drives collect → batching → spool → transmit."""

import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tallyboard.collect.recorder import Recorder
from tallyboard.delivery import batching
from tallyboard.delivery.alarm import Alarm
from tallyboard.delivery.courier import Carrier
from tallyboard.delivery.dispatch import Dispatcher, Sent, final
from tallyboard.delivery.forerunners import Forerunner
from tallyboard.delivery.replies import Replies
from tallyboard.delivery.transmit import Forgotten, Later, Outcome, Rejected, Seen, Taken, Transmitter
from tallyboard.errors import RunNotFoundError
from tallyboard.notices import Notices
from tallyboard.outbox.claims import claimed, gone_on
from tallyboard.outbox.parcel import freeze
from tallyboard.outbox.spool import Spool
from tallyboard.wire import Problem

TICK_S: Final = 0.5
"""How long reports wait for company before they are frozen into a batch: what a killed job loses at most of them."""
HEARTBEAT_S: Final = 30.0
HURRY_S: Final = 0.5
"""Longest wait between tries once somebody waits for the end (flush, finish)."""
PUT_AWAY_S: Final = 5.0
"""How long the end of a run waits for the disk."""
SLICE_S: Final = 1.0
"""Long waits are made of slices: of the time in which the whole process stood still, no more than one is counted."""
NOTIFY_TIMEOUT_S: Final = 0.1

Brought = Outcome | Seen | bool
"""What the courier comes back with; a bool from a heartbeat."""


class Sender:
    """`turn` does one step of the work and says when to come back; a thread does what it says.

    forerunners: what earlier processes left of the same run, found on the first turn; they go first.
    online: batches are sent; else they are only put away.
    """

    def __init__(
        self,
        recorder: Recorder,
        spool: Spool,
        dispatcher: Dispatcher,
        transmitter: Transmitter,
        carrier: Carrier[Brought],
        replies: Replies,
        notices: Notices,
        *,
        forerunners: Callable[[], list[Forerunner]],
        online: bool,
        alarm: Alarm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._spool = spool
        self._dispatcher = dispatcher
        self._transmitter = transmitter
        self._carrier = carrier
        self._replies = replies
        self._notices = notices
        self._find_forerunners = forerunners
        self._forerunners: deque[Forerunner] | None = None
        self._online = online
        self._alarm = alarm
        self._clock = clock
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._under_way: Sent | None = None
        self._taken_at = -TICK_S
        self._heard_at = clock()
        self._retry_at = 0.0
        self._retry_asked = False  # the service named the time
        self._retry_forced = False  # somebody waits: don't sit out a backoff
        self._unchecked = False  # the service was away: others may have gone on with the run
        self._delivered = 0
        self._moved_out = 0
        self._kept = 0
        self._hurried = False
        self._keeping = False
        self._stopping = False
        self._discarding = False
        self._awaited = False  # somebody waits for the first answer
        self.settled = not online
        self.stopped: Problem | None = None
        self.kept: Path | None = None
        """After the end: where what is unsent was put,"""
        self.lost_reports = 0
        """and how many reports the disk did not take."""

    # ── one step of the work ─────────────────────────────────────────────────────────────────────────────────────

    def turn(self) -> float:
        """Begin or conclude at most one request. Returns how many seconds until there is something to do."""
        now = self._clock()
        if now >= self._taken_at + TICK_S or self._hurried or self._recorder.crowded:
            self._take(now)
        self._spool.tend()
        if self._keeping or (self._hurried and not self._online):
            self._keep()
        self._conclude()
        if self._sends:
            self._send(self._clock())
            self._conclude()
        return self._rest(self._clock())

    @property
    def _sends(self) -> bool:
        return self._online and self.stopped is None and not self._carrier.busy

    def _take(self, now: float, *, whatever: bool = False) -> None:
        self._taken_at = now
        if not (whatever or self._spool.has_room()):
            return
        for section in self._recorder.take():
            self._moved_out = section.number
            self._spool.reports_on(section.counters)
            split = list(batching.batches(section))
            for batch in split[:-1]:
                self._spool.append(freeze(batch))
            self._spool.append(freeze(split[-1], closes=self._moved_out))

    def _send(self, now: float) -> None:
        forerunner = self._forerunner()
        if now >= self._retry_at or self._retry_forced:
            if forerunner is not None and forerunner.unchecked:
                run = forerunner.dispatcher.outbox.stream.run
                self._carry(None, partial(self._transmitter.look, run, self._clock))
                return
            sent = (forerunner.dispatcher if forerunner is not None else self._dispatcher).next()
            if sent is not None and forerunner is None and self._unchecked and sent.parcel and sent.parcel.claims:
                self._carry(sent, partial(self._transmitter.look, sent.letter.run, self._clock))
                return
            if sent is not None:
                self._carry(sent, partial(self._transmitter.deliver, sent.letter, self._clock))
                return
        if now >= self._heard_at + HEARTBEAT_S and (self._retry_asked or self._waiting() is None):
            self._heard_at = now
            stream = self._spool.stream
            self._carry(None, partial(self._transmitter.heartbeat, stream.run, stream.producer))

    def _carry(self, sent: Sent | None, errand: Callable[[], Brought]) -> None:
        self._retry_forced = False
        self._under_way = sent
        self._carrier.carry(errand)

    def _conclude(self) -> None:
        brought = self._carrier.brought()
        sent, self._under_way = (self._under_way, None) if brought is not None else (None, self._under_way)
        match brought:
            case None | bool():
                return
            case Later():
                self._later(brought)
                return
        self._retry_at = 0.0
        self._retry_asked = False
        self._heard_at = self._clock()
        self._replies.answered()
        forerunner = self._forerunner()
        if forerunner is not None:
            if forerunner.conclude(sent, brought):
                self._drop_forerunner()
            return
        if isinstance(brought, Seen):
            self._check(sent, brought)
        elif sent is not None:
            self._settle(sent, brought)
        self._notify()

    def _check(self, sent: Sent | None, seen: Seen) -> None:
        """Before a claim that has waited is sent: it must not take from a job that went on meanwhile."""
        self._unchecked = False
        if seen.view is None or sent is None or sent.parcel is None:
            return
        newer = gone_on(seen.view, self._spool.stream, claimed(sent.parcel.body))
        if newer is not None:
            self._spool.stream.held = f"{newer}, while this job could not reach the server"
            self._hold()

    def _settle(self, sent: Sent, outcome: Outcome) -> None:
        lost = self._dispatcher.lost_batches
        self._dispatcher.settle(sent, outcome)
        if (end := final(sent, outcome)) is not None:
            self._stop_sending(end.problem)
            return
        match outcome:
            case Taken(receipt):
                self._replies.taken(sent, receipt)
            case Rejected(problem):
                self._replies.rejected(sent, problem)
            case Forgotten():
                self._replies.forgotten(self._dispatcher.lost_batches - lost)
        if sent.parcel is not None and not isinstance(outcome, Forgotten):
            self._delivered = sent.parcel.closes or self._delivered
        if self._spool.stream.held:
            self._hold()

    def _hold(self) -> None:
        self._spool.settle()
        self._stop_sending(Problem(title="", status=0, code="held", detail=self._spool.stream.held))

    def _later(self, outcome: Later) -> None:
        now = self._clock()
        hurry = self._hurried and not outcome.asked
        self._retry_at = min(outcome.at_s, now + HURRY_S) if hurry else outcome.at_s
        self._retry_asked = outcome.asked
        self._unchecked = True
        self._replies.later(outcome)
        self._notify()

    def _stop_sending(self, problem: Problem) -> None:
        self.stopped = problem
        if self._awaited and self._spool.stream.opening.resume == "must" and self.not_found() is not None:
            return  # who waits for it raises it: no training goes on
        self._replies.stopped(problem)

    def _rest(self, now: float) -> float:
        times = [self._taken_at + TICK_S]
        if self._sends:
            if self._waiting() is not None:
                times.append(self._retry_at)
            if self._waiting() is None or self._retry_asked:
                times.append(self._heard_at + HEARTBEAT_S)
        return max(0.0, min(times) - now)

    def _waiting(self) -> object | None:
        """Something that has to be sent."""
        return self._forerunner() or self._spool.head()

    def _notify(self) -> None:
        self.settled = True
        if self._changed.acquire(timeout=NOTIFY_TIMEOUT_S):  # a thread that has it may stand in a signal handler
            try:
                self._changed.notify_all()
            finally:
                self._changed.release()

    # ── what earlier processes left of the run ───────────────────────────────────────────────────────────────────

    def _forerunner(self) -> Forerunner | None:
        if self._forerunners is None:
            self._forerunners = deque(self._find_forerunners() if self._online else ())
        while self._forerunners and self._forerunners[0].finished():
            self._drop_forerunner()
        return self._forerunners[0] if self._forerunners else None

    def _drop_forerunner(self) -> None:
        if self._forerunners:
            self._notices.say(self._forerunners.popleft().close())

    # ── for the run, on its threads ──────────────────────────────────────────────────────────────────────────────

    @property
    def run_name(self) -> str:
        """The run's name, as far as it is settled."""
        return self._spool.stream.run

    def start(self, wait_s: float) -> None:
        """Start the thread, and wait (bounded) until the service has answered or is seen not to."""
        self._thread = threading.Thread(target=self._run, name="tallyboard-sender", daemon=True)
        self._awaited = True
        self._thread.start()
        self._wait(lambda: self.settled, wait_s)
        self._awaited = False

    def not_found(self) -> RunNotFoundError | None:
        """The error for `resume="must"` of a run that is not there."""
        if self.stopped is None or self.stopped.status != 404:
            return None
        return RunNotFoundError(self.stopped.detail or f"there is no run {self._spool.stream.asked}")

    def flush(self, sections: int, timeout_s: float) -> bool:
        """Wait until so many sections (Recorder.mark) are delivered; offline: until they are on this machine's disk.

        False if not in time, or not all were taken.
        """
        self._hurried = True
        rejected = self._replies.rejected_batches
        self._retry_forced = not self._retry_asked
        self._alarm.ring()
        try:
            self._wait(lambda: self._done(sections) or self.stopped is not None, timeout_s)
            return self._done(sections) and self._replies.rejected_batches == rejected
        finally:
            self._hurried = False

    def keep(self, sections: int, timeout_s: float) -> bool:
        """Wait until so many sections are delivered, or on this machine's disk. False if not in time."""
        if self._delivered >= sections:
            return True
        self._keeping = True
        self._alarm.ring()
        return self._wait(lambda: max(self._delivered, self._kept) >= sections, timeout_s)

    def _wait(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until it is done. False if not in time, of which a suspended machine or a stopped job loses none."""
        with self._changed:
            while not self._changed.wait_for(done, min(max(0.0, timeout_s), SLICE_S)):
                timeout_s -= SLICE_S
                if timeout_s <= 0:
                    return False
        return True

    def _done(self, sections: int) -> bool:
        return self._delivered >= sections or (not self._online and self._kept >= sections)

    def stop(self, timeout_s: float) -> None:
        """End the thread, which puts on disk what is unsent; or leave it behind if the disk hangs."""
        self._stopping = True
        self._alarm.ring()
        left_s = max(timeout_s, PUT_AWAY_S)
        if self._thread is threading.current_thread():
            return
        while self._thread is not None and self._thread.is_alive() and left_s > 0:
            self._thread.join(min(left_s, SLICE_S))
            left_s -= SLICE_S

    def discard(self) -> None:
        """End the thread, and keep nothing."""
        self._discarding = True
        self.stop(0.0)

    def abandon(self) -> None:
        """In a forked child: let go of the parent's files."""
        self._spool.abandon()
        for forerunner in self._forerunners or ():
            forerunner.abandon()

    def _run(self) -> None:
        while not self._stopping:
            try:
                wait_s = self.turn()
            except Exception:  # noqa: BLE001 - a dead sender would lose everything without a word
                self._notices.bug("sender")
                wait_s = HEARTBEAT_S
            if wait_s > 0:
                self._alarm.wait(wait_s)
        self._end()

    def _end(self) -> None:
        try:
            if self._discarding:
                self._spool.abandon()
            else:
                self._conclude()
                self._keep()
                self.lost_reports = self._spool.reports_in_memory
                if self._spool.head() is not None or not self._online:
                    self.kept = self._spool.path
        except Exception:  # noqa: BLE001 - as above
            self._notices.bug("sender's end")
        self._spool.close()
        for forerunner in self._forerunners or ():
            forerunner.close()
        self._carrier.end()
        self._transmitter.close()

    def _keep(self) -> None:
        """Have all that was recorded on disk, as far as it is not delivered."""
        self._keeping = False
        self._take(self._clock(), whatever=True)
        moved_out = self._moved_out
        if self._spool.put_away():
            self._kept = moved_out
        self._notify()

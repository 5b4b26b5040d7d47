"""The thread that drives collect → merge → spool → transmit, and what a run is told of it."""

import math
import re
import threading
import time
from collections.abc import Callable
from typing import Final

from tallyboard import merge
from tallyboard.alarm import Alarm
from tallyboard.errors import RunNotFoundError, contract_error
from tallyboard.notices import Notices
from tallyboard.recorder import Recorder
from tallyboard.remedies import away, remedy
from tallyboard.spool import Parcel, Spool
from tallyboard.stats import Tally
from tallyboard.transmit import Later, Outcome, Rejected, Stopped, Taken, Transmitter
from tallyboard.wire import CounterValue, Problem, Receipt

TICK_S: Final = 0.5
"""How long reports wait for company before they are sent."""
HEARTBEAT_S: Final = 30.0
OUTAGE_SAID_EVERY_S: Final = 600.0
HURRY_S: Final = 0.5
"""Longest wait between tries once somebody waits for the end (flush, finish)."""
_NUMBER: Final = re.compile(r"\d+")  # what tells one warning of a kind from the next


class Sender:
    """`turn` does one step of the work and says when to come back; `run` is a thread that does what it says."""

    def __init__(
        self,
        recorder: Recorder,
        spool: Spool,
        transmitter: Transmitter,
        notices: Notices,
        tally: Tally,
        *,
        url: str,
        adopt: bool,
        alarm: Alarm,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._spool = spool
        self._transmitter = transmitter
        self._notices = notices
        self._tally = tally
        self._url = url
        self._adopt = adopt
        self._alarm = alarm
        self._clock = clock
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._asked = transmitter.run
        self._taken_at = -TICK_S
        self._heard_at = clock()
        self._retry_at = 0.0
        self._retry_asked = False  # the service named the time
        self._retry_forced = False  # somebody waits: don't sit out a backoff
        self._failures = 0
        self._away = False
        self._away_said_at = -math.inf
        self._back_said_at = -math.inf
        self._delivered = 0
        self._lost_batches = 0
        self._moved_out = 0
        self._hurried = False
        self._stopping = False
        self.opened = False
        self.settled = False
        self.stopped: Problem | None = None

    # ── one step of the work ─────────────────────────────────────────────────────────────────────────────────────

    def turn(self) -> float:
        """Send at most one request. Returns how many seconds until there is something to do, if nobody wakes it."""
        now = self._clock()
        if self.stopped is not None:
            return HEARTBEAT_S
        if now >= self._taken_at + TICK_S or self._hurried or self._recorder.crowded:
            self._take(now)
        parcel = self._spool.head()
        if parcel is None:
            return self._idle(now)
        if now < self._retry_at and not self._retry_forced:
            return self._retry_at - now
        self._retry_forced = False
        self._conclude(parcel, self._transmitter.deliver(parcel.batch, self._clock))
        return 0.0 if self._spool.head() is None or now >= self._retry_at else self._retry_at - now

    def _take(self, now: float) -> None:
        if not self._spool.has_room():
            return
        self._taken_at = now
        for section in self._recorder.take():
            self._moved_out += 1
            split = list(merge.batches(section))
            for batch in split[:-1]:
                self._spool.append(Parcel(batch))
            self._spool.append(Parcel(split[-1], closes=self._moved_out))

    def _idle(self, now: float) -> float:
        due = self._heard_at + HEARTBEAT_S
        if now >= due:
            self._transmitter.heartbeat()
            self._heard_at = now
            due = now + HEARTBEAT_S
        return max(0.0, min(self._taken_at + TICK_S, due) - now)

    def _conclude(self, parcel: Parcel, outcome: Outcome) -> None:
        match outcome:
            case Taken(receipt):
                self._taken(parcel, receipt)
            case Later():
                self._later(outcome)
            case Rejected(problem):
                self._rejected(parcel, problem)
            case Stopped(problem):
                self._stop_sending(problem)

    def _taken(self, parcel: Parcel, receipt: Receipt) -> None:
        now = self._clock()
        self._heard_at = now
        self._retry_at = 0.0
        self._retry_asked = False
        if self._away and self._away_said_at > self._back_said_at:
            self._back_said_at = now
            self._notices.say(f"{self._url} answers again; what waited is being sent")
        self._failures = 0
        self._away = False
        if not self.opened:
            self._opened(parcel, receipt)
        self._tally.answered(parcel.batch, receipt)
        self._refusals(receipt)
        for warning in receipt.warnings:
            self._notices.warn_once(("receipt", _NUMBER.sub("#", warning)), warning)
        if receipt.not_rewound:
            self._not_rewound(receipt.not_rewound)
        self._done(parcel)

    def _opened(self, parcel: Parcel, receipt: Receipt) -> None:
        if receipt.run != self._asked:
            self._notices.say(f"run {self._asked} exists; this one is {receipt.run}")
        rewound = parcel.batch.rewind.next_steps if parcel.batch.rewind is not None else {}
        if self._adopt:
            self._recorder.adopt({n: v for n, v in receipt.counters.items() if n not in rewound})
        self.opened = True

    def _refusals(self, receipt: Receipt) -> None:
        for refusal in receipt.refused:
            self._recorder.fail(contract_error(refusal.reason, refusal.detail))
            if not self._tally.warned(refusal.counter, refusal.reason):
                self._notices.warn_once(
                    ("refused", refusal.counter, refusal.reason), f"the server refused a report: {refusal.detail}"
                )

    def _not_rewound(self, counters: dict[str, CounterValue]) -> None:
        stand = ", ".join(f"{name} (at {value.last_step})" for name, value in sorted(counters.items()))
        self._notices.warn(f"not rewound, and so where they were: {stand}")

    def _later(self, outcome: Later) -> None:
        now = self._clock()
        hurry = self._hurried and not outcome.asked
        self._retry_at = min(outcome.at_s, now + HURRY_S) if hurry else outcome.at_s
        self._retry_asked = outcome.asked
        self._failures += 1
        # A single failure of an open run is no news: idle connections are closed all the time.
        if (self._failures > 1 or not self.opened) and not self._away:
            self._away = True
            if now >= self._away_said_at + OUTAGE_SAID_EVERY_S:
                self._away_said_at = now
                self._notices.warn(away(self._url, outcome.why))
        self._notify()

    def _rejected(self, parcel: Parcel, problem: Problem) -> None:
        if parcel.batch.open is not None and not self.opened:
            self._stop_sending(problem)
            return
        lost = self._tally.rejected(parcel.batch)
        self._retry_at = 0.0
        self._notices.warn_once(
            ("rejected", problem.code, problem.field),
            f"the server does not take {lost} reports: {problem.detail or problem.title} ({problem.field or ''})",
        )
        self._lost_batches += 1
        self._done(parcel)

    def _stop_sending(self, problem: Problem) -> None:
        self.stopped = problem
        self._notices.warn(remedy(problem, self._url, self._transmitter.run))
        self._notify()

    def _done(self, parcel: Parcel) -> None:
        self._spool.pop()
        self._delivered = parcel.closes or self._delivered
        self._notify()

    def _notify(self) -> None:
        with self._changed:
            self.settled = True
            self._changed.notify_all()

    # ── for the run, on its threads ──────────────────────────────────────────────────────────────────────────────

    @property
    def run_name(self) -> str:
        """The run's name, as far as it is settled."""
        return self._transmitter.run

    def start(self, wait_s: float) -> None:
        """Start the thread, and wait (bounded) until the service has answered or is seen not to."""
        self._thread = threading.Thread(target=self._run, name="tallyboard-sender", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self.settled, wait_s)

    def not_found(self) -> RunNotFoundError | None:
        """The error for `resume="must"` of a run that is not there."""
        if self.stopped is None or self.stopped.status != 404:
            return None
        return RunNotFoundError(self.stopped.detail or f"there is no run {self._asked}")

    def flush(self, sections: int, timeout_s: float) -> bool:
        """Wait until so many sections (Recorder.mark) are delivered. False if not in time, or not all were taken."""
        self._hurried = True
        lost = self._lost_batches
        self._retry_forced = not self._retry_asked
        self._alarm.ring()
        try:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._delivered >= sections or self.stopped is not None, max(0.0, timeout_s)
                )
                return self._delivered >= sections and self._lost_batches == lost
        finally:
            self._hurried = False

    def stop(self, timeout_s: float) -> None:
        """End the thread, or leave it behind if it hangs in a request."""
        self._stopping = True
        self._alarm.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, timeout_s))

    def _run(self) -> None:
        while not self._stopping:
            try:
                wait_s = self.turn()
            except Exception:  # noqa: BLE001 - a dead sender would lose everything without a word
                self._notices.bug("sender")
                wait_s = HEARTBEAT_S
            if wait_s > 0:
                self._alarm.wait(wait_s)
        self._transmitter.close()

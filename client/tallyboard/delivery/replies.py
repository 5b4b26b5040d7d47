"""What the service's answers mean for the run: counts, counters taken over, and what its person is told."""

import math
import re
from collections.abc import Callable
from typing import Final

from tallyboard.collect.recorder import Recorder
from tallyboard.collect.stats import Tally
from tallyboard.delivery.dispatch import Sent
from tallyboard.delivery.transmit import Later
from tallyboard.errors import contract_error
from tallyboard.notices import Notices
from tallyboard.outbox.stream import Stream
from tallyboard.remedies import GOES_ON, away, foreign, mislabelled, misses, remedy
from tallyboard.wire import CounterValue, Problem, Receipt, names

OUTAGE_SAID_EVERY_S: Final = 600.0
_NUMBER: Final = re.compile(r"\d+")  # what tells one warning of a kind from the next


class Replies:
    """For the sender's thread. url: of the service. adopt: counters go on where the service says that they stand."""

    def __init__(
        self,
        recorder: Recorder,
        stream: Stream,
        notices: Notices,
        tally: Tally,
        *,
        url: str,
        adopt: bool,
        clock: Callable[[], float],
    ) -> None:
        self._recorder = recorder
        self._stream = stream
        self._notices = notices
        self._tally = tally
        self._url = url
        self._adopt = adopt
        self._clock = clock
        self._failures = 0
        self._away = False
        self._away_said_at = -math.inf
        self._back_said_at = -math.inf
        self._foreign_said: set[int] = set()
        self.rejected_batches = 0
        self.opened = False

    def answered(self) -> None:
        """The service is there."""
        if self._away and self._away_said_at > self._back_said_at:
            self._back_said_at = self._clock()
            self._notices.say(f"{self._url} answers again; what waited is being sent")
        self._failures = 0
        self._away = False

    def taken(self, sent: Sent, receipt: Receipt) -> None:
        """A batch of the run was taken. Sets `stream.held` if the rest must not be sent to this run."""
        if not self.opened:
            self._opened(receipt)
        if sent.parcel is not None:
            self._tally.answered(sent.parcel.reports, receipt)
        for refusal in receipt.refused:
            self._recorder.fail(contract_error(refusal.reason, refusal.detail))
            if not self._tally.warned(refusal.counter, refusal.reason):
                about = ("refused", names.gathered(refusal.counter), refusal.reason)
                self._notices.warn_once(about, f"the server refused a report: {refusal.detail}")
        for warning in receipt.warnings:
            self._notices.warn_once(("receipt", _NUMBER.sub("#", warning)), warning)
        if receipt.not_rewound:
            self._not_rewound(receipt.not_rewound)

    def later(self, outcome: Later) -> None:
        """The service is away or busy. A single failure of an open run is no news: idle connections get closed."""
        self._failures += 1
        if outcome.foreign is not None:
            self._foreign(outcome.foreign)
        elif (self._failures > 1 or not self.opened) and not self._away:
            self._away = True
            if self._clock() >= self._away_said_at + OUTAGE_SAID_EVERY_S:
                self._away_said_at = self._clock()
                self._notices.warn(away(self._url, outcome.why))

    def _foreign(self, problem: Problem) -> None:
        self._away = True
        if problem.status not in self._foreign_said:
            self._foreign_said.add(problem.status)
            self._away_said_at = self._clock()
            self._notices.warn(f"{foreign(self._url, problem)}. {GOES_ON}")

    def rejected(self, sent: Sent, problem: Problem) -> None:
        """The service takes nothing of a batch."""
        lost = 0 if sent.parcel is None else sent.parcel.reports
        self._tally.rejected(lost)
        self.rejected_batches += 1
        self._notices.warn_once(
            ("rejected", problem.code, problem.field),
            f"the server does not take {lost} reports: {problem.detail or problem.title} ({problem.field or ''})",
        )

    def forgotten(self, lost_batches: int) -> None:
        """The service lost batches that it had acknowledged; a new producer goes on."""
        self._notices.warn(misses(self._url, self._stream.run, lost_batches))

    def stopped(self, problem: Problem) -> None:
        """Nothing more is sent."""
        self._notices.warn(remedy(problem, self._url, self._stream.run))

    def _opened(self, receipt: Receipt) -> None:
        self.opened = True
        if receipt.run != self._stream.asked:
            self._notices.say(f"run {self._stream.asked} exists; this one is {receipt.run}")
        if not self._adopt:
            return
        wrong = self._recorder.adopt(receipt.counters)
        if wrong:
            self._stream.held = mislabelled(receipt.run, wrong)

    def _not_rewound(self, counters: dict[str, CounterValue]) -> None:
        others = sorted((name, value.last_step) for name, value in counters.items() if name != names.SYSTEM_COUNTER)
        if others:
            stand = ", ".join(f"{name} (at {last_step})" for name, last_step in others)
            self._notices.warn(f"not rewound, and so where they were: {stand}")

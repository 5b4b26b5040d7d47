"""Dispatch: the oldest batch of an outbox becomes a letter, and what is answered is settled in the outbox."""

from collections.abc import Callable
from dataclasses import dataclass

from tallyboard.delivery.transmit import Forgotten, Letter, Outcome, Rejected, Stopped, Taken
from tallyboard.outbox import claims
from tallyboard.outbox.parcel import Parcel, freeze, numbered
from tallyboard.outbox.spool import Outbox
from tallyboard.wire import Batch, Open


@dataclass(slots=True, frozen=True)
class Sent:
    """A letter, and the batch in it; None if it is one that a new producer begins with."""

    letter: Letter
    parcel: Parcel | None


class Dispatcher:
    """Law: a batch leaves the outbox only once it is known to be taken, or that it never can be."""

    def __init__(self, outbox: Outbox, make_id: Callable[[], str]) -> None:
        self.outbox = outbox
        self._make_id = make_id
        self.lost_batches = 0
        """Batches that the service had acknowledged and no longer has."""

    def next(self) -> Sent | None:
        """What has to be sent now; the same again until it is settled. None if nothing waits."""
        stream = self.outbox.stream
        if stream.reopening is not None:
            if self.outbox.head() is None:
                return None  # nobody needs it yet
            body = numbered(freeze(Batch(partial=True, open=stream.reopening)).body, stream.producer, 1)
            return Sent(Letter(stream.run, stream.producer, 1, body), None)
        parcel = self.outbox.head()
        if parcel is None:
            return None
        seq = self.outbox.progress.seq + 1
        return Sent(Letter(stream.run, stream.producer, seq, numbered(parcel.body, stream.producer, seq)), parcel)

    def settle(self, sent: Sent, outcome: Outcome) -> None:
        """Take note of what became of it."""
        match outcome:
            case Taken(receipt):
                if receipt.run != self.outbox.stream.run:
                    self.outbox.stream.run = receipt.run
                    self.outbox.settle()
                if sent.parcel is None:
                    self._reopened()
                else:
                    self.outbox.taken(sent.parcel, receipt)
            case Rejected() if sent.parcel is not None and final(sent, outcome) is None:
                self.outbox.passed(sent.parcel)
            case Forgotten():
                self._begin_again(outcome)

    def start_over(self, opening: Open) -> None:
        """Go on under a new producer, that begins with `opening`."""
        outbox = self.outbox
        outbox.stream.reopening = opening
        outbox.stream.producer = self._make_id()
        outbox.progress = outbox.progress.renumbered(0)
        outbox.restart()

    def _begin_again(self, forgotten: Forgotten) -> None:
        expected = forgotten.problem.expected_seq or 1
        self.lost_batches += max(0, self.outbox.progress.seq - expected + 1)
        self.start_over(claims.reopening(self.outbox.stream, forgotten.view))

    def _reopened(self) -> None:
        self.outbox.progress = self.outbox.progress.renumbered(1)
        self.outbox.stream.reopening = None
        self.outbox.settle()


def final(sent: Sent, outcome: Outcome) -> Stopped | None:
    """Why nothing more can be sent, if that is what the outcome means."""
    match outcome:
        case Stopped():
            return outcome
        case Rejected(problem) if sent.parcel is None or sent.parcel.opens:
            return Stopped(problem)  # without its beginning, the rest makes no sense
    return None

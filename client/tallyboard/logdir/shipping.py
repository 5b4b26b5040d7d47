"""Batches of a run on their way to the service: numbered, repeated until answered, mended where it refuses parts."""

import random
import re
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from tallyboard.logdir.mends import Mends
from tallyboard.transmit import Forgotten, Later, Letter, Outcome, Rejected, Stopped, Taken, Transmitter
from tallyboard.transport import HttpTransport, UnreachableError, problem_of
from tallyboard.wire import Batch, Columns, CounterValue, Problem, Receipt, encode_batch
from tallyboard.wire.limits import MIB

VIEW_BYTES_MAX: Final = 64 * MIB
"""Largest answer about a run: 100,000 tags."""
DROPS_MAX: Final = 20
"""Values that the service can't take are left out one by one up to here, then all of the batch that are no scalars."""
_T = TypeVar("_T")
_EVENT: Final = re.compile(r"\$\.events\[(\d+)\](?:\.values\[(\d+)\])?")


class AwayError(Exception):
    """The service does not take anything at the moment; everything may be tried again later."""


class RunStoppedError(Exception):
    """Nothing more can be sent to a run until a person does something; the message says what."""


class ForgottenError(Exception):
    """The service misses batches that it had acknowledged (it was restored): look again what it has."""


class RunView(msgspec.Struct):
    """A run as GET /runs shows it, as far as it matters here."""

    status: str = "running"
    provenance: dict[str, Any] = {}
    counters: dict[str, CounterValue] = {}
    tag_counters: dict[str, CounterValue] = {}
    kinds: dict[str, str] = {}
    deleted: bool = False


class Clock(Protocol):
    """Seconds that only grow, and a wait (False: it was cut short, stop)."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> bool: ...


class SystemClock:
    """The machine's own."""

    def now(self) -> float:
        """Seconds since some point in the past."""
        return time.monotonic()

    def wait(self, seconds: float) -> bool:
        """Sleep."""
        time.sleep(seconds)
        return True


class Service:
    """One service, asked and told with patience.

    patience_s: how long it may be away until AwayError is raised. One request at a time.
    """

    def __init__(self, transport: HttpTransport, *, patience_s: float, clock: Clock | None = None) -> None:
        self._transport = transport
        self._transmitter = Transmitter(transport, random.Random())
        self._patience_s = patience_s
        self._clock = clock or SystemClock()

    def close(self) -> None:
        """Let go of the connection."""
        self._transport.close()

    def look(self, run: str) -> RunView | None:
        """The run as the service has it; None: there is none. Raises AwayError, RunStoppedError."""
        return self._patiently(lambda: self._looked(run))

    def deliver(self, letter: Letter) -> Outcome:
        """Send a letter until it is answered, one way or another. Raises AwayError."""

        def once() -> Outcome:
            outcome = self._transmitter.deliver(letter, self._clock.now)
            if isinstance(outcome, Later):
                raise AwayError(outcome.why)
            return outcome

        return self._patiently(once)

    def _patiently(self, work: Callable[[], _T]) -> _T:
        begun, pause_s = self._clock.now(), 0.25
        while True:
            try:
                return work()
            except AwayError:
                if self._clock.now() + pause_s - begun > self._patience_s or not self._clock.wait(pause_s):
                    raise
            pause_s = min(2 * pause_s, 10.0)

    def _looked(self, run: str) -> RunView | None:
        try:
            answer = self._transport.get(f"/api/v1/runs/{quote(run)}", bytes_max=VIEW_BYTES_MAX)
        except UnreachableError as error:
            raise AwayError(str(error)) from error
        if answer.status == 404:
            return None
        if answer.status == 410:
            return RunView(deleted=True)
        if answer.status in (408, 425, 429) or answer.status >= 500:
            raise AwayError(problem_of(answer).detail or f"status {answer.status}")
        if answer.status != 200:
            raise RunStoppedError(problem_of(answer).detail or f"status {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=RunView)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RunStoppedError("the answer is none of a Tallyboard") from error


@dataclass(slots=True)
class Shipped:
    """What became of the batches of a run."""

    batches: int = 0
    points: int = 0
    """Stored, or there already."""


class Stream:
    """The numbered batches of one run, from this process. Batches wait in `unsent` until they are answered."""

    def __init__(self, run: str, service: Service, mends: Mends) -> None:
        self.run = run
        self.producer = f"logdir-{uuid.uuid4().hex}"
        self.shipped = Shipped()
        self.unsent: list[Batch] = []
        self._seq = 0
        self._service = service
        self._mends = mends

    @property
    def begun(self) -> bool:
        """Whether a batch was numbered already."""
        return self._seq > 0 or bool(self.unsent)

    def add(self, batch: Batch) -> None:
        """Have a batch sent by the next `send`."""
        self.unsent.append(batch)

    def send(self) -> None:
        """Send what waits. Raises AwayError (it goes on waiting), RunStoppedError, ForgottenError."""
        while self.unsent:
            receipt = self._sent(self.unsent[0])
            self._seq += 1
            self.unsent.pop(0)
            self._account(receipt)

    def _sent(self, batch: Batch) -> Receipt:
        """The receipt for a batch; what the service can't take of it is left out, and told."""
        numbered = replace(batch, producer=self.producer, seq=self._seq + 1)
        drops = 0
        while True:
            letter = Letter(self.run, self.producer, self._seq + 1, encode_batch(numbered))
            outcome = self._service.deliver(letter)
            match outcome:
                case Taken(receipt):
                    return receipt
                case Forgotten():
                    raise ForgottenError(f"{self.run}: the service misses batches that it had acknowledged")
                case Stopped(problem):
                    raise RunStoppedError(_said(problem))
                case Rejected(problem):
                    numbered = self._mended(numbered, problem, drops)
                    drops += 1
            self.unsent[0] = numbered

    def _mended(self, batch: Batch, problem: Problem, drops: int) -> Batch:
        """The batch as it may be taken after this answer. Raises RunStoppedError if there is no such."""
        if problem.code == "reports_refused" and not batch.partial:
            if any(refusal.reason == "counter_taken" for refusal in problem.refused):
                raise RunStoppedError(
                    f"somebody else reports to this run now ({_said(problem)}); to go on from here, start again"
                )
            return replace(batch, partial=True)
        found = _EVENT.match(problem.field or "")
        blobs = [columns for columns in batch.columns if columns.blobs]
        if found is None or int(found[1]) >= len(blobs):
            raise RunStoppedError(_said(problem))
        culprit = blobs[int(found[1])]
        rows = list(range(len(culprit)))
        left = [] if found[2] is None else [row for row in rows if row != int(found[2])]
        kept = [columns for columns in batch.columns if columns is not culprit]
        if drops >= DROPS_MAX:
            kept, left = [columns for columns in batch.columns if not columns.blobs], []
        elif left:
            kept.append(_taken(culprit, left))
        lost = sum(map(len, batch.columns)) - sum(map(len, kept))
        self._mends.add("left_out", lost, f"tag {culprit.tags[0]!r}: {problem.detail}")
        return replace(batch, columns=tuple(kept))

    def _account(self, receipt: Receipt) -> None:
        self.shipped.batches += 1
        self.shipped.points += receipt.stored + receipt.repeated
        self._mends.add("repeated", receipt.repeated)
        self._mends.add("refused", receipt.refused_count - len(receipt.refused))
        for refusal in receipt.refused:
            self._mends.add("refused", 1, f"{refusal.reason}: {refusal.detail}")
        for warning in receipt.warnings:
            self._mends.add("warned", 1, warning)


def _taken(columns: Columns, rows: Sequence[int]) -> Columns:
    """Some rows of blobs."""
    return replace(
        columns,
        steps=columns.steps[rows],
        wall_times=columns.wall_times[rows],
        values=columns.values[rows],
        blobs=tuple(columns.blobs[row] for row in rows),
    )


def _said(problem: Problem) -> str:
    return problem.detail or problem.title or f"status {problem.status}"

"""Batches of a run on their way to the service: numbered, repeated until answered, mended where it refuses parts."""

import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from tallyboard.delivery.transmit import Forgotten, Later, Letter, Outcome, Rejected, Stopped, Taken, Transmitter
from tallyboard.delivery.transport import HttpTransport, UnreachableError, problem_of
from tallyboard.logdir.mends import Mends
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
    """The numbered batches of one run, from this process. Batches wait in `unsent` until they are answered.

    One is on its way at a time, on a thread of its own, so that the next can be read meanwhile.
    """

    def __init__(self, run: str, service: Service, mends: Mends) -> None:
        self.run = run
        self.producer = f"logdir-{uuid.uuid4().hex}"
        self.shipped = Shipped()
        self.unsent: list[Batch] = []
        self._seq = 0
        self._service = service
        self._mends = mends
        self._delivery: _Delivery | None = None

    @property
    def begun(self) -> bool:
        """Whether a batch was numbered already."""
        return self._seq > 0 or bool(self.unsent)

    def add(self, batch: Batch) -> None:
        """Have a batch sent by the next `send`."""
        self.unsent.append(batch)

    def send(self, *, all_of_it: bool = True) -> None:
        """Send what waits; if not all of it, the last one may still be on its way afterwards.

        Raises AwayError (it goes on waiting), RunStoppedError, ForgottenError.
        """
        while self.unsent:
            if self._delivery is None:
                numbered = replace(self.unsent[0], producer=self.producer, seq=self._seq + 1)
                self._delivery = _Delivery(self._service, self.run, numbered)
            if len(self.unsent) == 1 and not all_of_it:
                return
            delivery, self._delivery = self._delivery, None
            receipt = delivery.receipt()
            self._seq += 1
            self.unsent.pop(0)
            self._account(receipt, delivery)

    def _account(self, receipt: Receipt, delivery: "_Delivery") -> None:
        self.shipped.batches += 1
        self.shipped.points += receipt.stored + receipt.repeated
        for lost, why in delivery.left_out:
            self._mends.add("left_out", lost, why)
        self._mends.add("repeated", receipt.repeated)
        self._mends.add("refused", receipt.refused_count - len(receipt.refused))
        for refusal in receipt.refused:
            self._mends.add("refused", 1, f"{refusal.reason}: {refusal.detail}")
        for warning in receipt.warnings:
            self._mends.add("warned", 1, warning)


class _Delivery:
    """One batch on its way, until it is answered; what the service can't take of it is left out.

    left_out: how many points each time, and why; for whoever has asked for the receipt.
    """

    def __init__(self, service: Service, run: str, batch: Batch) -> None:
        self.left_out: list[tuple[int, str]] = []
        self._service = service
        self._run = run
        self._receipt: Receipt | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, args=(batch,), name="logdir-delivery", daemon=True)
        self._thread.start()

    def receipt(self) -> Receipt:
        """Wait for the answer, which is bounded by the service's patience. Raises as Stream.send does."""
        self._thread.join()
        if self._receipt is None:
            raise self._error or RuntimeError("a delivery ended without an answer")
        return self._receipt

    def _work(self, batch: Batch) -> None:
        try:
            self._receipt = self._sent(batch)
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the answer
            self._error = error

    def _sent(self, batch: Batch) -> Receipt:
        drops = 0
        while True:
            letter = Letter(self._run, batch.producer or "", batch.seq or 0, encode_batch(batch))
            match self._service.deliver(letter):
                case Taken(receipt):
                    return receipt
                case Forgotten():
                    raise ForgottenError(f"{self._run}: the service misses batches that it had acknowledged")
                case Stopped(problem):
                    raise RunStoppedError(_said(problem))
                case Rejected(problem):
                    batch = self._mended(batch, problem, drops)
                    drops += 1

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
        self.left_out.append((lost, f"tag {culprit.tags[0]!r}: {problem.detail}"))
        return replace(batch, columns=tuple(kept))


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

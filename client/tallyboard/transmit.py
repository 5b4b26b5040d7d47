"""Transmit: one frozen batch in flight, sent again with backoff until the service has taken it.

Pure of threads and clocks: the sender says what time it is and is told when to come back.
"""

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

import msgspec

from tallyboard.transport import Answer, Meaning, Transport, UnreachableError, meaning, problem_of
from tallyboard.wire import MSGPACK, Batch, Problem, Receipt, encode_batch

BACKOFF_S_MIN: Final = 0.25
BACKOFF_S_MAX: Final = 30.0


@dataclass(slots=True, frozen=True)
class Taken:
    """The service applied the batch."""

    receipt: Receipt


@dataclass(slots=True, frozen=True)
class Later:
    """Not now. at_s: when to try again (the sender's clock). asked: the service said so, else it is our backoff."""

    at_s: float
    why: str
    asked: bool = False


@dataclass(slots=True, frozen=True)
class Rejected:
    """The service takes this batch never; the next one may go."""

    problem: Problem


@dataclass(slots=True, frozen=True)
class Stopped:
    """The service takes nothing more from this run."""

    problem: Problem


Outcome = Taken | Later | Rejected | Stopped


class Transmitter:
    """Numbers batches and sends them to one run. `run` is the name that the service settled on."""

    def __init__(self, transport: Transport, producer: str, run: str, rng: random.Random) -> None:
        self._transport = transport
        self._producer = producer
        self._rng = rng
        self._seq = 0
        self._body: bytes | None = None
        self._failures = 0
        self.run = run

    def deliver(self, batch: Batch, now: Callable[[], float]) -> Outcome:
        """Send a batch once. It is frozen now: until it is taken or rejected, the same batch has to be given."""
        if self._body is None:
            self._body = encode_batch(dataclasses.replace(batch, producer=self._producer, seq=self._seq + 1))
        try:
            answer = self._transport.post(f"/api/v1/scalars/{quote(self.run)}", self._body, MSGPACK)
        except UnreachableError as error:
            return self._later(now(), f"no answer: {error}", None)
        return self._judge(answer, now)

    def heartbeat(self) -> bool:
        """Tell the service that the run is alive. Returns whether it heard."""
        body = msgspec.json.encode({"producer": self._producer})
        try:
            answer = self._transport.post(f"/api/v1/heartbeat/{quote(self.run)}", body, "application/json")
        except UnreachableError:
            return False
        return 200 <= answer.status < 300

    def close(self) -> None:
        """Let go of the connection."""
        self._transport.close()

    def _judge(self, answer: Answer, now: Callable[[], float]) -> Outcome:
        problem = problem_of(answer) if answer.status >= 300 else _NO_PROBLEM
        match meaning(answer, problem):
            case Meaning.LATER:
                why = problem.detail or f"status {answer.status}"
                return self._later(now(), why, answer.retry_after_s)
            case Meaning.BAD_BATCH:
                self._body = None
                self._failures = 0
                return Rejected(problem)
            case Meaning.STOP:
                return Stopped(problem)
        try:
            receipt = msgspec.json.decode(answer.body, type=Receipt)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Stopped(
                Problem(title="", status=answer.status, code="", detail="the answer is no receipt of a Tallyboard")
            )
        self._seq += 1
        self._body = None
        self._failures = 0
        self.run = receipt.run
        return Taken(receipt)

    def _later(self, now_s: float, why: str, retry_after_s: float | None) -> Later:
        """Doubling from 0.25 s to 30 s, each shortened by up to a half by chance, so that jobs don't come in step."""
        backoff_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(self._failures, 16))
        self._failures += 1
        wait_s = max(backoff_s * self._rng.uniform(0.5, 1.0), retry_after_s or 0.0)
        return Later(now_s + wait_s, why, asked=retry_after_s is not None)


_NO_PROBLEM: Final = Problem(title="", status=200, code="", detail="")

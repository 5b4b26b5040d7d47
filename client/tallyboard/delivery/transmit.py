"""Transmit: one numbered batch to the service, and what its answer means.

Pure of threads and clocks: the sender says what time it is and is told when to come back.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from tallyboard.delivery.transport import Answer, Meaning, Transport, UnreachableError, is_busy, meaning, problem_of
from tallyboard.outbox.claims import RunBrief
from tallyboard.wire import JSON, MSGPACK, Problem, Receipt

BACKOFF_S_MIN: Final = 0.25
BACKOFF_S_MAX: Final = 30.0

_T = TypeVar("_T")


@dataclass(slots=True, frozen=True)
class Letter:
    """A batch with its address and number: bytes that are the same however often it goes out."""

    run: str
    producer: str
    seq: int
    body: bytes


@dataclass(slots=True, frozen=True)
class Taken:
    """The service applied the batch."""

    receipt: Receipt


@dataclass(slots=True, frozen=True)
class Later:
    """Not now. at_s: when to try again (the sender's clock). asked: the service said so, else it is our backoff.

    foreign: what came instead of a Tallyboard's answer, if it was neither that nor a sign of a service that is busy.
    """

    at_s: float
    why: str
    asked: bool = False
    foreign: Problem | None = None


@dataclass(slots=True, frozen=True)
class Rejected:
    """The service takes this batch never; the next one may go."""

    problem: Problem


@dataclass(slots=True, frozen=True)
class Stopped:
    """The service takes nothing more from this run."""

    problem: Problem


@dataclass(slots=True, frozen=True)
class Forgotten:
    """The service misses batches that it had acknowledged. view: the run as it now has it; None: not at all."""

    problem: Problem
    view: RunBrief | None


@dataclass(slots=True, frozen=True)
class Seen:
    """What the service has of a run; None: nothing."""

    view: RunBrief | None


Outcome = Taken | Later | Rejected | Stopped | Forgotten


class Transmitter:
    """Sends letters, one at a time."""

    def __init__(self, transport: Transport, rng: random.Random) -> None:
        self._transport = transport
        self._rng = rng
        self._failures = 0

    def deliver(self, letter: Letter, now: Callable[[], float]) -> Outcome:
        """Send it once."""
        try:
            answer = self._transport.post(_path("scalars", letter.run), letter.body, MSGPACK)
            problem = problem_of(answer) if answer.status >= 300 else _NO_PROBLEM
            if problem.code == "seq_gap" and letter.seq > 1:
                return self._forgotten(letter.run, problem, now)
        except UnreachableError as error:
            return self._later(now(), f"no answer: {error}", None)
        return self._judge(answer, problem, now)

    def look(self, run: str, now: Callable[[], float]) -> Seen | Later | Stopped:
        """The run as the service has it."""
        try:
            answer = self._transport.get(_path("runs", run))
        except UnreachableError as error:
            return self._later(now(), f"no answer: {error}", None)
        problem = problem_of(answer) if answer.status >= 300 else _NO_PROBLEM
        if problem.code == "run_not_found":
            return Seen(None)
        match meaning(answer, problem):
            case Meaning.TAKEN:
                brief = _decoded(answer, RunBrief)
                return Seen(brief) if brief is not None else self._not_now(answer, problem_of(answer), now)
            case Meaning.LATER:
                return self._not_now(answer, problem, now)
        return Stopped(problem)

    def heartbeat(self, run: str, producer: str) -> bool:
        """Tell the service that the run is alive. Returns whether it heard."""
        body = msgspec.json.encode({"producer": producer})
        try:
            answer = self._transport.post(_path("heartbeat", run), body, JSON)
        except UnreachableError:
            return False
        return 200 <= answer.status < 300

    def close(self) -> None:
        """Let go of the connection."""
        self._transport.close()

    def _judge(self, answer: Answer, problem: Problem, now: Callable[[], float]) -> Outcome:
        match meaning(answer, problem):
            case Meaning.LATER:
                return self._not_now(answer, problem, now)
            case Meaning.BAD_BATCH:
                self._failures = 0
                return Rejected(problem)
            case Meaning.STOP:
                return Stopped(problem)
        receipt = _decoded(answer, Receipt)
        if receipt is None:
            return self._not_now(answer, problem_of(answer), now)
        self._failures = 0
        return Taken(receipt)

    def _forgotten(self, run: str, problem: Problem, now: Callable[[], float]) -> Outcome:
        found = self.look(run, now)
        return Forgotten(problem, found.view) if isinstance(found, Seen) else found

    def _not_now(self, answer: Answer, problem: Problem, now: Callable[[], float]) -> Later:
        why = (problem.code and problem.detail) or f"status {answer.status}: {problem.detail or problem.title}"
        foreign = problem if not problem.code and not is_busy(answer.status) else None
        return self._later(now(), why, answer.retry_after_s, foreign)

    def _later(self, now_s: float, why: str, retry_after_s: float | None, foreign: Problem | None = None) -> Later:
        """Doubling from 0.25 s to 30 s, each shortened by up to a half by chance, so that jobs don't come in step."""
        backoff_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(self._failures, 16))
        self._failures += 1
        wait_s = max(backoff_s * self._rng.uniform(0.5, 1.0), retry_after_s or 0.0)
        return Later(now_s + wait_s, why, asked=retry_after_s is not None, foreign=foreign)


def _decoded(answer: Answer, kind: type[_T]) -> _T | None:
    """What a Tallyboard's answer says; None if it is none."""
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _path(kind: str, run: str) -> str:
    return f"/api/v1/{kind}/{quote(run)}"


_NO_PROBLEM: Final = Problem(title="", status=200, code="", detail="")

"""What tests of the client inject in place of clock, network and server."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from tallyboard.collect.recorder import Recorder
from tallyboard.collect.routing import Router
from tallyboard.collect.sections import BUFFER_BYTES_MAX, Sections
from tallyboard.collect.stats import Tally
from tallyboard.delivery.alarm import Alarm
from tallyboard.delivery.dispatch import Dispatcher
from tallyboard.delivery.forerunners import Forerunner
from tallyboard.delivery.replies import Replies
from tallyboard.delivery.sender import Brought, Sender
from tallyboard.delivery.transmit import Transmitter
from tallyboard.delivery.transport import Answer, UnreachableError
from tallyboard.notices import Notices
from tallyboard.outbox.spool import Place, Spool
from tallyboard.outbox.stream import Stream
from tallyboard.run import Run
from tallyboard.wire import MSGPACK, Batch, Open, Problem, Receipt, Resume, decode_batch


class Clock:
    """Stands still until told otherwise."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class Ears(Notices):
    """Notices that are kept instead of logged."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def say(self, message: str) -> None:
        self.heard.append(message)

    def warn(self, message: str) -> None:
        self.heard.append(message)

    def warn_once(self, key: tuple[object, ...], message: str) -> None:
        if self._first(key):
            self.heard.append(message)

    def bug(self, where: str) -> None:
        raise  # it is called while the error is handled, and a test has to see that


@dataclass
class Recorded:
    """A recorder and all that it was given."""

    recorder: Recorder
    clock: Clock
    ears: Ears
    tally: Tally
    woken: list[bool] = field(default_factory=list)

    @property
    def run(self) -> Run:
        """A run without a sender on this recorder."""
        return Run(self.recorder, None, self.ears, self.tally, name="digits/try1", server_url="", exit_timeout_s=1.0)

    @property
    def log(self) -> Callable[..., None]:
        """Run.log, so that the test's own line is the caller's."""
        return self.run.log

    def rows(self) -> list[tuple[str, int, dict[str, float], dict[str, int]]]:
        """What was recorded since, as (counter, step, scalars, at); of each section, what travels apart comes last."""
        found = []
        for section in self.recorder.take():
            for packed in (*section.rows, *section.apart):
                c = packed.columns()
                for i in range(len(c)):
                    scalars = dict(zip(c.tags, c.values[i].tolist(), strict=True))
                    at = {name: int(column[i]) for name, column in c.at.items()}
                    found.append((c.counter, int(c.steps[i]), scalars, at))
        return found


def recorded(
    *,
    strict: bool = False,
    counters: dict[str, str] | None = None,
    buffer_bytes_max: int = BUFFER_BYTES_MAX,
    resumed: bool = False,
) -> Recorded:
    """A recorder on a clock that stands still."""
    clock, ears, tally, woken = Clock(), Ears(), Tally(), list[bool]()
    recorder = Recorder(
        Sections(tally, lambda: woken.append(True), buffer_bytes_max),
        router=Router(counters), strict=strict, clock=clock, notices=ears, tally=tally, resumed=resumed,
    )  # fmt: skip
    return Recorded(recorder, clock, ears, tally, woken)


Scripted = Answer | UnreachableError | Callable[[Batch], Answer]


class ScriptedTransport:
    """Answers from a script; after its end takes every batch. Each body is decoded as the service would."""

    def __init__(self, *script: Scripted) -> None:
        self.script = deque(script)
        self.sent: list[tuple[str, bytes]] = []
        self.batches: list[Batch] = []
        self.heartbeats = 0
        self.closed = False
        self.view: dict[str, Any] | None = None
        self.looked: list[str] = []

    def post(self, path: str, body: bytes, content_type: str) -> Answer:
        if path.startswith("/api/v1/heartbeat/"):
            self.heartbeats += 1
            return Answer(204, b"")
        assert content_type == MSGPACK
        self.sent.append((path, body))
        batch = decode_batch(body, content_type, now=0.0)
        answer = self.script.popleft() if self.script else taken()(batch)
        if isinstance(answer, UnreachableError):
            raise answer
        if not isinstance(answer, Answer):
            answer = answer(batch)
        if answer.status < 300:
            self.batches.append(batch)
        return answer

    def get(self, path: str) -> Answer:
        self.looked.append(path)
        if self.view is None:
            return problem(404, "run_not_found", "there is no such run")
        return Answer(200, msgspec.json.encode(self.view))

    def close(self) -> None:
        self.closed = True


def taken(run: str = "digits/try1", **fields: Any) -> Callable[[Batch], Answer]:
    """The receipt of a service that takes everything."""

    def answer(batch: Batch) -> Answer:
        rows = sum(map(len, batch.columns))
        scalars = sum(c.values.size for c in batch.columns)
        receipt = Receipt(**{"run": run, "accepted": rows, "stored": scalars, **fields})
        return Answer(200, msgspec.json.encode(receipt))

    return answer


def problem(
    status: int, code: str = "some_code", detail: str = "", *, retry_after_s: float | None = None, **fields: Any
) -> Answer:
    """An application/problem+json answer."""
    body = msgspec.json.encode(Problem(title="", status=status, code=code, detail=detail, **fields))
    return Answer(status, body, retry_after_s)


class Inline:
    """A Carrier that does each errand at once."""

    def __init__(self) -> None:
        self.results: deque[Brought] = deque()

    @property
    def busy(self) -> bool:
        return bool(self.results)

    def carry(self, errand: Callable[[], Brought]) -> None:
        assert not self.busy
        self.results.append(errand())

    def brought(self) -> Brought | None:
        return self.results.popleft() if self.results else None

    def end(self) -> None:
        self.results.clear()


@dataclass
class Sending:
    """A sender that moves only when told to, and all that it was given."""

    sender: Sender
    recorded: Recorded
    transport: ScriptedTransport
    spool: Spool
    clock: Clock

    def drain(self, turns_max: int = 200) -> None:
        """Turn, letting time pass as asked, until all that was logged is delivered; fails after too many turns."""
        sections = self.recorded.recorder.mark()
        for _ in range(turns_max):
            if self.sender.stopped or self.sender._delivered >= sections:
                return
            self.clock.advance(self.sender.turn())
        raise AssertionError(f"still busy after {turns_max} turns")

    def turns(self, seconds: float) -> None:
        """Turn until so much time has passed."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.advance(max(self.sender.turn(), 0.01))


def sending(
    *script: Scripted,
    resumed: bool = False,
    strict: bool = False,
    place: Place | None = None,
    stream: Stream | None = None,
    online: bool = True,
    forerunners: Callable[[], list[Forerunner]] = list,
) -> Sending:
    """A sender for run digits/try1, without threads, with chance replaced by its upper end."""
    mine = recorded(strict=strict, resumed=resumed)
    transport, clock = ScriptedTransport(*script), Clock()
    stream = stream or a_stream(resume="continue" if resumed else "new")
    spool = Spool(stream, place or Place(), mine.ears, clock)
    replies = Replies(
        mine.recorder, stream, mine.ears, mine.tally, url="http://tally", adopt=resumed, clock=clock
    )  # fmt: skip
    ids = (f"p{n}" for n in count(2))
    sender = Sender(
        mine.recorder, spool, Dispatcher(spool, lambda: next(ids)), Transmitter(transport, Certain()), Inline(),
        replies, mine.ears, forerunners=forerunners, online=online, alarm=Alarm(), clock=clock,
    )  # fmt: skip
    return Sending(sender, mine, transport, spool, clock)


def a_stream(uid: str = "u1", *, run: str = "digits/try1", resume: Resume = "new", began_at: float = 1000.0) -> Stream:
    """A stream whose producer is p1."""
    opening = Open(uid=uid, resume=resume, take_over=None if resume == "new" else ())
    return Stream(uid=uid, asked=run, run=run, opening=opening, began_at=began_at, producer="p1", host="gpu7", pid=42)


class Certain(random.Random):
    """Draws the upper end always."""

    def uniform(self, a: float, b: float) -> float:
        return b

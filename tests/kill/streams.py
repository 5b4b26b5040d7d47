"""Numbered producers that report over HTTP without pause, and remember exactly what was acknowledged to them."""

import random
import threading
from dataclasses import dataclass, field

import msgspec
import numpy as np
import urllib3

from tallyboard.wire import MSGPACK, Batch, Columns, Open, Receipt, Rewind, decode_batch, encode_batch
from tallyboard_server.contract import Outcome, apply, new_run
from tallyboard_server.model import Block, RunState

_PAUSE_S = 0.02
_TRIES_MAX = 3_000
"""A minute of a server that is away."""
TAGS = ("loss", "acc", "lr")


@dataclass
class Stream:
    """One producer of one run. `acknowledged` are its batches in order; `in_flight` is the one without an answer.

    receipts: those answered; replays: how many of them said that the batch had been applied before.
    """

    run: str
    url: str
    dice: random.Random
    acknowledged: list[bytes] = field(default_factory=list)
    in_flight: bytes | None = None
    replays: int = 0
    failure: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    _step: int = 0

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._report, name=f"stream {self.run}", daemon=True)
        self._pool = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=2.0, read=10.0))

    @property
    def producer(self) -> str:
        """Its id."""
        return f"producer-{self.run.replace('/', '-')}"

    def start(self) -> None:
        """Begin to report."""
        self._thread.start()

    def finish(self) -> None:
        """Send the batch in flight until it is answered, then stop."""
        self.stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _report(self) -> None:
        try:
            while not self.stop.is_set():
                self.in_flight = self._next()
                receipt = self._send(self.in_flight)
                self.replays += receipt.replayed
                self.acknowledged.append(self.in_flight)
                self.in_flight = None
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            self.failure = repr(error)

    def _send(self, body: bytes) -> Receipt:
        """Send until there is an answer; only connections that fail and 503 are tried again."""
        pause = threading.Event()
        for _ in range(_TRIES_MAX):
            try:
                answer = self._pool.request(
                    "POST", f"{self.url}/api/v1/scalars/{self.run}", body=body, headers={"Content-Type": MSGPACK}
                )
            except urllib3.exceptions.HTTPError:
                pause.wait(_PAUSE_S)
                continue
            if answer.status == 200:
                return decoded(answer.data)
            assert answer.status == 503, answer.data
            pause.wait(_PAUSE_S)
        raise AssertionError("the server never came back")

    def _next(self) -> bytes:
        """The next batch: blocks on two counters, now and then a rewind or late, overlapping rows."""
        dice, seq = self.dice, len(self.acknowledged) + 1
        rewind = None
        if seq == 1:
            opening = Open(config={"lr": 0.1}, provenance={"host": "test"})
        else:
            opening = None
            if dice.random() < 0.04:
                self._step = dice.randrange(self._step + 1)
                rewind = Rewind(next_steps={"global_step": self._step}, reason="resumed")
        n = dice.choice((1, 1, 5, 40))
        steps = range(self._step, self._step + n)
        self._step += n
        blocks = [self._columns("global_step", steps, TAGS[: dice.choice((1, 2, 3))])]
        if dice.random() < 0.3:
            blocks.append(self._columns("epoch", range(seq, seq + 1), ("val",)))
        columns = tuple(blocks)
        return encode_batch(
            Batch(producer=self.producer, seq=seq, partial=True, open=opening, rewind=rewind, columns=columns)
        )

    def _columns(self, counter: str, steps: range, tags: tuple[str, ...]) -> Columns:
        shape = len(steps), len(tags)
        values = np.array([self.dice.random() for _ in range(shape[0] * shape[1])]).reshape(shape)
        column = np.array(steps, np.int64)
        return Columns(counter, tags, column, 1.7e9 + column / 8, values)


def decoded(data: bytes) -> Receipt:
    """A receipt from JSON."""
    return msgspec.json.decode(data, type=Receipt)


class Expected:
    """What a run must be: the pure contract applied to the batches that were acknowledged, one after the other."""

    def __init__(self, run: str) -> None:
        self.state: RunState = new_run(1, run, now=0.0)
        self.blocks: list[Block] = []
        self.applied = 0

    def follow(self, batches: list[bytes]) -> None:
        """Apply those that are new."""
        for body in batches[self.applied :]:
            self.take(self.outcome(body))

    def outcome(self, body: bytes) -> Outcome:
        """What one batch more would make of it."""
        batch = decode_batch(body, MSGPACK, now=0.0)
        return apply(self.state, batch, now=0.0, last_step_before=self._last_step_before)

    def take(self, outcome: Outcome) -> None:
        """Go on with that outcome."""
        self.state = outcome.state
        self.blocks += outcome.blocks
        self.applied += 1

    def _last_step_before(self, counter_id: int, attempt: int, step: int) -> int | None:
        mine = (b.steps for b in self.blocks if (b.counter_id, b.attempt) == (counter_id, attempt))
        ends = ((steps, int(np.searchsorted(steps, step))) for steps in mine)
        return max((int(steps[end - 1]) for steps, end in ends if end), default=None)

"""When each run was last heard of, by the server's clock: in memory at once, in the store about once a minute.

Heartbeats stay out of the groups that reports wait for. A run's silence is counted only while the service listened:
a restart declares nobody lost who had no chance to speak, and nobody alive who was silent before.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final

from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.ingest.waiting import Record
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Store, StoreError, Transaction

logger = logging.getLogger(__name__)

RUNS_MAX: Final = 100_000
SAVE_EVERY_S: Final = 60.0
"""At most this much of what was heard is forgotten by a crash, which is why it is well below a run's time limit."""


class Heartbeats:
    """Last signs of life by run name; the longest silent are forgotten first. Times: seconds since the epoch."""

    def __init__(self, runs_max: int = RUNS_MAX) -> None:
        self._lock = threading.Lock()
        self._runs_max = runs_max
        self._last: OrderedDict[str, float] = OrderedDict()
        self._unsaved: set[str] = set()
        self._listening_since = 0.0
        self._listened_until = 0.0

    def restore(self, heard: dict[str, float], listened_until: float, now: float) -> None:
        """Take over what a former process heard (oldest first), until when it listened; this one listens from now."""
        with self._lock:
            self._last = OrderedDict(heard)
            self._listened_until = listened_until
            self._listening_since = now

    def beat(self, run: str, now: float) -> None:
        """The run is alive at `now`."""
        with self._lock:
            self._last[run] = now
            self._last.move_to_end(run)
            self._unsaved.add(run)
            if len(self._last) > self._runs_max:
                forgotten, _ = self._last.popitem(last=False)
                self._unsaved.discard(forgotten)

    def last_beat(self, run: str) -> float | None:
        """When it last beat, if that is known."""
        with self._lock:
            return self._last.get(run)

    def last_seen(self, state: RunState) -> float:
        """When anything was last heard of a run: a report, a change or a heartbeat."""
        return max(state.meta.updated_at, self.last_beat(state.name) or 0.0)

    def is_lost(self, state: RunState, now: float, after_s: float) -> bool:
        """Whether a run says that it is running, and its producers have been silent for longer than after_s.

        Only producers owe a sign of life: who reports without being one (a curl line) may come again any time.
        """
        if state.meta.status != "running" or not state.producers:
            return False
        reported = max(producer.last_seen for producer in state.producers.values())
        return self.unheard_s(state.name, reported, now) > after_s

    def unheard_s(self, run: str, reported_at: float, now: float) -> float:
        """For how long the service has listened and heard nothing of a run's producers.

        reported_at: when one of them last sent a batch.
        """
        seen = max(reported_at, self.last_beat(run) or 0.0)
        if seen >= self._listening_since or now < self._listening_since:  # the clock was put back
            return max(0.0, now - seen)
        return max(0.0, self._listened_until - seen) + max(0.0, now - self._listening_since)

    def unsaved(self) -> dict[str, float]:
        """What was heard since the last call that returned it."""
        with self._lock:
            news = {run: self._last[run] for run in self._unsaved}
            self._unsaved.clear()
            return news

    def put_back(self, runs: dict[str, float]) -> None:
        """`unsaved` could not be saved: hand it out again next time."""
        with self._lock:
            self._unsaved.update(run for run in runs if run in self._last)


class HeartbeatKeeper:
    """Saves heartbeats, all in one transaction, every SAVE_EVERY_S and at the end."""

    def __init__(
        self,
        heartbeats: Heartbeats,
        store: Store,
        record: Callable[[Record], None],
        clock: Callable[[], float],
        *,
        interval_s: float = SAVE_EVERY_S,
    ) -> None:
        """`record` runs a function in a transaction of the writer and returns when it is durable."""
        self._heartbeats = heartbeats
        self._store = store
        self._record = record
        self._clock = clock
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-heartbeats", daemon=True)

    def start(self) -> None:
        """Take over what is in the store, and begin to save. Raises StoreError."""
        with self._store.snapshot() as view:
            heard, until = view.heartbeats(limit=RUNS_MAX)
        self._heartbeats.restore(heard, until, self._clock())
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Save once more, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def save(self) -> None:
        """Save what is new, and that the service has listened until now."""
        heard = self._heartbeats.unsaved()
        now = self._clock()

        def work(transaction: Transaction) -> None:
            transaction.save_heartbeats(heard, now)

        try:
            self._record(work)
        except (StoreError, IngestError, FutureTimeoutError) as error:
            self._heartbeats.put_back(heard)
            logger.warning("heartbeats could not be saved: %s", error)

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.save()
        self.save()

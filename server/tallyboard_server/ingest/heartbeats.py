"""When each run was last heard of, by the server's clock: in memory at once, in the store about once a minute.

Heartbeats stay out of the groups that reports wait for. A run's silence is counted only while the service listened:
a restart declares nobody lost who had no chance to speak, and nobody alive who was silent before.

Services that share a store tell each other through it what they heard, every few seconds. Silence is counted there
while any of them listened, and only up to where it is known what the others heard.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Final

from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Listening, Record, Store, StoreError, Transaction

logger = logging.getLogger(__name__)

RUNS_MAX: Final = 100_000
SAVE_EVERY_S: Final = 60.0
"""At most this much of what was heard is forgotten by a crash, which is why it is well below a run's time limit."""
EXCHANGE_EVERY_S: Final = 10.0
"""The same for services that share a store: so late one knows what others heard. That a run is lost is known later by
up to twice that, and SKEW_S."""
SKEW_S: Final = 5.0
"""Clocks of services that share a store may differ by so much."""
_WHOLE_EVERY: Final = 10
"""Exchanges of which one reads all that others heard, and not only the newest."""


class Heartbeats:
    """Last signs of life by run name; the longest silent are forgotten first. Times: seconds since the epoch."""

    def __init__(self, runs_max: int = RUNS_MAX) -> None:
        self._lock = threading.Lock()
        self._runs_max = runs_max
        self._last: OrderedDict[str, float] = OrderedDict()
        self._unsaved: set[str] = set()
        self._listening = Listening(0.0, 0.0, 0.0)
        self._known_until: float | None = None

    def restore(self, heard: dict[str, float], listened_until: float, now: float) -> None:
        """Take over what a former process heard (oldest first), until when it listened; this one listens from now."""
        with self._lock:
            self._last = OrderedDict(heard)
            self._listening = Listening(listened_until, now, now)
            self._known_until = None

    def take_over(self, heard: Mapping[str, float], listening: Listening, known_until: float) -> None:
        """Others have heard this, too (oldest first), and all that they heard until a time is known.

        listening: when any of them did, or this one.
        """
        with self._lock:
            for run, at in heard.items():
                if at > self._last.get(run, 0.0):
                    self._last[run] = at
                    self._last.move_to_end(run)
            while len(self._last) > self._runs_max:
                self._forget_oldest()
            self._listening, self._known_until = listening, known_until

    def beat(self, run: str, now: float) -> None:
        """The run is alive at `now`."""
        with self._lock:
            self._last[run] = now
            self._last.move_to_end(run)
            self._unsaved.add(run)
            if len(self._last) > self._runs_max:
                self._forget_oldest()

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
        with self._lock:
            seen = max(reported_at, self._last.get(run, 0.0))
            listening, known_until = self._listening, self._known_until
        if known_until is not None:
            now = min(now, known_until)
        elif now < listening.since:  # the clock was put back
            return max(0.0, now - seen)
        if seen >= listening.since:
            return max(0.0, now - seen)
        return max(0.0, listening.before - seen) + max(0.0, now - listening.since)

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

    def _forget_oldest(self) -> None:
        forgotten, _ = self._last.popitem(last=False)
        self._unsaved.discard(forgotten)


class HeartbeatKeeper:
    """Saves heartbeats, all in one transaction, every minute and at the end; in a shared store every few seconds, and
    reads what others have heard."""

    def __init__(
        self,
        heartbeats: Heartbeats,
        store: Store,
        record: Record,
        clock: Callable[[], float],
        *,
        interval_s: float | None = None,
    ) -> None:
        """interval_s: between two times of saving, the same for all services on a store; None: as is usual."""
        self._heartbeats = heartbeats
        self._store = store
        self._record = record
        self._clock = clock
        self._interval_s = interval_s or (EXCHANGE_EVERY_S if store.shared else SAVE_EVERY_S)
        self._since = clock()
        self._exchanges = 0
        self._exchanged_at: float | None = None
        """When others' heartbeats were read first since that last failed, or an interval ago; None: it has failed."""
        self._known_until = self._since - 2 * self._interval_s - SKEW_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-heartbeats", daemon=True)

    def start(self) -> None:
        """Take over what is in the store, and begin to save. Raises StoreError."""
        if self._store.shared:
            self._exchange()
        else:
            with self._store.snapshot() as view:
                heard, until = view.heartbeats(limit=RUNS_MAX)
            self._heartbeats.restore(heard, until, self._since)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Save once more, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def save(self) -> None:
        """Save what is new, and that the service has listened until now; read what others have saved."""
        try:
            if self._store.shared:
                self._exchange()
            else:
                self._save(0.0)
        except (StoreError, IngestError, FutureTimeoutError) as error:
            logger.warning("heartbeats could not be saved: %s", error)
        except Exception:  # without this thread no silence would be counted right ever again
            logger.exception("heartbeats could not be saved")

    def _save(self, gap_s: float) -> Listening:
        """Save what is new; returns when anybody has listened. Raises StoreError, IngestError, TimeoutError."""
        heard, now = self._heartbeats.unsaved(), self._clock()
        found: list[Listening] = []

        def work(transaction: Transaction) -> None:
            found[:] = [transaction.listen(self._since, now, gap_s)]
            transaction.save_heartbeats(heard, now)

        try:
            self._record(work)
        except BaseException:
            self._heartbeats.put_back(heard)
            raise
        return found[0]

    def _exchange(self) -> None:
        """Save what is new, and read what others have saved. Raises StoreError, IngestError, TimeoutError.

        Between two exchanges that succeed, an interval apart, every other service has had its own: so after the second
        all is known that anybody heard until the first.
        """
        before, self._exchanged_at = self._exchanged_at, None
        listening, now = self._save(2 * self._interval_s), self._clock()
        whole = before is None or self._exchanges % _WHOLE_EVERY == 0
        since = 0.0 if whole else now - 3 * self._interval_s - SKEW_S
        with self._store.snapshot() as view:
            heard, _ = view.heartbeats(limit=RUNS_MAX, since=since)
        is_next = before is not None and now - before >= self._interval_s - 1.0
        if before is not None and is_next:
            self._known_until = max(self._known_until, before - SKEW_S)
        self._heartbeats.take_over(heard, listening, self._known_until)
        self._exchanges += 1
        self._exchanged_at = now if before is None or is_next else before

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.save()
        self.save()

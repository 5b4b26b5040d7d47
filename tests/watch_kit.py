"""Watchdogs on a real store and a real writer, with a clock that tests turn."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tallyboard.wire import JSON, Batch, Open, decode_batch
from tallyboard_server.contract import ContractError
from tallyboard_server.ingest import Ingest
from tallyboard_server.ingest.commands import Append, Delete, Done, Patch
from tallyboard_server.model import Incident, KeptAlert
from tallyboard_server.notify import Outbox, Webhook
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.store.watching import Notice
from tallyboard_server.watch import RuleBook, Rules, Watcher
from tests.eventfiles_kit import Clock

RUN = "p/run"


class Watched:
    """One process's life: a store, a writer and watchdogs, which look when `look` is called."""

    def __init__(self, folder: Path, clock: Clock, rules: Rules) -> None:
        self.clock = clock
        self.store = SqliteStore.open(folder)
        self.book = RuleBook(rules)
        self.book.load(self.store)
        outbox = Outbox(lambda run: self.book.owner_of(run) is not None)
        self.ingest = Ingest(self.store, clock=clock, queue=outbox.put)
        self.outbox = outbox
        self.changed: list[str] = []
        self.watcher = Watcher(
            self.store, self.ingest.record, self.ingest.heartbeats, self.book, outbox,
            changed=lambda _id, run: self.changed.append(run), clock=clock,
        )  # fmt: skip
        self.ingest.on_commit(outbox.committed)
        self.ingest.on_commit(self.watcher.inbox.committed)
        self.ingest.on_refused(self.watcher.inbox.refused)
        with self.store.snapshot() as view:
            heard, until = view.heartbeats(limit=1000)
        self.ingest.heartbeats.restore(heard, until, clock())
        self.ingest.start()
        self._seqs: dict[str, int] = {}
        self.producer = f"job-{clock():.0f}"

    def close(self) -> None:
        """End it; nothing more is looked at."""
        self.ingest.close()
        self.store.close()

    def look(self) -> None:
        """Have the watchdogs look at everything now."""
        self.watcher._next_sweep = 0.0
        self.watcher.turn()

    def open(self, run: str = RUN) -> None:
        """A job begins."""
        batch = Batch(producer=self.producer, seq=self._next(run), open=Open())
        self.ingest.submit_blocking(Append(run, batch, explicit=True))

    def report(
        self, step: int, scalars: dict[str, Any] | None = None, run: str = RUN, counter: str = "global_step"
    ) -> Done:
        """A job reports."""
        return self.send({"reports": [{"counter": counter, "step": step, "scalars": scalars or {"loss": 0.5}}]}, run)

    def send(self, document: dict[str, Any], run: str = RUN) -> Done:
        """A numbered batch of the job."""
        body = {"producer": self.producer, "partial": True} | document
        body.setdefault("seq", self._seqs.get(run, 0) + 1)
        done = self.ingest.submit_blocking(Append(run, self._decoded(body)))
        if body["producer"] == self.producer:
            self._next(run)
        return done

    def refuse(self, document: dict[str, Any], run: str = RUN) -> None:
        """A batch that is refused whole."""
        try:
            self.ingest.submit_blocking(Append(run, self._decoded(document)))
        except ContractError:
            return
        raise AssertionError("it was taken")

    def patch(self, run: str = RUN, **changes: Any) -> None:
        """Somebody changes the run."""
        self.ingest.submit_blocking(Patch(run, changes))

    def delete(self, run: str = RUN) -> None:
        """Somebody deletes the run."""
        self.ingest.submit_blocking(Delete(run))

    def beat(self, run: str = RUN) -> None:
        """The job says that it is alive."""
        self.ingest.heartbeats.beat(run, self.clock())

    def incidents(self, run: str = RUN) -> list[tuple[str, str]]:
        """(kind, subject) of what is open, as the store has it."""
        return sorted(incident.key for incident in self.kept(run))

    def kept(self, run: str = RUN) -> list[Incident]:
        """What is open of a run."""
        with self.store.snapshot() as view:
            return [incident for name, incident in view.incidents(limit=1000) if name == run]

    def alerts(self, run: str = RUN) -> list[KeptAlert]:
        """What watchdogs told, oldest first."""
        with self.store.snapshot() as view:
            state = view.load(run)
            assert state is not None
            return [kept for kept in reversed(view.alerts(state.id)) if kept.producer == "watchdog"]

    def titles(self, run: str = RUN) -> list[str]:
        """Their titles."""
        return [kept.alert.title for kept in self.alerts(run)]

    def notices(self) -> list[Notice]:
        """What waits to be sent."""
        with self.store.snapshot() as view:
            return view.notices(limit=1000)

    def _next(self, run: str) -> int:
        self._seqs[run] = self._seqs.get(run, 0) + 1
        return self._seqs[run]

    def _decoded(self, document: dict[str, Any]) -> Batch:
        return decode_batch(msgspec.json.encode(document), JSON, now=self.clock())


@contextmanager
def watched(folder: Path, clock: Clock, rules: Rules | None = None) -> Iterator[Watched]:
    """A process's life, until the block ends."""
    life = Watched(folder, clock, rules or Rules(webhook=Webhook("http://127.0.0.1:9/")))
    try:
        yield life
    finally:
        life.close()

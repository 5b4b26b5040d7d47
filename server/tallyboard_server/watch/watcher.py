"""The watchdogs at work: a thread that looks at what was committed and at the clock, and raises alerts."""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from typing import Final

from tallyboard_server.breather import Breather
from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.ingest.heartbeats import Heartbeats
from tallyboard_server.model import Incident, KeptAlert
from tallyboard_server.notify import Outbox
from tallyboard_server.replicas.bulletin import BulletinItem
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import (
    Record,
    RunHead,
    RunHeldError,
    Snapshot,
    Store,
    StoreBusyError,
    StoreError,
    Transaction,
)
from tallyboard_server.watch.book import RuleBook
from tallyboard_server.watch.facts import BadTag, Facts, Refused
from tallyboard_server.watch.findings import findings, is_lost
from tallyboard_server.watch.hearsay import Heard, Hearsay, news_of
from tallyboard_server.watch.inbox import Inbox, News
from tallyboard_server.watch.ledger import OPEN_MAX, Change, Ledger
from tallyboard_server.watch.points import BOUNDS, NONFINITE, look
from tallyboard_server.watch.rules import KINDS

logger = logging.getLogger(__name__)

WATCHDOG: Final = "watchdog"
"""The producer of alerts that nobody sent."""
TICK_S: Final = 1.0
SWEEP_EVERY_S: Final = 10.0
"""How often runs are looked at of which nothing comes: silences are of minutes."""
RUNS_MAX: Final = 10_000
"""Running runs that are watched; of more, those that were heard of last."""
CHANGES_MAX: Final = 1_000
"""Runs whose incidents change in one transaction."""
CHANGES_SHARED_MAX: Final = 32
"""The same where others write to the store: nobody can report to these runs as long as the transaction lasts."""
PAGE: Final = 1_000
UNSAID_S: Final = 60.0
"""What failed so shortly before the service stopped may not have been told."""
_UNAVAILABLE: Final = (StoreError, IngestError, FutureTimeoutError)


class Watcher:
    """Looks after all runs by the rules of their projects."""

    def __init__(
        self,
        store: Store,
        record: Record,
        heartbeats: Heartbeats,
        book: RuleBook,
        outbox: Outbox,
        *,
        changed: Callable[[int, str], None] = lambda _id, _run: None,
        clock: Callable[[], float] = time.time,
        shares: Shares = EVERYTHING,
    ) -> None:
        """changed: told id and name of each run whose incidents change. shares: which runs are looked after."""
        self.inbox = Inbox(book, clock, shares)
        self.hearsay = Hearsay()
        self._shares = shares
        self._version = shares.version
        self._store = store
        self._record = record
        self._heartbeats = heartbeats
        self._book = book
        self._outbox = outbox
        self._changed = changed
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-watchdogs", daemon=True)
        self._facts: OrderedDict[int, Facts] = OrderedDict()
        self._ledger: Ledger | None = None
        self._unsure = False
        self._due: set[int] = set()
        self._next_sweep = 0.0
        self._breather = Breather()
        self._figures = dict.fromkeys(("watch_alerts_total", "watch_errors_total"), 0)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Look once more, and end."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        counts = self._ledger.counts() if self._ledger is not None else {}
        return {
            **self._figures,
            "watch_runs": len(self._facts),
            "watch_dropped_total": self.inbox.dropped,
            **{f"watch_incidents_{kind}": counts.get(kind, 0) for kind in KINDS},
        }

    def turn(self) -> None:
        """Take what came, and look at what is due. Raises StoreError or IngestError; then it is due again."""
        now = self._clock()
        if (version := self._shares.version) != self._version:
            self._version = version
            self._begin_anew()
        ledger = self._ledger
        if ledger is None:
            ledger = self._ledger = self._begin(now)
        if self._unsure:
            self._make_sure(ledger)
        self._breather.begin()
        self._take_all(ledger, now)
        if not self._next_sweep - SWEEP_EVERY_S <= now < self._next_sweep:  # the clock may have been put back, too
            self._next_sweep = now + SWEEP_EVERY_S
            self._due.update(self._facts)
        if changes := self._judge_due(ledger, now):
            self._carry_out(changes, ledger, now)
        self.inbox.looked_at = frozenset(facts.id for facts in self._facts.values() if facts.bad)

    @contextmanager
    def _kept_to(self, run_id: int) -> Iterator[None]:
        """Do something for one run; what nobody foresaw is logged, and keeps no other run from being watched."""
        try:
            yield
        except Exception:
            self._figures["watch_errors_total"] += 1
            logger.exception("run %d can't be watched", run_id)

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(TICK_S)
            try:
                with self._shares.working():
                    self.turn()
            except Exception as error:
                self._figures["watch_errors_total"] += 1
                foreseen = isinstance(error, _UNAVAILABLE)
                logger.warning("watchdogs wait: %r", error, exc_info=None if foreseen else error)

    # ── what came ────────────────────────────────────────────────────────────────────────────────────────────────

    def _take_all(self, ledger: Ledger, now: float) -> None:
        """Take what was committed here, and look at what others committed; all of it is due then."""
        for run_id, news in self.inbox.take().items():
            with self._kept_to(run_id):
                self._take(run_id, news, ledger)
            self._due.add(run_id)
            self._breather.rest()
        if self.hearsay.is_to_seek(now):
            self._seek_missed(now)
        for run_id, heard in self.hearsay.due(now):
            if self._shares.has(run_id):
                with self._kept_to(run_id):
                    self._look(run_id, heard, ledger, now)
                self._due.add(run_id)
                self._breather.rest()

    def _take(self, run_id: int, news: News, ledger: Ledger) -> None:
        if news.deleted:
            self._facts.pop(run_id, None)
            ledger.forget(run_id)
            return
        state, now = news.state, news.at
        if (facts := self._facts.get(run_id)) is None:
            facts = self._facts[run_id] = Facts.of(state, now)
            if len(self._facts) > RUNS_MAX:
                self._facts.popitem(last=False)
        self._facts.move_to_end(run_id)
        facts.renew(state)
        is_told = facts.failed or news.ended or ("failed", "") in ledger.of_run(run_id)
        facts.failed = state.meta.status == "failed" and is_told
        facts.move(news.values, now)
        if news.refused_count:
            facts.refuse(news.refusals, news.refused_count, now)
        if news.blocks:
            look(facts, state, news.blocks, self._book.of_run(state.name), now)

    def _look(self, run_id: int, heard: Heard, ledger: Ledger, now: float) -> None:
        """Another replica has received something for a run."""
        facts = self._facts.get(run_id)
        closer = facts is not None and self.inbox.wants_points(run_id, facts.name)
        with self._store.snapshot() as view:
            news = news_of(view, run_id, heard, now, closer=closer)
        if news is None:
            self._facts.pop(run_id, None)
            ledger.forget(run_id)
        else:
            self._take(run_id, news, ledger)

    def _seek_missed(self, now: float) -> None:
        """Have it heard of which runs began or ended that nobody told of here."""
        self.hearsay.begin_to_seek(now)
        after_id = 0
        try:
            while heads := self._heads(after_id):
                after_id = heads[-1].run_id
                self.hearsay.heard(
                    BulletinItem(0, head.run_id, head.name, ended=head.status != "running")
                    for head in heads
                    if self._shares.has(head.run_id) and self._was_missed(head, now)
                )
        except BaseException:
            self.hearsay.missed()
            raise

    def _was_missed(self, head: RunHead, now: float) -> bool:
        if (facts := self._facts.get(head.run_id)) is None:
            return head.status == "running" or (head.status == "failed" and now - head.updated_at < UNSAID_S)
        return facts.status == "running" != head.status

    # ── what is wrong ────────────────────────────────────────────────────────────────────────────────────────────

    def _judge_due(self, ledger: Ledger, now: float) -> list[Change]:
        """Judge the runs that are due, as many as may change in one transaction; the others stay due."""
        changes: list[Change] = []
        coming = 0
        for run_id in list(self._due):
            if len(changes) == (CHANGES_SHARED_MAX if self._store.shared else CHANGES_MAX):
                break
            change = None
            if (facts := self._facts.get(run_id)) is not None:
                with self._kept_to(run_id):
                    change = self._judge(facts, ledger, now, coming)
            if change is not None:
                coming += len(change.saved)
                changes.append(change)
            else:
                self._done(run_id, ledger)
            self._breather.rest()
        return changes

    def _judge(self, facts: Facts, ledger: Ledger, now: float, coming: int) -> Change | None:
        """coming: incidents that other runs open in the same turn."""
        rules = self._book.of_run(facts.name)
        reported = facts.reported_at
        unheard_s = 0.0 if reported is None else self._heartbeats.unheard_s(facts.name, reported, now)
        was_lost, facts.lost = facts.lost, is_lost(facts, rules, unheard_s)
        if facts.lost and not was_lost and self._store.shared and self._has_grown(facts):
            facts.lost = False  # another replica hears of it; what it heard comes with the news
        if was_lost and not facts.lost:
            facts.resume(now)

        def unsaid(incident: Incident) -> bool:
            if facts.status != "running" or incident.kind in rules.off:
                return True
            if incident.kind == BOUNDS:
                return not rules.has_limit(incident.subject)
            return facts.lost and incident.kind == "stalled"

        found = findings(facts, rules, unheard_s, now)
        change = ledger.compare(facts.id, facts.name, found, unsaid=unsaid, at=facts.places, now=now, coming=coming)
        facts.forget(now)
        return change

    def _has_grown(self, facts: Facts) -> bool:
        """Whether a run's producers have sent something that was not heard of here; then its facts are renewed."""
        with self._store.snapshot() as view:
            state = view.load_by_id(facts.id)
        if state is None:
            return False
        before = facts.reported_at
        facts.renew(state)
        return facts.reported_at != before

    def _carry_out(self, changes: Sequence[Change], ledger: Ledger, now: float) -> None:
        """Keep incidents and raise alerts, all in one transaction."""
        gone: list[int] = []
        held: set[int] = set()

        def work(transaction: Transaction) -> None:
            gone.clear()
            held.clear()
            for change in changes:
                try:
                    state = transaction.load(change.run)
                except RunHeldError:  # by another replica: its turn is the next
                    held.add(change.run_id)
                    continue
                if state is None or state.id != change.run_id:
                    gone.append(change.run_id)
                    continue
                alerts = [KeptAlert(now, WATCHDOG, alert) for alert in change.alerts]
                transaction.save(state, alerts=alerts)  # without alerts, too: what is shown of the run has changed
                for incident in change.saved:
                    transaction.save_incident(incident)
                for incident in change.dropped:
                    transaction.drop_incident(change.run_id, *incident.key)
                self._outbox.put(transaction, change.run, alerts)

        try:
            self._record(work)
        except (FutureTimeoutError, StoreBusyError):  # the latter, too: the connection may be lost in a COMMIT
            self._unsure = True
            raise
        for change in changes:
            if change.run_id in held:
                continue
            if change.run_id in gone:
                self._facts.pop(change.run_id, None)
                ledger.forget(change.run_id)
            else:
                ledger.apply(change, now)
                self._figures["watch_alerts_total"] += len(change.alerts)
                self._changed(change.run_id, change.run)
            self._done(change.run_id, ledger)

    def _make_sure(self, ledger: Ledger) -> None:
        """A `_record` may have been carried out, or may still be: wait for it, and take over what came of it."""
        self._record(lambda _transaction: None)
        with self._store.snapshot() as view:
            ledger.load(self._open(view))
        self._unsure = False

    def _done(self, run_id: int, ledger: Ledger) -> None:
        """A run was looked at, and all that follows is durable; those that have ended, and of which nothing remains to
        be told, are watched no more."""
        self._due.discard(run_id)
        facts = self._facts.get(run_id)
        if facts is not None and facts.status != "running" and not ledger.owes(run_id):
            del self._facts[run_id]

    def _begin_anew(self) -> None:
        """Other runs are looked after now than before: what is open is in the store."""
        self._ledger = None
        self._facts.clear()
        self._due.clear()

    # ── the beginning ────────────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, now: float) -> Ledger:
        """Take over what is open, and the runs that are running."""
        with self._store.snapshot() as view:
            incidents = self._open(view)
            _, listened_until = view.heartbeats(limit=0)
        ledger = Ledger(incidents)
        after_id = 0
        while heads := self._heads(after_id):
            after_id = heads[-1].run_id
            wanted = [
                head.run_id
                for head in heads
                if self._shares.has(head.run_id) and (_is_watched(head, listened_until) or ledger.owes(head.run_id))
            ]
            for run_id in wanted:
                with self._store.snapshot() as view:
                    self._look_first(view, run_id, ledger, now)
        return ledger

    def _open(self, view: Snapshot) -> list[Incident]:
        return [one for _, one in view.incidents(limit=OPEN_MAX) if self._shares.has(one.run_id)]

    def _heads(self, after_id: int) -> list[RunHead]:
        with self._store.snapshot() as view:
            return view.heads(after_id=after_id, limit=PAGE)

    def _look_first(self, view: Snapshot, run_id: int, ledger: Ledger, now: float) -> None:
        if (state := view.load_by_id(run_id)) is None:
            return
        facts = Facts.of(state, now)
        facts.failed = state.meta.status == "failed"
        _remember(facts, ledger.of_run(run_id).values(), now)
        self._facts[run_id] = facts
        if len(self._facts) > RUNS_MAX:
            self._facts.popitem(last=False)


def _is_watched(head: RunHead, listened_until: float) -> bool:
    """Whether a run is running, or failed when a former process was about to end."""
    if head.status == "failed":
        return 0.0 < listened_until - UNSAID_S < head.updated_at
    return head.status == "running"


def _remember(facts: Facts, incidents: Iterable[Incident], now: float) -> None:
    """What is open stays so until this process has seen that it is over."""
    for incident in incidents:
        match incident.kind:
            case "stalled":
                facts.standing.add(incident.subject)
            case "refused":
                facts.refused[incident.subject] = Refused(0, now, incident.text)
            case "nonfinite" | "bounds":
                kind = NONFINITE if incident.kind == NONFINITE else BOUNDS
                facts.bad[kind, incident.subject] = BadTag(float("nan"), 0, "", 0, 0, now)

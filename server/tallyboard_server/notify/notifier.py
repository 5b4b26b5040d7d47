"""The sender: puts waiting notices together into deliveries, and tries each until its webhook takes it."""

import logging
import random
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from typing import Final

import msgspec

from tallyboard.wire import Alert
from tallyboard_server.ingest.errors import IngestError
from tallyboard_server.model import KeptAlert
from tallyboard_server.notify.bodies import WATCHDOG, Entry, body, entry_of
from tallyboard_server.notify.outbox import Outbox
from tallyboard_server.notify.webhook import Sent, Webhook, post
from tallyboard_server.store.protocol import Record, Store, StoreError, Transaction
from tallyboard_server.store.watching import NOTICES_MAX, Delivery, Notice

logger = logging.getLogger(__name__)

TICK_S: Final = 0.5
POLL_S: Final = 1.0
"""How often is looked for what other services on the store have put into the outbox."""
UNWANTED_S: Final = 5.0
"""In a shared store, how long nobody has to want a notice before it is forgotten: the webhook that wants it may have
been set on another service a moment ago, and not be known here yet."""
GATHER_S: Final = 3.0
"""What comes within so long of the first is sent with it."""
TOGETHER_MAX: Final = 20
"""Notices in one delivery: a message that people still read."""
COLLAPSE_S: Final = 600.0
"""One title of a run is sent once in so long; what comes meanwhile is counted, and told then."""
APART_S: Final = 1.0
"""Between two requests to one webhook."""
SENDERS: Final = 4
"""Webhooks that are asked at once: one that hangs keeps the others waiting only if three more hang."""
BACKOFF_S: Final = 5.0
BACKOFF_MAX_S: Final = 600.0
GIVE_UP_S: Final = 86_400.0
TRIES_MAX: Final = 200
"""A day of BACKOFF_MAX_S is 144; an answer's Retry-After could make it more."""
TITLES_MAX: Final = 10_000
"""(run, title) pairs of which is remembered that they were sent lately."""
_UNAVAILABLE: Final = (StoreError, IngestError, FutureTimeoutError)

_decode = msgspec.json.Decoder(list[Entry]).decode


class Notifier:
    """Sends what waits in the outbox, each to the webhook of its run's project."""

    def __init__(
        self,
        store: Store,
        record: Record,
        outbox: Outbox,
        *,
        owner_of: Callable[[str], str | None],
        webhook_at: Callable[[str], Webhook | None],
        public_url: str | None = None,
        active: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.time,
        send: Callable[[str, bytes, str], Sent] = post,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """owner_of: the project whose webhook a run has (None: nobody hears of it); webhook_at: a project's own.

        public_url: where people reach the dashboard. active: whether it is this service that sends, of those that share
        the store.
        """
        self._store = store
        self._record = record
        self._outbox = outbox
        self._owner_of = owner_of
        self._webhook_at = webhook_at
        self._public_url = public_url
        self._active = active
        self._clock = clock
        self._send = send
        self._jitter = jitter
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tallyboard-notices", daemon=True)
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="tallyboard-webhook")
        self._waiting: list[Notice] = []
        self._deliveries: dict[str, Delivery] = {}
        """On their way, by project: one each, so that what waits behind one that fails is put together meanwhile."""
        self._was_active = False
        self._next_poll = 0.0
        self._unwanted_since: dict[str, float] = {}
        """By what it is: since when it is seen here that nobody wants it."""
        self._over: set[str] = set()
        """Deliveries that are over, and of which it is not known yet that the store has forgotten them."""
        self._under_way: dict[str, Future[Sent]] = {}
        self._free_at: dict[str, float] = {}
        self._sent_at: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._figures = dict.fromkeys(
            ("notices_sent_total", "notices_failed_tries_total", "notices_given_up_total", "notices_unwanted_total"), 0
        )

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End; a request under way may still be answered for a moment, what waits is sent by the next start."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        on_the_way = list(self._deliveries.values())
        return {
            **self._figures,
            "notices_dropped_total": self._outbox.dropped,
            "notices_waiting": len(self._waiting) + sum(len(_decode(one.notices)) for one in on_the_way),
        }

    def test(self, webhook: Webhook, run: str) -> Sent:
        """Send a test notice at once, as if it were about a run of that name."""
        now = self._clock()
        alert = Alert(
            title="a test notice", text="Whoever reads this would hear of runs that need somebody.", level="info"
        )
        entry = entry_of(Notice(0, run, now, 1, KeptAlert(now, WATCHDOG, alert)))
        delivery_id = uuid.uuid4().hex
        return self._send(webhook.url, body(webhook.format, delivery_id, [entry], self._public_url), delivery_id)

    def turn(self) -> None:
        """Look once at what came, what was answered, and what is due; nothing while another service sends."""
        now = self._clock()
        is_active = self._active()
        if is_active != self._was_active:
            self._was_active = is_active
            self._begin_anew()
        if not is_active:
            return
        if self._outbox.unseen or self._is_poll_due():
            self._outbox.unseen = False
            try:
                self._look()
            except StoreError:
                self._outbox.unseen = True
                raise
        for project in [project for project, answer in self._under_way.items() if answer.done()]:
            self._settle(project, self._under_way.pop(project).result(), now)
        try:
            self._compose(now)
        finally:  # what was made before goes out, though the store may take no more
            self._begin(now)
        if self._over:
            self._drop_over()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                self.turn()
            except _UNAVAILABLE as error:
                logger.warning("notices wait: %s", error)
                self._stop.wait(1.0)
            except Exception:  # without this thread nobody would hear anything any more
                logger.exception("notices wait")
                self._stop.wait(1.0)

    def _begin_anew(self) -> None:
        """Another service has sent, or will: what waits, and what is on its way, is in the store.

        A request that is under way may still be taken; the next sender asks again under the same id.
        """
        self._waiting = []
        self._deliveries.clear()
        self._under_way.clear()
        self._unwanted_since.clear()
        self._over.clear()
        self._outbox.unseen = True

    def _is_poll_due(self) -> bool:
        if not self._store.shared or time.monotonic() < self._next_poll:
            return False
        self._next_poll = time.monotonic() + POLL_S
        return True

    def _is_unwanted(self, what: str, now: float) -> bool:
        """Whether nobody wants something, and not only because this service has not heard of a webhook yet."""
        if not self._store.shared:
            return True
        if len(self._unwanted_since) >= NOTICES_MAX:
            self._unwanted_since.clear()
        since = self._unwanted_since.setdefault(what, now)
        if 0 <= now - since < UNWANTED_S:
            return False
        del self._unwanted_since[what]
        return True

    def _look(self) -> None:
        """Read what waits, and what is on its way: of a former process, or from a `_record` that ended too late."""
        with self._store.snapshot() as view:
            self._waiting = view.notices(limit=NOTICES_MAX)
            deliveries = view.deliveries()
        for delivery in deliveries:
            if delivery.id not in self._over:
                self._deliveries.setdefault(delivery.project, delivery)

    def _compose(self, now: float) -> None:
        """Make a delivery for each project that has due notices and none on its way."""
        due: dict[str, list[Notice]] = {}
        unwanted: list[int] = []
        for notice in self._waiting:
            if (owner := self._owner_of(notice.run)) is None:
                if self._is_unwanted(f"notice {notice.id}", now):
                    unwanted.append(notice.id)
            elif not self._is_held(notice, now):
                due.setdefault(owner, []).append(notice)
        if unwanted:
            self._forget(unwanted)
        for project, notices in due.items():
            if project not in self._deliveries and (
                len(notices) >= TOGETHER_MAX or now - min(notice.first_at for notice in notices) >= GATHER_S
            ):
                self._dispatch(project, notices[:TOGETHER_MAX], now)

    def _is_held(self, notice: Notice, now: float) -> bool:
        """Whether its title was sent a short while ago."""
        sent = self._sent_at.get((notice.run, notice.alert.alert.title))
        return sent is not None and 0 <= now - sent < COLLAPSE_S

    def _forget(self, ids: Sequence[int]) -> None:
        def work(transaction: Transaction) -> None:
            transaction.take_notices(ids)

        self._record(work)
        self._figures["notices_unwanted_total"] += len(ids)
        self._look()

    def _dispatch(self, project: str, notices: Sequence[Notice], now: float) -> None:
        """From here on these notices are one delivery, under one id, also for the next process.

        It holds what waits at that moment: alerts may have come since anybody looked, and a `_record` that took too
        long may have made a delivery of them already.
        """
        ids = [notice.id for notice in notices]
        delivery_id = uuid.uuid4().hex

        taken: list[Notice] = []

        def work(transaction: Transaction) -> None:
            taken[:] = transaction.take_notices(ids)
            if taken:
                said = msgspec.json.encode([entry_of(notice) for notice in taken]).decode()
                transaction.save_delivery(Delivery(delivery_id, project, said, now, 0, now))

        self._outbox.unseen = True  # whatever becomes of it
        self._record(work)
        for notice in taken:
            self._sent_at[notice.run, notice.alert.alert.title] = now
            self._sent_at.move_to_end((notice.run, notice.alert.alert.title))
        while len(self._sent_at) > TITLES_MAX:
            self._sent_at.popitem(last=False)
        self._look()

    def _begin(self, now: float) -> None:
        """Ask the webhooks whose delivery is due."""
        busy = {hook.url for project in self._under_way if (hook := self._webhook_at(project)) is not None}
        for project, delivery in list(self._deliveries.items()):
            if project in self._under_way or delivery.next_at > now:
                continue
            webhook = self._webhook_at(project)
            if webhook is None:
                if self._is_unwanted(f"delivery {delivery.id}", now):
                    self._end(delivery, "notices_unwanted_total")
            elif webhook.url not in busy and self._free_at.get(webhook.url, 0.0) <= now:
                busy.add(webhook.url)
                self._free_at = {url: at for url, at in self._free_at.items() if at > now} | {
                    webhook.url: now + APART_S
                }
                content = body(webhook.format, delivery.id, _decode(delivery.notices), self._public_url)
                self._under_way[project] = self._pool.submit(self._send, webhook.url, content, delivery.id)

    def _settle(self, project: str, sent: Sent, now: float) -> None:
        delivery = self._deliveries.get(project)
        if delivery is None:
            return
        if sent.taken:
            self._end(delivery, "notices_sent_total")
            return
        self._figures["notices_failed_tries_total"] += 1
        webhook = self._webhook_at(project)
        where = "the webhook" if webhook is None else f"the webhook at {webhook.host}"
        said = sent.detail if sent.status is None else f"status {sent.status}"
        tries = delivery.tries + 1
        if sent.hopeless or tries >= TRIES_MAX or now - delivery.created_at >= GIVE_UP_S:
            logger.error("%s did not take a notice, which is given up after %d tries: %s", where, tries, said)
            self._end(delivery, "notices_given_up_total")
            return
        wait = min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(tries - 1, 30)) * (0.5 + self._jitter() / 2)
        wait = max(wait, min(sent.retry_after_s or 0.0, GIVE_UP_S))
        logger.warning("%s did not take a notice (%s); next try in %.0f s", where, said, wait)
        later = replace(delivery, tries=tries, next_at=now + wait)

        def work(transaction: Transaction) -> None:
            transaction.defer_delivery(later.id, later.tries, later.next_at)

        self._deliveries[project] = later
        self._record(work)

    def _end(self, delivery: Delivery, figure: str) -> None:
        self._deliveries.pop(delivery.project, None)
        self._figures[figure] += len(_decode(delivery.notices))
        self._over.add(delivery.id)
        self._outbox.unseen = True  # another may wait behind it
        self._drop_over()

    def _drop_over(self) -> None:
        """Have the store forget what is over; if it can't now, later: the next process would send it once more."""
        ids = sorted(self._over)

        def work(transaction: Transaction) -> None:
            for delivery_id in ids:
                transaction.drop_delivery(delivery_id)

        self._record(work)
        self._over.difference_update(ids)

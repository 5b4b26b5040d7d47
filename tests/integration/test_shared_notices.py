"""Notices of services that share a store: one of them sends what all have raised, and another goes on where it ends."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from tallyboard.wire import Alert
from tallyboard_server.model import KeptAlert
from tallyboard_server.notify import Notifier, Outbox, Webhook, notifier
from tallyboard_server.store.protocol import Store, Work
from tests.eventfiles_kit import Clock
from tests.kill.server import Server
from tests.postgres_stores import PostgresStores
from tests.service import until
from tests.stores import Stores, on
from tests.webhooks import Receiver, Reply, receiving

pytestmark = on("postgres")

TOLD_S = notifier.GATHER_S + 0.5


class Replica:
    """One service's outbox and sender; it sends while it is active."""

    def __init__(self, store: Store, clock: Clock, hooks: dict[str, Webhook]) -> None:
        self.store = store
        self.clock = clock
        self.hooks = hooks
        self.active = False
        self.outbox = Outbox(lambda run: self.owner_of(run) is not None)
        self.notifier = Notifier(
            store, self.record, self.outbox, owner_of=self.owner_of, webhook_at=hooks.get, clock=clock,
            active=lambda: self.active, jitter=lambda: 1.0,
        )  # fmt: skip

    def owner_of(self, run: str) -> str | None:
        return "" if "" in self.hooks and run else None

    def record(self, work: Work) -> None:
        with self.store.transaction() as transaction:
            work(transaction)

    def alert(self, title: str, run: str = "p/run") -> None:
        """An alert is kept here, and queued with it."""
        told = Alert(title=title, text="", level="warn", wall_time=self.clock(), at={})
        with self.store.transaction() as transaction:
            self.outbox.put(transaction, run, [KeptAlert(self.clock(), "job-1", told)])
        self.outbox.committed(None)

    def turn(self, after_s: float = 0.0) -> None:
        """Look, some seconds later, at everything; what was asked is answered."""
        self.clock.now += after_s
        self.notifier._next_poll = 0.0
        self.notifier.turn()
        wait(self.notifier._under_way.values(), 10.0)
        self.notifier.turn()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def pair(stores: Stores, tmp_path: Path, receiver: Receiver) -> Iterator[tuple[Replica, Replica]]:
    """Two on one store; the first one sends."""
    clock, hooks = Clock(1_000_000.0), {"": Webhook(receiver.url)}
    opened = [stores.open(tmp_path / "shared") for _ in range(2)]
    first, second = (Replica(store, clock, dict(hooks)) for store in opened)
    first.active = True
    yield first, second
    for replica in (first, second):
        replica.notifier.stop()
        replica.store.close()
    stores.remove(tmp_path / "shared")


def test_one_sends_what_any_of_them_has_queued(pair: tuple[Replica, Replica], receiver: Receiver) -> None:
    first, second = pair
    second.alert("of the other")
    for replica in (second, first):
        replica.turn(TOLD_S)
        replica.turn(TOLD_S)
    assert receiver.titles() == ["of the other"]
    assert len(receiver.came) == 1
    with first.store.snapshot() as view:
        assert (view.notices(limit=9), view.deliveries()) == ([], [])


def test_what_others_queue_is_found_within_a_second_or_two(
    pair: tuple[Replica, Replica], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "GATHER_S", 0.0)
    first, second = pair
    first.notifier.start()
    assert until(lambda: not first.outbox.unseen)
    second.alert("of the other")
    assert until(lambda: receiver.titles() == ["of the other"], 3.0)


def test_the_next_sender_goes_on_under_the_same_id(pair: tuple[Replica, Replica], receiver: Receiver) -> None:
    first, second = pair
    receiver.replies = [Reply(503)]
    first.alert("one")
    first.turn()
    first.turn(TOLD_S)
    assert len(receiver.came) == 1
    first.alert("two")
    first.active, second.active = False, True
    first.turn(1.0)
    second.turn(TOLD_S + 10.0)
    second.turn(TOLD_S)
    first.turn(60.0)
    second.turn(60.0)
    assert receiver.titles() == ["one", "two"]
    assert [came.delivery == receiver.came[0].delivery for came in receiver.came] == [True, True, False]
    second.active, first.active = False, True
    second.turn()
    first.turn(60.0)
    assert len(receiver.came) == 3, "who gets it back sends nothing again"


def test_two_that_both_believe_to_send_lose_nothing_and_make_no_delivery_twice(
    pair: tuple[Replica, Replica], receiver: Receiver
) -> None:
    first, second = pair
    second.active = True  # a share goes from one to the other while its former holder is at work
    for number in range(60):
        (first, second)[number % 2].alert(f"alert {number}", f"p/run-{number % 7}")
    first.clock.now += TOLD_S
    with ThreadPoolExecutor(2) as pool:
        for _ in range(12):
            for replica in (first, second):
                replica.notifier._next_poll = 0.0
            list(pool.map(lambda replica: replica.notifier.turn(), (first, second)))
            wait([*first.notifier._under_way.values(), *second.notifier._under_way.values()], 10.0)
            first.clock.now += 2.0
    assert sorted(receiver.titles()) == sorted(f"alert {number}" for number in range(60))
    by_id: dict[str, list[str]] = {}
    for came in receiver.came:
        told = [notice["title"] for notice in came.body["notices"]]
        assert by_id.setdefault(came.delivery, told) == told, "one id always stands for the same notices"
    with first.store.snapshot() as view:
        assert (view.notices(limit=99), view.deliveries()) == ([], [])


def test_what_was_taken_is_not_put_back_by_one_that_saw_it_fail(
    pair: tuple[Replica, Replica], receiver: Receiver
) -> None:
    first, second = pair
    receiver.replies = [Reply(503)]
    first.alert("one")
    first.turn()
    first.clock.now += TOLD_S
    first.notifier.turn()
    wait(first.notifier._under_way.values(), 10.0)  # answered, and not looked at yet
    second.active = True
    second.turn(1.0)
    assert [came.delivery for came in receiver.came] == [receiver.came[0].delivery] * 2
    first.turn()
    first.active = False
    for _ in range(3):
        first.turn(60.0)
        second.turn(60.0)
    assert len(receiver.came) == 2
    with first.store.snapshot() as view:
        assert view.deliveries() == []


def test_a_webhook_that_is_not_known_here_yet_is_waited_for(pair: tuple[Replica, Replica], receiver: Receiver) -> None:
    first, second = pair
    hook = first.hooks.pop("")  # the sender has not heard of the rules yet
    second.alert("one")
    first.turn(1.0)
    first.turn(notifier.UNWANTED_S - 1.0)
    first.hooks[""] = hook
    first.turn(0.5)
    first.turn()
    assert receiver.titles() == ["one"]
    del first.hooks[""]
    second.alert("two")
    first.turn(1.0)
    first.turn(notifier.UNWANTED_S)
    with first.store.snapshot() as view:
        assert view.notices(limit=9) == []
    assert first.notifier.stats()["notices_unwanted_total"] == 1


def test_a_notice_that_is_added_to_while_it_is_taken_waits_for_nobody(
    pair: tuple[Replica, Replica], receiver: Receiver
) -> None:
    first, second = pair
    first.alert("held")
    first.alert("free")
    told = Alert(title="held", text="newer", level="warn", wall_time=1.0, at={})
    with second.store.transaction() as adding:
        adding.queue_notices("p/run", [KeptAlert(first.clock(), "job-2", told)])
        first.turn(TOLD_S)
        first.turn()
        assert receiver.titles() == ["free"]
    first.turn(TOLD_S)
    first.turn()
    assert receiver.titles() == ["free", "held"]
    assert receiver.notices[1]["times"] == 2


@pytest.mark.timeout(120)
def test_when_the_sender_is_killed_another_sends_again_under_the_same_id(
    stores: PostgresStores, tmp_path: Path, receiver: Receiver
) -> None:
    receiver.replies = [Reply(hang=True)]  # the first request is never answered
    variables = {
        "TALLYBOARD_DATABASE_URL": stores.url(tmp_path), "TALLYBOARD_WEBHOOK_URL": receiver.url,
        "TALLYBOARD_TENSORBOARD": "0", "TALLYBOARD_LOGDIR": str(tmp_path / "logdir"),
    }  # fmt: skip
    servers = [Server(tmp_path / name) for name in ("one", "two")]

    def sender() -> Server | None:
        """The one that holds share 0: its process's id is part of its name."""
        ((holder,),) = stores.server.query("SELECT holder FROM shares WHERE number = 0", database=database)
        return next((one for one in servers if f"-{one.pid}-" in str(holder)), None)

    try:
        for server in servers:
            server.folder.mkdir()
            server.start(variables=variables)
        database = stores.database(tmp_path)
        assert until(lambda: sender() is not None)
        to_kill = sender()
        assert to_kill is not None
        stays = servers[1 - servers.index(to_kill)]
        stays.service.post("/scalars/p/run", {"step": 1, "scalars": {"loss": 1.0}}, dict)
        stays.service.post("/alerts/p/run", {"title": "look"}, dict)
        assert until(lambda: len(receiver.came) == 1, 20.0)
        assert sender() is to_kill
        to_kill.kill()
        assert until(lambda: len(receiver.came) == 2, 20.0)
        assert receiver.came[0].delivery == receiver.came[1].delivery
        assert receiver.titles() == ["look"]
        assert until(lambda: stores.server.query("SELECT 1 FROM deliveries", database=database) == [])
    finally:
        for server in servers:
            server.stop()
        stores.remove(tmp_path)

"""What every store must do for watchdogs and notices: incidents, rules, the outbox, deliveries."""

from contextlib import suppress
from dataclasses import replace

import pytest

from tallyboard.wire import Alert
from tallyboard_server.model import Incident, KeptAlert
from tallyboard_server.store import watching
from tallyboard_server.store.protocol import Store
from tallyboard_server.store.watching import Delivery, Notice
from tests.contract.blocks import Reopen
from tests.contract.test_store import create, purge
from tests.stores import ENGINES, on

pytestmark = on(*ENGINES)


def incident(run_id: int, kind: str = "nonfinite", subject: str = "loss", at: float = 100.0) -> Incident:
    return Incident(run_id, kind, subject, at, "error", "loss is NaN", "at step 3\n", told=True, times=2)


def save(store: Store, *incidents: Incident) -> None:
    with store.transaction() as transaction:
        for one in incidents:
            transaction.save_incident(one)


def kept(title: str, at: float, text: str = "") -> KeptAlert:
    return KeptAlert(at, "p1", Alert(title=title, text=text, level="warn", wall_time=at, at={"step": 3}))


def queue(store: Store, run: str, *alerts: KeptAlert) -> int:
    with store.transaction() as transaction:
        return transaction.queue_notices(run, alerts)


def waiting(store: Store, limit: int = 100) -> list[Notice]:
    with store.snapshot() as view:
        return view.notices(limit=limit)


def test_incidents_come_back_whole_the_newest_first_and_by_project(reopen: Reopen) -> None:
    store = reopen()
    one, other = create(store, "p/one"), create(store, "q/other")
    first, second, third = incident(one.id), incident(one.id, "lost", "", 300.0), incident(other.id, at=200.0)
    save(store, first, second, third)
    store = reopen()
    with store.snapshot() as view:
        assert view.incidents() == [("p/one", second), ("q/other", third), ("p/one", first)]
        assert view.incidents(limit=1) == [("p/one", second)]
        assert view.incidents(prefix="p/") == [("p/one", second), ("p/one", first)]
        assert view.incidents(prefix="r") == []
        assert view.incidents(run_id=other.id) == [("q/other", third)]
        assert view.incident_kinds(one.id) == ["lost", "nonfinite"]
    changed = replace(second, told=False, level="info", times=3)
    save(store, changed)
    with store.transaction() as transaction:
        transaction.drop_incident(one.id, "nonfinite", "loss")
        transaction.drop_incident(one.id, "nonfinite", "never there")
    with store.snapshot() as view:
        assert view.incidents(run_id=one.id) == [("p/one", changed)]
        assert view.incident_kinds(one.id) == []  # what is only worth knowing marks no run


def test_incidents_go_with_their_run(reopen: Reopen) -> None:
    store = reopen()
    state, other = create(store, "p/one"), create(store, "p/other")
    save(store, *(incident(state.id, subject=str(number)) for number in range(10)), incident(other.id))
    with store.transaction() as transaction:
        transaction.delete_run(state)
    with store.snapshot() as view:
        assert view.incidents() == [("p/other", incident(other.id))]
    assert purge(store)
    store = reopen()
    again = create(store, "p/one")
    with store.snapshot() as view:
        assert view.incidents(run_id=state.id) == view.incidents(run_id=again.id) == []
        assert view.incident_kinds(state.id) == []


def test_rules_are_kept_by_project(reopen: Reopen) -> None:
    store = reopen()
    with store.transaction() as transaction:
        transaction.save_rules("", "{}")
        transaction.save_rules("p", '{"lost":false}')
        transaction.save_rules("p", '{"lost":true}')
        transaction.save_rules("q", "{}")
        transaction.save_rules("q", None)
        transaction.save_rules("never", None)
        assert transaction.lock_rules() == {"": "{}", "p": '{"lost":true}'}
    with reopen().snapshot() as view:
        assert view.rules() == {"": "{}", "p": '{"lost":true}'}


def test_one_title_of_a_run_waits_once_and_is_counted(reopen: Reopen) -> None:
    store = reopen()
    assert queue(store, "p/one", kept("a", 1.0), kept("b", 2.0), kept("a", 3.0, "newest")) == 0
    assert queue(store, "p/other", kept("a", 4.0)) == 0
    store = reopen()
    assert waiting(store) == [
        Notice(1, "p/one", 1.0, 2, kept("a", 3.0, "newest")), Notice(2, "p/one", 2.0, 1, kept("b", 2.0)),
        Notice(waiting(store)[2].id, "p/other", 4.0, 1, kept("a", 4.0)),
    ]  # fmt: skip
    assert len(waiting(store, 2)) == 2
    there = waiting(store)
    with store.transaction() as transaction:
        assert transaction.take_notices([2, 1, 99]) == there[:2]
        assert transaction.take_notices([1, 2]) == transaction.take_notices([]) == []
    queue(store, "p/one", kept("a", 5.0))
    assert [(one.run, one.times) for one in waiting(store)] == [("p/other", 1), ("p/one", 1)]


def test_the_oldest_are_forgotten_beyond_the_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "NOTICES_MAX", 3)
    assert queue(store, "p/one", *(kept(str(number), float(number)) for number in range(5))) == 2
    assert queue(store, "p/one", kept("4", 9.0)) == 0
    assert [one.alert.alert.title for one in waiting(store)] == ["2", "3", "4"]


def test_deliveries_are_kept_until_they_are_dropped(reopen: Reopen) -> None:
    store = reopen()
    first, second = Delivery("b", "", "[]", 1.0, 0, 1.0), Delivery("a", "p", "[1]", 2.0, 0, 2.0)
    with store.transaction() as transaction:
        for delivery in (second, first, replace(second, tries=3, next_at=7.5)):
            transaction.save_delivery(delivery)
    store = reopen()
    with store.snapshot() as view:
        assert view.deliveries() == [first, replace(second, tries=3, next_at=7.5)]
    with store.transaction() as transaction:
        transaction.defer_delivery("b", 2, 8.5)
    with store.snapshot() as view:
        assert view.deliveries()[0] == replace(first, tries=2, next_at=8.5)
    with store.transaction() as transaction:
        transaction.drop_delivery("a")
        transaction.drop_delivery("never")
        transaction.defer_delivery("a", 4, 9.5)  # what was taken meanwhile is not there again
    with store.snapshot() as view:
        assert view.deliveries() == [replace(first, tries=2, next_at=8.5)]


def test_nothing_remains_of_a_transaction_that_raised(store: Store) -> None:
    state = create(store)
    with suppress(KeyError), store.transaction() as transaction:
        transaction.save_incident(incident(state.id))
        transaction.save_rules("p", "{}")
        transaction.queue_notices("p/run", [kept("a", 1.0)])
        transaction.save_delivery(Delivery("a", "p", "[]", 1.0, 0, 1.0))
        raise KeyError
    with store.snapshot() as view:
        assert (view.incidents(), view.rules(), view.notices(limit=9), view.deliveries()) == ([], {}, [], [])

"""What every store must do with alerts: keep the newest of each run, and let go of them with it."""

from contextlib import suppress

import pytest

from tallyboard_server.model import AlertCount, RunState
from tallyboard_server.store.protocol import Store
from tests.contract.blocks import Reopen, alert
from tests.contract.test_store import create, purge
from tests.stores import ENGINES, on

pytestmark = on(*ENGINES)


def save(store: Store, state: RunState, *numbers: int) -> None:
    with store.transaction() as transaction:
        transaction.save(state, alerts=[alert(number) for number in numbers])


def test_they_come_back_whole_the_newest_first(reopen: Reopen) -> None:
    store = reopen()
    one, other = create(store, "p/one"), create(store, "p/other")
    save(store, one, 1, 2)
    save(store, other, 7)
    save(store, one, 3)
    with reopen().snapshot() as view:
        assert view.alerts(one.id) == [alert(3), alert(2), alert(1)]
        assert view.alerts(one.id, limit=2) == [alert(3), alert(2)]
        assert view.alerts(other.id) == [alert(7)]
        assert view.alert_count(one.id) == AlertCount(3, 103.0)
        assert view.alert_count(other.id + 1) == AlertCount(0, None)
        assert view.alerts(other.id + 1) == []


def test_the_newest_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard.wire.limits.ALERTS_KEPT_PER_RUN_MAX", 5)
    state, other = create(store, "p/one"), create(store, "p/other")
    save(store, other, 1)
    for start in (0, 4, 8):
        save(store, state, *range(start, start + 4))
    with store.snapshot() as view:
        assert view.alerts(state.id) == [alert(number) for number in (11, 10, 9, 8, 7)]
        assert view.alert_count(state.id) == AlertCount(5, 111.0)
        assert view.alert_count(other.id) == AlertCount(1, 101.0)


def test_nothing_remains_of_those_of_a_transaction_that_raised(store: Store) -> None:
    state = create(store)
    with suppress(KeyError), store.transaction() as transaction:
        transaction.save(state, alerts=[alert(1)])
        raise KeyError
    with store.snapshot() as view:
        assert view.alerts(state.id) == []


def test_they_go_with_their_run(reopen: Reopen) -> None:
    store = reopen()
    state, other = create(store, "p/one"), create(store, "p/other")
    save(store, state, *range(10))
    save(store, other, 1)
    with store.transaction() as transaction:
        transaction.delete_run(state)
    assert purge(store)
    store = reopen()
    again = create(store, "p/one")
    with store.snapshot() as view:
        assert view.alerts(state.id) == []
        assert view.alerts(again.id) == []
        assert view.alerts(other.id) == [alert(1)]

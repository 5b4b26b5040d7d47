"""What every store must do with the audit: keep entries in order, whole, and only those of what was committed."""

from contextlib import suppress

from tallyboard_server.principal import AuditEntry
from tallyboard_server.store.protocol import Store
from tests.contract.blocks import Reopen
from tests.contract.test_store import create, purge
from tests.stores import ENGINES, on

pytestmark = on(*ENGINES)


def entry(number: int, action: str = "run.create", run: str | None = "p/one") -> AuditEntry:
    return AuditEntry(0, 100.0 + number, f"user{number}", "tb_1", "192.0.2.7", action, run, f'{{"n":{number}}}')


def note(store: Store, *entries: AuditEntry) -> None:
    with store.transaction() as transaction:
        for one in entries:
            transaction.append_audit(one)


def numbers(store: Store, **query: object) -> list[int]:
    """Which entries a question finds, by the number that each was made with."""
    with store.snapshot() as view:
        return [int(found.at - 100) for found in view.audit(**query)]  # type: ignore[arg-type]


def test_they_come_back_whole_the_newest_first(reopen: Reopen) -> None:
    store = reopen()
    note(store, entry(1))
    note(store, entry(2, "backup.download", None), entry(3))
    with reopen().snapshot() as view:
        found = view.audit()
    assert [item.id for item in found] == [3, 2, 1]
    kept = found[1]
    assert (kept.at, kept.actor, kept.token, kept.address) == (102.0, "user2", "tb_1", "192.0.2.7")
    assert (kept.action, kept.run, kept.detail) == ("backup.download", None, '{"n":2}')


def test_each_filter_narrows_and_all_narrow_together(store: Store) -> None:
    note(store, entry(1), entry(2, run="p/two"), entry(3, "run.delete"), entry(4, run="q/one"), entry(5, run=None))
    assert numbers(store, run="p/one") == [3, 1]
    assert numbers(store, prefix="p/") == [3, 2, 1]
    assert numbers(store, prefix="p/", run="q/one") == []
    assert numbers(store, action="run.create") == [5, 4, 2, 1]
    assert numbers(store, prefix="p/", action="run.create", run="p/one") == [1]
    assert numbers(store, limit=2) == [5, 4]
    assert numbers(store, before=4, limit=2) == [3, 2]
    assert numbers(store, before=1) == []


def test_a_prefix_is_a_beginning_and_nothing_else(store: Store) -> None:
    note(store, entry(1, run="p%/a"), entry(2, run="p_/a"), entry(3, run="pp/a"), entry(4, run="p/\U0010fffd"))
    assert numbers(store, prefix="p%/") == [1]
    assert numbers(store, prefix="p_/") == [2]
    assert numbers(store, prefix="p/") == [4]


def test_nothing_remains_of_those_of_a_transaction_that_raised(store: Store) -> None:
    with suppress(KeyError), store.transaction() as transaction:
        transaction.append_audit(entry(1))
        raise KeyError
    assert numbers(store) == []


def test_they_outlive_their_run(store: Store) -> None:
    state = create(store, "p/one")
    note(store, entry(1))
    with store.transaction() as transaction:
        transaction.delete_run(state)
    assert purge(store)
    assert numbers(store, run="p/one") == [1]

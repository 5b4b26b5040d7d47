"""The server restarts, crashes or is away under a store: nothing that was acknowledged is lost, nothing comes twice."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.postgres import exchange as exchanges
from tallyboard_server.store.postgres import store as postgres_store
from tallyboard_server.store.postgres.connection import PostgresConnection, mapped_errors
from tallyboard_server.store.postgres.exchange import Statement
from tallyboard_server.store.postgres.transaction import PostgresTransaction
from tallyboard_server.store.protocol import Store, StoreBusyError, StoreError
from tests.contract.test_postgres_interleavings import report
from tests.contract.two_services import carried, shown
from tests.postgres import PgBouncer, Postgres, Stop, of_the_wheel, running
from tests.service import until

RUN = "p/run"
MORE = report(RUN, 5, producer="p", seq=2, checksum=7)
WAIT_S = 1.0
AWAY_S = 8.0
BACK_S = 4.0
"""Pauses between attempts to connect that went on doubling would be as long as the server was away."""
STOPS: tuple[Stop, ...] = ("fast", "immediate", "kill")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that no other test needs."""
    with running(of_the_wheel()) as started:
        yield started


@pytest.fixture
def store(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that has a run, and little patience."""
    monkeypatch.setattr(postgres_store, "CONNECTION_WAIT_S", WAIT_S)
    opened = PostgresStore.open(server.url(server.create_database()))
    carried(opened, report(RUN, 1, producer="p", seq=1))
    yield opened
    opened.close()
    if not server.is_running:
        server.start()


def steps(store: Store) -> list[int]:
    """Of the points that are there."""
    return [step for step, _ in shown(store, RUN)[RUN]["points"]["loss"]]


def change(store: Store, then: Callable[[], object]) -> None:
    """A transaction that changes the run, and does something else before it commits."""
    with store.transaction([RUN]) as transaction:
        state = transaction.load(RUN)
        assert state is not None
        transaction.save(replace(state, epoch=9))
        then()


@pytest.mark.parametrize("how", STOPS)
def test_what_was_acknowledged_outlives_the_server(server: Postgres, store: Store, how: Stop) -> None:
    """And the store goes on by itself: idle connections were lost, and are replaced as they are needed."""
    server.restart(how)
    assert steps(store) == [1, 2]
    server.restart(how)
    carried(store, MORE)
    assert steps(store) == [1, 2, 5, 6]


def ask_and_wait(store: Any) -> None:
    """Ask for what takes 20 s."""
    with store.transaction() as transaction, mapped_errors():
        transaction._connection.exchange([Statement(b"SELECT pg_sleep(20)")])


def test_who_gets_no_answer_does_not_wait_for_ever(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A COMMIT may wait for a standby, which no timeout of the server's ends."""
    monkeypatch.setattr(exchanges, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(exchanges, "_LOOK_EVERY_S", 0.05)
    begun = time.monotonic()
    with pytest.raises(StoreBusyError, match="did not answer"):
        ask_and_wait(store)
    assert time.monotonic() - begun < 10
    monkeypatch.undo()
    carried(store, MORE)
    assert steps(store) == [1, 2, 5, 6]


@pytest.mark.parametrize("how", STOPS)
def test_a_transaction_that_was_cut_off_leaves_nothing(server: Postgres, store: Store, how: Stop) -> None:
    with pytest.raises(StoreBusyError, match="could not be had"):
        change(store, lambda: server.restart(how))
    assert shown(store, RUN)[RUN]["state"][1] == 0
    carried(store, MORE)
    assert steps(store) == [1, 2, 5, 6]


@pytest.mark.parametrize("kept", [True, False])
def test_a_commit_in_doubt_is_settled_by_the_number_of_the_batch(
    server: Postgres, store: Store, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """kept: it was carried out, and its answer lost. Whoever sends the batch again finds it stored once."""
    commit = PostgresConnection.commit

    def interrupted(connection: PostgresConnection) -> None:
        monkeypatch.undo()
        if kept:
            commit(connection)
            server.restart("kill")
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        server.restart("kill")
        commit(connection)

    monkeypatch.setattr(PostgresConnection, "commit", interrupted)
    with pytest.raises(StoreBusyError):
        carried(store, MORE)
    assert steps(store) == ([1, 2, 5, 6] if kept else [1, 2])
    assert f"replayed={kept}" in carried(store, MORE)[0]
    assert steps(store) == [1, 2, 5, 6]


def test_what_was_rolled_back_is_not_taken_for_committed(store: Store) -> None:
    """PostgreSQL answers COMMIT without an error where a statement had failed, and rolls back."""

    def fail_unnoticed() -> None:
        with store.transaction() as transaction, suppress(psycopg.Error):
            assert isinstance(transaction, PostgresTransaction)
            transaction._connection.execute("SELECT 1 / 0")

    with pytest.raises(StoreError, match="rolled back"):
        fail_unnoticed()
    carried(store, MORE)


def test_while_the_server_is_away_it_is_said_in_time_and_soon_forgotten(server: Postgres, store: Store) -> None:
    server.stop("immediate")
    away_until = time.monotonic() + AWAY_S
    while time.monotonic() < away_until:
        for work in (lambda: steps(store), lambda: carried(store, MORE)):
            begun = time.monotonic()
            with pytest.raises(StoreBusyError, match="retry"):
                work()
            assert time.monotonic() - begun < 3 * WAIT_S
    server.start()
    assert until(lambda: is_back(store), BACK_S)
    carried(store, MORE)
    assert steps(store) == [1, 2, 5, 6]


def is_back(store: Store) -> bool:
    try:
        return bool(steps(store))
    except StoreBusyError:
        return False


def test_a_service_that_hangs_holds_a_run_for_a_while_only(
    server: Postgres, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine lost power within a transaction, say: the server ends it by itself."""
    hasty = tuple(one._replace(sql=one.sql.replace(b"'15s'", b"'1s'")) for one in postgres_store._BEGIN)
    assert hasty != postgres_store._BEGIN
    monkeypatch.setattr(postgres_store, "_BEGIN", hasty)
    ended = threading.Event()

    held = threading.Event()

    def wait() -> None:
        held.set()
        assert ended.wait(20)

    def hang() -> None:
        with pytest.raises(StoreBusyError):
            change(store, wait)

    hanging = threading.Thread(target=hang)
    hanging.start()
    assert held.wait(10)
    carried(store, MORE)  # comes again and again until it may
    ended.set()
    hanging.join(10)
    assert steps(store) == [1, 2, 5, 6]


def test_a_proxy_that_restarts_is_connected_to_again(postgres: Postgres, pgbouncer: PgBouncer) -> None:
    database = postgres.create_database()
    with closing(PostgresStore.open(pgbouncer.url(database))) as store:
        carried(store, report(RUN, 1, producer="p", seq=1))
        pgbouncer.restart()
        carried(store, MORE)
        assert steps(store) == [1, 2, 5, 6]
    postgres.drop_database(database)


def test_what_a_standby_did_not_get_is_not_remembered(server: Postgres) -> None:
    """It takes over, and another service's report comes where this one still has in memory what was lost."""
    primary = server.create_database()
    with closing(PostgresStore.open(server.url(primary))) as store:
        carried(store, report(RUN, 1, producer="p", seq=1))
    behind = server.create_database(template=primary)
    with closing(PostgresStore.open(server.url(primary))) as store:
        carried(store, MORE)
        server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", primary)
        server.query(f"ALTER DATABASE {primary} RENAME TO {primary}_lost")
        server.query(f"ALTER DATABASE {behind} RENAME TO {primary}")
        with closing(PostgresStore.open(server.url(primary))) as other:
            carried(other, report(RUN, 3, producer="p", seq=2, checksum=8))
            assert until(lambda: is_back(store), BACK_S)
            assert shown(store, RUN) == shown(other, RUN)
            carried(store, report(RUN, 9, producer="p", seq=3))
            assert shown(store, RUN) == shown(other, RUN)
            assert steps(other) == [1, 2, 3, 4, 9, 10]
    server.drop_database(primary)
    server.drop_database(f"{primary}_lost")

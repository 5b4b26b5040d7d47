"""The server restarts, crashes or is away under a store: nothing that was acknowledged is lost, nothing comes twice."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.postgres import store as postgres_store
from tallyboard_server.store.postgres.connection import PostgresConnection
from tallyboard_server.store.protocol import Store, StoreBusyError
from tests.contract.test_postgres_interleavings import report
from tests.contract.two_services import carried, shown
from tests.postgres import Postgres, Stop, of_the_wheel, running

RUN = "p/run"
MORE = report(RUN, 5, producer="p", seq=2, checksum=7)
WAIT_S = 1.0
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
    execute = PostgresConnection.execute

    def interrupted(connection: PostgresConnection, sql: str, *values: Any) -> Any:
        if sql != "COMMIT":
            return execute(connection, sql, *values)
        monkeypatch.undo()
        if kept:
            execute(connection, sql)
            server.restart("kill")
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        server.restart("kill")
        return execute(connection, sql)

    monkeypatch.setattr(PostgresConnection, "execute", interrupted)
    with pytest.raises(StoreBusyError):
        carried(store, MORE)
    assert steps(store) == ([1, 2, 5, 6] if kept else [1, 2])
    assert f"replayed={kept}" in carried(store, MORE)[0]
    assert steps(store) == [1, 2, 5, 6]


def test_while_the_server_is_away_it_is_said_in_time(server: Postgres, store: Store) -> None:
    server.stop("immediate")
    begun = time.monotonic()
    for work in (lambda: steps(store), lambda: carried(store, MORE)):
        with pytest.raises(StoreBusyError, match="retry"):
            work()
    assert time.monotonic() - begun < 5 * WAIT_S
    server.start()
    carried(store, MORE)
    assert steps(store) == [1, 2, 5, 6]


def test_a_service_that_hangs_holds_a_run_for_a_while_only(
    server: Postgres, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its machine lost power within a transaction, say: the server ends it by itself."""
    monkeypatch.setattr(postgres_store, "_BEGIN", postgres_store._BEGIN.replace("'15s'", "'1s'"))
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

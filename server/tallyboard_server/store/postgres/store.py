"""The store on PostgreSQL: a pool of connections, of which each transaction and each snapshot takes one."""

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq.abc import PGresult
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from tallyboard_server.model import Block
from tallyboard_server.store.migrations import UNFINISHED_MOVE, unfinished
from tallyboard_server.store.postgres.connection import UNAVAILABLE, PostgresConnection, mapped_errors
from tallyboard_server.store.postgres.exchange import Statement, exchange
from tallyboard_server.store.postgres.migrate import migrate
from tallyboard_server.store.postgres.peers import Peers
from tallyboard_server.store.postgres.transaction import PostgresTransaction, run_locks
from tallyboard_server.store.protocol import Group, Keep, StoreBusyError, StoreError
from tallyboard_server.store.sql import merging
from tallyboard_server.store.sql.cache import StateCache
from tallyboard_server.store.sql.snapshot import SqlSnapshot

logger = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 12
"""Of one service: six that read, as many as SQLite's, the writer, and the service's own work; one for its signs of life
alone, which wait for no other work: who gives none for seconds is dead to the others."""
CONNECTION_WAIT_S: Final = 10.0
CONNECTION_WAIT_AGAIN_S: Final = 0.5
"""Where one was waited for in vain a moment ago: while the database is away, answers that say so come soon."""
CONNECT_TIMEOUT_S: Final = 5
RECONNECT_S: Final = 2.0
"""So long is tried to have a connection again, ever more rarely; then as from the beginning, again and again."""
WAITING_MAX: Final = 200
"""Threads that may wait for a connection; the server's threads are fewer."""
STATEMENT_TIMEOUT_S: Final = 30
ABANDONED_AFTER_S: Final = 15
"""A transaction of which nothing is heard is ended by the server: a machine that lost its power may hold locks."""

_LIMITS: Final = Statement(
    f"SELECT set_config('statement_timeout', '{STATEMENT_TIMEOUT_S}s', true), "
    f"set_config('idle_in_transaction_session_timeout', '{ABANDONED_AFTER_S}s', true), "
    "set_config('synchronous_commit', 'on', true)".encode()
)
_BEGIN: Final = (Statement(b"BEGIN ISOLATION LEVEL READ COMMITTED"), _LIMITS)
_BEGIN_QUICK: Final = (*_BEGIN, Statement(b"SET LOCAL synchronous_commit = off"))
_BEGIN_READING: Final = (Statement(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"), _LIMITS)
_KEEPALIVE: Final = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


Pool = ConnectionPool[psycopg.Connection[Any]]


class PostgresStore:
    """A store in one PostgreSQL database; see store.protocol for what each method promises."""

    def __init__(self, url: str, *, connections_max: int = CONNECTIONS_MAX) -> None:
        self._cache = StateCache()
        self._closed = False
        self._missed_at = float("-inf")
        self._figures = {
            "store_commits_total": 0.0,
            "store_commit_seconds_total": 0.0,
            "store_unavailable_total": 0.0,
        }
        conninfo = connection_info(url)
        logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # else a line for each connection and try
        with mapped_errors():
            with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as connection:
                if connection.execute("SELECT to_regclass(%s)", (UNFINISHED_MOVE,)).fetchone() != (None,):
                    raise unfinished("the database")
                migrate(connection)
            self._pool = _pool(conninfo, 1, connections_max - 1)
            self._peers_pool = _pool(conninfo, 0, 1)

    @classmethod
    def open(cls, url: str) -> "PostgresStore":
        """Connect to a database (postgresql://user:password@host:port/name?…) and bring its schema up.

        Raises StoreError if that can't be.
        """
        return cls(url)

    @property
    def shared(self) -> bool:
        """See Store.shared."""
        return True

    @contextmanager
    def transaction(self, runs: Collection[str] = ()) -> Iterator[PostgresTransaction]:
        """See Store.transaction."""
        wanted = sorted(runs)
        begin = (*_BEGIN, *run_locks(wanted)) if wanted else _BEGIN
        with self._begun(begin) as (connection, answers):
            transaction = PostgresTransaction(connection, self._cache)
            try:
                if wanted:
                    transaction.locked(wanted, answers[len(_BEGIN) :])
                yield transaction
                transaction.flush()
                self._commit(connection)
            except BaseException:
                transaction.forget()  # whether a COMMIT in doubt went through is read from the database
                raise
            transaction.publish()

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        """See Store.snapshot."""
        with self._begun(_BEGIN_READING) as (connection, _):
            view = SqlSnapshot(connection, self._cache)
            try:
                yield view
            finally:
                view.close()

    @contextmanager
    def peers(self) -> Iterator[Peers]:
        """What this database's services know of each other, to be read and changed; of which a crash of the database
        may forget the newest."""
        with self._begun(_BEGIN_QUICK, self._peers_pool) as (connection, _), mapped_errors():
            yield Peers(connection)
            connection.commit()

    def services(self) -> int:
        """How many services work on this database now."""
        with self.peers() as peers:
            peers.bury()
            return peers.count()

    def maintain(self) -> None:
        """See Store.maintain: autovacuum does it."""

    def backup(self, target: Path) -> Iterator[float]:
        """See Store.backup: a database of many services is copied by its own means."""
        del target
        raise StoreError(
            "a store on PostgreSQL is copied with pg_dump, or by the archiving of its log; not by Tallyboard"
        )

    def prepare_merge(self, run_id: int, sources: Sequence[Block], groups: Sequence[Group] = ()) -> object:
        """See Store.prepare_merge."""
        return merging.pack_merge(run_id, sources, groups)

    def prepare_prune(self, group: Group, blocks: Sequence[Block], keep: Keep) -> object:
        """See Store.prepare_prune."""
        return merging.pack_prune(group, blocks, keep)

    def stats(self) -> dict[str, float]:
        """See Store.stats."""
        pools = [pool.get_stats() for pool in (self._pool, self._peers_pool)]

        def both(figure: str) -> float:
            return float(sum(pool.get(figure, 0) for pool in pools))

        return {
            **self._figures,
            "store_connections": both("pool_size"),
            "store_connections_idle": both("pool_available"),
            "store_connections_waited_for": both("requests_waiting"),
            "store_cached_runs": float(len(self._cache)),
        }

    def close(self) -> None:
        """See Store.close."""
        if not self._closed:
            self._closed = True
            self._pool.close()
            self._peers_pool.close()

    @contextmanager
    def _begun(
        self, begin: Sequence[Statement], pool: Pool | None = None
    ) -> Iterator[tuple[PostgresConnection, list[PGresult]]]:
        """A connection in a transaction, which is rolled back in the end unless it was committed; and what the
        statements that begin it were answered. pool: where it comes from, if not from that of all."""
        if self._closed:
            raise StoreError("the store is closed")
        pool = pool or self._pool
        raw, answers = self._taken(begin, pool)
        connection = PostgresConnection(raw)
        try:
            yield connection, answers
        finally:
            try:
                if connection.in_transaction:
                    raw.execute("ROLLBACK")
            except psycopg.Error:
                raw.close()
            pool.putconn(raw)

    def _taken(self, begin: Sequence[Statement], pool: Pool) -> tuple[psycopg.Connection[Any], list[PGresult]]:
        """A connection in which a transaction was begun; those that were lost while they were idle are replaced."""
        for attempt in (1, 2):
            raw = self._from_pool(pool)
            try:
                answers = exchange(raw, begin)
            except psycopg.Error as error:
                raw.close()
                pool.putconn(raw)
                self._figures["store_unavailable_total"] += 1
                if attempt == 2 or not isinstance(error, UNAVAILABLE):
                    with mapped_errors():
                        raise
                pool.check()  # the others were lost with it, mostly
            else:
                return raw, answers
        raise AssertionError("unreachable")

    def _from_pool(self, pool: Pool) -> psycopg.Connection[Any]:
        now = time.monotonic()
        patience_s = CONNECTION_WAIT_S if now - self._missed_at >= CONNECTION_WAIT_S else CONNECTION_WAIT_AGAIN_S
        try:
            return pool.getconn(patience_s)
        except PoolClosed as error:
            raise StoreError("the store is closed") from error
        except (PoolTimeout, TooManyRequests) as error:
            self._figures["store_unavailable_total"] += 1
            self._missed_at = time.monotonic()
            raise StoreBusyError("no connection to the database could be had in time; retry") from error

    def _commit(self, connection: PostgresConnection) -> None:
        begun = time.monotonic()
        with mapped_errors():
            connection.commit()
        self._figures["store_commits_total"] += 1
        self._figures["store_commit_seconds_total"] += time.monotonic() - begun


def _pool(conninfo: str, least: int, most: int) -> Pool:
    return ConnectionPool(
        conninfo,
        kwargs={"autocommit": True, "prepare_threshold": None},
        min_size=least,
        max_size=most,
        max_waiting=WAITING_MAX,
        timeout=CONNECTION_WAIT_S,
        reconnect_timeout=RECONNECT_S,
        reconnect_failed=ConnectionPool.check,  # which has it grow again
        name="tallyboard",
        open=True,
    )


def connection_info(url: str, *, application_name: str = "tallyboard") -> str:
    """libpq's form of a URL, with what this store sets where the URL does not. Raises StoreError."""
    defaults = {**_KEEPALIVE, "application_name": application_name}
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise StoreError(
            "the database's URL can't be read; it looks like postgresql://user:password@host:5432/name"
        ) from None  # libpq's message repeats the URL, and with it the password
    return make_conninfo("", **{name: str(value) for name, value in {**defaults, **given}.items()})

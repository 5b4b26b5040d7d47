"""Numbered migrations of PostgreSQL's schema, in pairs with SQLite's: each runs once, in a transaction with its number.

Services that start at the same time wait for each other here.
"""

from typing import Any, Final

import psycopg

from tallyboard_server.store.migrations import numbered
from tallyboard_server.store.protocol import StoreError

_LOCK: Final = 0x7A11_B0A2D
"""The key of the advisory lock under which migrations run."""
_LOCK_TIMEOUT_S: Final = 600
"""So long a service waits for another's migration, and a migration for transactions that read what it changes."""
_LIMITS: Final = (
    "SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true), "
    f"set_config('lock_timeout', '{_LOCK_TIMEOUT_S}s', true)"
)
"""In place of those that a hosted database may have for all: a migration of a large one takes its time."""


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, ascending and without gaps from 1."""
    return numbered(__package__)


def migrate(connection: psycopg.Connection[Any], up_to: int | None = None) -> None:
    """Bring the database to the newest schema (or one before it); refuse one that is newer than this program."""
    steps = migrations()[:up_to]
    while True:
        with connection.transaction():
            connection.execute(_LIMITS)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            version = schema_version(connection)
            if version > len(migrations()):
                raise StoreError(
                    f"the database was written by a newer Tallyboard (schema {version}, this one knows "
                    f"{len(steps)}); upgrade Tallyboard"
                )
            if version >= len(steps):
                return
            number, sql = steps[version]
            connection.execute(sql)
            connection.execute("UPDATE schema_version SET number = %s", (number,))


def schema_version(connection: psycopg.Connection[Any]) -> int:
    """The number of the newest migration that was applied."""
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        connection.execute("CREATE TABLE schema_version (number bigint NOT NULL)")
        connection.execute("INSERT INTO schema_version VALUES (0)")
    row = connection.execute("SELECT number FROM schema_version").fetchone()
    if row is None:
        raise StoreError("the database's schema_version is empty; it is damaged")
    return int(row[0])

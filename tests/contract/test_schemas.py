"""One schema on two engines: migrations in pairs, which from every earlier version lead to the same tables and rows.

Nothing here knows how many migrations there are: what is true of them is true of the next one, or its test fails.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FuturesTimeoutError
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import apsw
import psycopg
import pytest

from tallyboard_server.store import postgres, sqlite
from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.postgres import migrate as postgres_migrate
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.store.sql.tables import TABLES
from tallyboard_server.store.sqlite import migrate as sqlite_migrate
from tests.postgres import Postgres

ONLY_SQLITE: Final = {"sequence"}
"""PostgreSQL has a sequence for it."""
ONLY_POSTGRES: Final = {"schema_version", "replicas", "shares", "revisions"}
"""The version (a number in the header of SQLite's file), and what services on one database know of each other."""
ONLY_ROWS: Final = {"identity"}
"""What a migration puts there by chance."""
TYPES: Final = {"INTEGER": "bigint", "REAL": "double precision", "TEXT": "text", "BLOB": "bytea"}
KINDS: Final = {"int": "bigint", "float": "double precision", "text": "text", "bytes": "bytea"}
NEWEST: Final = len(sqlite_migrate.migrations())


@dataclass(frozen=True)
class Column:
    """Its type as PostgreSQL names it, whether it may be NULL, and its place in the primary key (0: in none)."""

    name: str
    type: str
    optional: bool
    key: int


class InSqlite:
    """A database in memory, at a version of the schema."""

    def __init__(self, version: int) -> None:
        self.connection = apsw.Connection(":memory:")
        for number, sql in sqlite_migrate.migrations()[:version]:
            self.connection.execute(sql)
            self.connection.execute(f"PRAGMA user_version={number}")

    def upgrade(self) -> None:
        sqlite_migrate.migrate(self.connection)

    def tables(self) -> dict[str, list[Column]]:
        names = self.connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return {name: self._columns(name) for (name,) in names}

    def _columns(self, table: str) -> list[Column]:
        return [
            Column(name, TYPES[type_], not (not_null or key), key)
            for _, name, type_, not_null, _, key in self.connection.execute(f"PRAGMA table_info({table})")
        ]

    def indexes(self) -> set[str]:
        """Those that have a name of their own."""
        found = self.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql NOT NULL")
        return {name for (name,) in found}

    def insert(self, table: str, row: dict[str, Any]) -> None:
        self.connection.execute(
            f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values())
        )

    def rows(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        return sorted(self.connection.execute(f"SELECT {', '.join(columns)} FROM {table}"), key=repr)


class InPostgres:
    """A database of the server's, at a version of the schema."""

    def __init__(self, server: Postgres, version: int) -> None:
        self.server = server
        self.name = server.create_database()
        self.url = server.url(self.name)
        self.connection: psycopg.Connection[Any] = psycopg.connect(self.url, autocommit=True)
        postgres_migrate.migrate(self.connection, up_to=version)

    def upgrade(self) -> None:
        postgres_migrate.migrate(self.connection)

    def version(self) -> int:
        with self.connection.transaction():
            return postgres_migrate.schema_version(self.connection)

    def tables(self) -> dict[str, list[Column]]:
        found: dict[str, list[Column]] = {}
        for table, column, type_, optional, key in self.connection.execute(
            "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), NOT a.attnotnull, "
            "coalesce(array_position(i.indkey::int[], a.attnum::int) + 1, 0) "
            "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary "
            "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace ORDER BY c.relname, a.attnum"
        ):
            found.setdefault(table, []).append(Column(column, type_, optional, key))
        return found

    def indexes(self) -> set[str]:
        """Those that have a name of their own."""
        found = self.connection.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'public' AND indexname !~ '_(pkey|key)$'"
        )
        return {name for (name,) in found}

    def insert(self, table: str, row: dict[str, Any]) -> None:
        statement = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})"
        self.connection.execute(statement.encode(), tuple(row.values()))

    def rows(self, table: str, columns: list[str]) -> list[tuple[Any, ...]]:
        return sorted(self.connection.execute(f"SELECT {', '.join(columns)} FROM {table}".encode()), key=repr)

    def close(self) -> None:
        self.connection.close()
        self.server.drop_database(self.name)


At = Callable[[int], InPostgres]


@pytest.fixture
def at(postgres: Postgres) -> Iterator[At]:
    """Makes databases on PostgreSQL at a version."""
    made: list[InPostgres] = []

    def make(version: int) -> InPostgres:
        made.append(InPostgres(postgres, version))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_migrations_are_paired_by_number() -> None:
    names = [
        sorted(file.name for file in resources.files(package).joinpath("migrations").iterdir() if ".sql" in file.name)
        for package in (sqlite, postgres)
    ]
    assert names[0] == names[1]
    assert len(names[0]) == NEWEST > 7


@pytest.mark.parametrize("version", range(1, NEWEST + 1))
def test_both_engines_have_the_same_tables_at_each_version(at: At, version: int) -> None:
    on_sqlite, on_postgres = InSqlite(version), at(version)
    assert on_postgres.version() == version
    mine, yours = on_sqlite.tables(), on_postgres.tables()
    assert mine.keys() - yours.keys() <= ONLY_SQLITE
    assert yours.keys() - mine.keys() <= ONLY_POSTGRES
    for table in mine.keys() & yours.keys() - ONLY_ROWS:
        assert mine[table] == yours[table], table
    assert on_sqlite.indexes() == on_postgres.indexes()


def test_statements_know_the_tables(at: At) -> None:
    """store.sql writes rows by the names of their columns, in bulk by their types."""
    tables = at(NEWEST).tables()
    assert tables.keys() == TABLES.keys() | ONLY_POSTGRES
    for table in TABLES.values():
        assert {column.name: column.type for column in tables[table.name]} == {
            name: KINDS[kind] for name, kind in table.columns.items()
        }
        assert {column.name: column.key for column in tables[table.name] if column.key} == {
            name: place for place, name in enumerate(table.key, 1)
        }


def test_text_is_ordered_by_its_bytes(at: At) -> None:
    """Names are paged and prefixes found by it, whatever language the database was made for."""
    ((other,),) = at(NEWEST).connection.execute(
        "SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "JOIN pg_collation o ON o.oid = a.attcollation "
        "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND o.collname <> 'C'"
    )
    assert other == 0


def made_up(column: Column, number: int) -> Any:
    """A value that says which row it is of."""
    if column.optional and number == 1:
        return None
    match column.type:
        case "bigint":
            return number
        case "double precision":
            return number + 0.5
        case "text":
            return str(number)  # which is JSON as well
    return bytes([number])


def fill(database: InSqlite | InPostgres, tables: dict[str, list[Column]]) -> None:
    """Three rows in each table, of which the second has all that may be absent absent."""
    for table, columns in sorted(tables.items()):
        if table in ONLY_SQLITE | ONLY_POSTGRES | ONLY_ROWS:
            continue
        for number in (1,) if any(column.name == "only_row" for column in columns) else (0, 1, 2):
            database.insert(table, {column.name: made_up(column, number) for column in columns})


@pytest.mark.parametrize("version", range(1, NEWEST))
def test_from_every_version_both_come_to_the_same_rows(at: At, version: int) -> None:
    on_sqlite, on_postgres = InSqlite(version), at(version)
    before = on_sqlite.tables()
    fill(on_sqlite, before)
    fill(on_postgres, before)
    kept = {table: columns for table, columns in before.items() if table not in ONLY_SQLITE | ONLY_ROWS}
    old = {table: on_postgres.rows(table, [column.name for column in columns]) for table, columns in kept.items()}
    assert all(old.values())
    on_sqlite.upgrade()
    on_postgres.upgrade()
    assert on_postgres.version() == NEWEST
    fresh = at(NEWEST)
    assert on_postgres.tables() == fresh.tables()
    assert on_postgres.indexes() == fresh.indexes()
    after = on_postgres.tables()
    for table in after.keys() - ONLY_POSTGRES - ONLY_ROWS:
        names = [column.name for column in after[table]]
        assert on_postgres.rows(table, names) == on_sqlite.rows(table, names), table
    for table, rows in old.items():
        assert len(on_postgres.rows(table, [after[table][0].name])) >= len(rows), table
    PostgresStore.open(on_postgres.url).close()


def test_services_that_start_at_once_wait_for_each_others_migrations(postgres: Postgres, at: At) -> None:
    empty = at(0)
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(lambda _: PostgresStore.open(empty.url), range(6)))
    try:
        assert empty.version() == NEWEST
        identities = set()
        for store in stores:
            with store.snapshot() as view:
                identities.add(view.identity())
        assert len(identities) == 1
    finally:
        for store in stores:
            store.close()


def test_a_migration_takes_its_time_whatever_the_limits_of_the_database(postgres: Postgres, at: At) -> None:
    database = at(NEWEST - 1)
    with psycopg.connect(database.url) as other:
        [name] = other.execute("SELECT current_database()").fetchone() or [""]
        for limit in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            postgres.query(f"ALTER DATABASE {name} SET {limit} = '50ms'")
        other.execute("SELECT pg_advisory_xact_lock(%s)", (postgres_migrate._LOCK,))
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(PostgresStore.open, database.url)
            with pytest.raises(FuturesTimeoutError):
                opening.result(0.5)
            other.rollback()
            opening.result(10.0).close()
    assert database.version() == NEWEST


def test_a_migration_that_fails_leaves_the_version_before_it(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, or nothing: what it did before it failed is undone, and it is carried out next time."""
    database = at(NEWEST - 1)
    before = database.tables()
    steps = postgres_migrate.migrations()
    number, sql = steps[-1]
    broken = [*steps[:-1], (number, f"{sql}; SELECT 1 / 0")]
    with monkeypatch.context() as patch:
        patch.setattr(postgres_migrate, "migrations", lambda: broken)
        with pytest.raises(StoreError, match="division by zero"):
            PostgresStore.open(database.url)
    assert (database.version(), database.tables()) == (NEWEST - 1, before)
    PostgresStore.open(database.url).close()
    assert (database.version(), database.tables()) == (NEWEST, at(NEWEST).tables())


def test_a_newer_schema_is_refused_untouched(at: At) -> None:
    database = at(NEWEST)
    database.connection.execute("UPDATE schema_version SET number = 999")
    with pytest.raises(StoreError, match="newer Tallyboard"):
        PostgresStore.open(database.url)
    assert database.version() == 999


def test_who_may_not_make_tables_is_told(postgres: Postgres, at: At) -> None:
    database = at(0)
    postgres.query("CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(StoreError, match="permission denied"):
            PostgresStore.open(postgres.url(database.name, user="stranger"))
    finally:
        postgres.query("DROP ROLE stranger")

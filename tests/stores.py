"""Stores of every engine, for suites that are written once: what a folder is to SQLite, a database is to PostgreSQL."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.protocol import Store
from tallyboard_server.store.sqlite import SqliteStore
from tests.postgres import PgBouncer, Postgres, of_debian

Engine = Literal["sqlite", "postgres", "pgbouncer", "debian"]
"""pgbouncer: the same PostgreSQL through a PgBouncer in transaction mode. debian: an older PostgreSQL, which sorts text
by a language unless it is told otherwise."""

ENGINES: Final[tuple[Engine, ...]] = ("sqlite", "postgres", "pgbouncer", *(("debian",) if of_debian() else ()))
POSTGRES: Final[tuple[Engine, ...]] = ENGINES[1:]

_templates: dict[Path, str] = {}
"""By the folder of a server, its database with the schema, which is copied for each store."""


class Stores:
    """Opens stores of one engine. A folder names a store: opened again, it is the same one."""

    engine: Engine = "sqlite"

    def open(self, folder: Path) -> Store:
        """The store of that name, made if there is none."""
        return SqliteStore.open(folder)

    def settings(self, folder: Path) -> dict[str, Any]:
        """What tells Settings to serve it; event files and the rest go below the folder."""
        return {"data_dir": folder}

    def remove(self, folder: Path) -> None:
        """A closed store is needed no more."""

    @contextmanager
    def opened(self, folder: Path) -> Iterator[Store]:
        """A store for as long as the block."""
        store = self.open(folder)
        try:
            yield store
        finally:
            store.close()
            self.remove(folder)


SQLITE: Final = Stores()


class PostgresStores(Stores):
    """Stores on a server, each in a database of its own; through a pool if there is one before the server."""

    def __init__(self, engine: Engine, server: Postgres, front: Postgres | PgBouncer) -> None:
        self.engine = engine
        self.server = server
        self._front = front
        self._databases: dict[Path, str] = {}

    def open(self, folder: Path) -> Store:
        """See Stores.open."""
        return PostgresStore.open(self.url(folder))

    def settings(self, folder: Path) -> dict[str, Any]:
        """See Stores.settings."""
        return {"data_dir": folder, "database_url": self.url(folder)}

    def url(self, folder: Path) -> str:
        """Where the store of that name is."""
        return self._front.url(self.database(folder))

    def database(self, folder: Path) -> str:
        """The database of that name, with the newest schema."""
        if folder not in self._databases:
            self._databases[folder] = self.server.create_database(template=_template(self.server))
        return self._databases[folder]

    def remove(self, folder: Path) -> None:
        """See Stores.remove."""
        if (name := self._databases.pop(folder, None)) is not None:
            self.server.drop_database(name)

    def close(self) -> None:
        """Remove all databases."""
        for folder in list(self._databases):
            self.remove(folder)


def _template(server: Postgres) -> str:
    if server.folder not in _templates:
        name = server.create_database()
        PostgresStore.open(server.url(name)).close()
        _templates[server.folder] = name
    return _templates[server.folder]


def given_on_engines(
    examples: int, *, elsewhere: int, **strategies: SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """hypothesis's `given` for tests that take `stores`: fewer examples on other engines than SQLite.

    What is proven there is that the engine gives the rows back as SQLite does; the code above them has no part that
    depends on the engine, and many examples on one.
    """

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        many, few = (
            settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])(
                given(**strategies)(body)
            )
            for count in (examples, elsewhere)
        )

        def test(**fixtures: Any) -> None:
            chosen = many if fixtures["stores"].engine == "sqlite" else few
            chosen(**fixtures)

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        test.__signature__ = inspect.signature(many)  # type: ignore[attr-defined]
        return test

    return decorate


def on(*engines: Engine) -> pytest.MarkDecorator:
    """Run what takes `stores` on each of these; the mark of a module, a class or a test."""
    return pytest.mark.engines(*engines)

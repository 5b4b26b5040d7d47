"""Stores on a PostgreSQL server, each in a database of its own that is copied from one with the newest schema."""

from pathlib import Path
from typing import Any

from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.protocol import Store
from tests.postgres import PgBouncer, Postgres
from tests.stores import Engine, Stores

_templates: dict[Path, str] = {}
"""By the folder of a server, its database with the schema, which is copied for each store."""


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

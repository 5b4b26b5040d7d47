"""Stores of every engine, for suites that are written once: what a folder is to SQLite, a database is to PostgreSQL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from tallyboard_server.store.protocol import Store
from tallyboard_server.store.sqlite import SqliteStore

Engine = Literal["sqlite", "postgres", "pgbouncer", "debian"]
"""pgbouncer: the same PostgreSQL through a PgBouncer in transaction mode. debian: an older PostgreSQL, which sorts text
by a language unless it is told otherwise."""

DEBIAN: Final = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
"""What Debian's packages have put on this machine, the oldest first."""
ENGINES: Final[tuple[Engine, ...]] = ("sqlite", "postgres", "pgbouncer", *(("debian",) if DEBIAN else ()))


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


def on(*engines: Engine) -> pytest.MarkDecorator:
    """Run what takes `stores` on each of these; the mark of a module, a class or a test."""
    return pytest.mark.engines(*engines)

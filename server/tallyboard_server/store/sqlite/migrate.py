"""Numbered migrations: each runs once, in order, in one transaction with the number it leaves behind."""

import apsw

from tallyboard_server.store.migrations import numbered
from tallyboard_server.store.protocol import StoreError


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, ascending and without gaps from 1."""
    return numbered(__package__)


def migrate(connection: apsw.Connection) -> None:
    """Bring the database to the newest schema; refuse one that is newer than this program."""
    steps = migrations()
    version = schema_version(connection)
    if version > len(steps):
        raise StoreError(
            f"the data directory was written by a newer Tallyboard (schema {version}, this one knows "
            f"{len(steps)}); upgrade Tallyboard"
        )
    for number, sql in steps[version:]:
        with connection:
            connection.execute(sql)
            connection.execute(f"PRAGMA user_version={number}")


def schema_version(connection: apsw.Connection) -> int:
    """The number of the newest migration that was applied."""
    version = connection.execute("PRAGMA user_version").get
    if not isinstance(version, int):
        raise StoreError(f"PRAGMA user_version answered {version!r}")
    return version

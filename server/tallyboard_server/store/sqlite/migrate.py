"""Numbered migrations: each runs once, in order, in one transaction with the number it leaves behind."""

import re
from importlib import resources

import apsw

from tallyboard_server.store.protocol import StoreError


def migrations() -> list[tuple[int, str]]:
    """(number, SQL) of every migration, ascending and without gaps from 1."""
    found = sorted(
        (int(match[1]), file.read_text(encoding="utf-8"))
        for file in resources.files(__package__).joinpath("migrations").iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    )
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise StoreError(f"migrations are not numbered 1, 2, 3, …: {[number for number, _ in found]}")
    return found


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

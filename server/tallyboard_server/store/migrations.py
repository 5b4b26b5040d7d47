"""Finding the numbered SQL files that bring a store's schema up."""

import re
from importlib import resources
from typing import Final

from tallyboard_server.store.protocol import StoreError

UNFINISHED_MOVE: Final = "unfinished_move"
"""A table that is there, in either engine, as long as a move into the store is not finished."""


def numbered(package: str) -> list[tuple[int, str]]:
    """(number, SQL) of every file in a package's `migrations`, ascending and without gaps from 1."""
    found = sorted(
        (int(match[1]), file.read_text(encoding="utf-8"))
        for file in resources.files(package).joinpath("migrations").iterdir()
        if (match := re.fullmatch(r"(\d{4})_\w+\.sql", file.name))
    )
    if [number for number, _ in found] != list(range(1, len(found) + 1)):
        raise StoreError(f"migrations are not numbered 1, 2, 3, …: {[number for number, _ in found]}")
    return found


def unfinished(name: str) -> StoreError:
    """Why a store that a move has not filled yet is not opened."""
    return StoreError(
        f"{name} is being filled by `tallyboard migrate`, which has not come to its end; give the same command again, "
        "and it goes on"
    )

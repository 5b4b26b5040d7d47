"""`tallyboard` with a fuse that ends it while it prunes: FUSE="<place>:<n>", see eager.PLACES and PRUNE_PLACES."""

import os
from collections.abc import Callable
from typing import Any

from tallyboard_server.cli import main
from tallyboard_server.store.sql import merging
from tallyboard_server.store.sqlite.transaction import SqliteTransaction
from tests.kill import eager


def _within_prune(blow: Callable[[], None]) -> None:
    """Blow the fuse when a group is deleted and what is left of it not yet inserted."""
    real = merging.insert_rows

    def insert_rows(connection: Any, rows: Any) -> None:
        blow()
        real(connection, rows)

    merging.insert_rows = insert_rows


def _around_prune(*, after: bool) -> Callable[[Callable[[], None]], None]:
    """Blow the fuse on the way into Transaction.prune, or out of it."""

    def arm(blow: Callable[[], None]) -> None:
        real = SqliteTransaction.prune

        def prune(self: SqliteTransaction, prune: object) -> int:
            if not after:
                blow()
            gone = real(self, prune)
            if after:
                blow()
            return gone

        SqliteTransaction.prune = prune  # type: ignore[method-assign, assignment]

    return arm


PRUNE_PLACES: dict[str, Callable[[Callable[[], None]], None]] = {
    "before prune": _around_prune(after=False),
    "within prune": _within_prune,
    "after prune": _around_prune(after=True),
}


if __name__ == "__main__":
    eager.PLACES |= PRUNE_PLACES
    if fuse := os.environ.pop("FUSE", None):
        eager.arm(fuse)
    main()

"""`tallyboard` as one of several on a database, eager, with a fuse (see eager) that ends it at one of PLACES."""

import os
from collections.abc import Callable
from typing import Final

from tallyboard_server.cli import main
from tallyboard_server.ingest import writer
from tallyboard_server.store.postgres.peers import Peers
from tallyboard_server.store.postgres.store import PostgresStore
from tests.kill import eager
from tests.kill.eager import _after, _before

PLACES: Final[dict[str, Callable[[Callable[[], None]], None]]] = {
    **{place: arm for place, arm in eager.PLACES.items() if "checkpoint" not in place},
    "before commit": _before(PostgresStore, "_commit"),
    "after commit": _after(PostgresStore, "_commit"),
    "before renewal": _before(Peers, "renew"),
    "after burying": _after(Peers, "bury"),
    "after claiming": _after(Peers, "claim"),
    "before giving back": _before(Peers, "release"),
    "after telling": _after(Peers, "tell"),
    "before leaving": _before(Peers, "leave"),
}


if __name__ == "__main__":
    eager.PLACES = PLACES
    eager.make_eager()
    writer.PURGE_LOOK_S = 1.0  # type: ignore[misc]
    if fuse := os.environ.pop("FUSE", None):
        eager.arm(fuse)
    main()

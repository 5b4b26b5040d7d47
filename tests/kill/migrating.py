"""Opens a store in a data directory and dies before its n-th SQL statement: `python -m tests.kill.migrating DIR N`."""

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import Any

import apsw

from tallyboard_server.store.sqlite import SqliteStore

_statements = itertools.count(1)


def die_at(number: int) -> None:
    """Let every new connection count its statements."""

    def traced(_cursor: Any, _sql: str, _bindings: Any) -> bool:
        if next(_statements) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    apsw.connection_hooks.append(lambda connection: connection.set_exec_trace(traced))


if __name__ == "__main__":
    die_at(int(sys.argv[2]))
    SqliteStore.open(Path(sys.argv[1])).close()

"""Several statements in one message to the server, answered together: a transaction takes as few turns as it can.

Each turn costs the way to the server and back and, in a busy process, the wait for the interpreter's lock: psycopg's
own pipeline gives that up for each statement.
"""

import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import psycopg
from psycopg import errors, pq
from psycopg.abc import PQGen
from psycopg.waiting import Ready, Wait

TIMEOUT_S: Final = 60.0
"""The server ends a statement sooner; not a COMMIT that waits for a standby, nor anything while it stands still."""
_LOOK_EVERY_S: Final = 1.0
_BINARY: Final = 1


class Statement(NamedTuple):
    """One statement, with `$1`, `$2`, … for its values; those are in binary form, of these types (by OID)."""

    sql: bytes
    values: Sequence[bytes] = ()
    types: Sequence[int] = ()


def exchange(connection: "psycopg.Connection[Any]", statements: Sequence[Statement]) -> list[pq.abc.PGresult]:
    """Run statements, of which each begins when the one before has ended; results are in binary form.

    Raises psycopg's error of the first that fails; those after it were not run. After TIMEOUT_S without all answers
    the connection is given up: nobody knows what came of them then.
    """
    raw = connection.pgconn
    if raw.status != pq.ConnStatus.OK:
        raise psycopg.OperationalError("the connection is closed")
    try:
        raw.enter_pipeline_mode()
        for statement in statements:
            count = len(statement.values)
            raw.send_query_params(statement.sql, statement.values, statement.types, [_BINARY] * count, _BINARY)
        raw.pipeline_sync()
        results = connection.wait(_results(raw, time.monotonic() + TIMEOUT_S), interval=_LOOK_EVERY_S)
        raw.exit_pipeline_mode()
    except BaseException:
        connection.close()  # nobody knows how far it has come
        raise
    for result in results:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise errors.error_from_result(result)
    return results


def _results(raw: pq.abc.PGconn, until: float) -> PQGen[list[pq.abc.PGresult]]:
    """Send all, then take results until the server says that it is through."""
    while raw.flush():
        if _in_time((yield Wait.RW), until) & Ready.R:
            raw.consume_input()
    found: list[pq.abc.PGresult] = []
    while True:
        while raw.is_busy():
            if _in_time((yield Wait.R), until) & Ready.R:
                raw.consume_input()
        result = raw.get_result()
        if result is None:  # the end of one statement's results
            continue
        if result.status == pq.ExecStatus.PIPELINE_SYNC:
            return found
        found.append(result)


def _in_time(ready: int, until: float) -> int:
    """What is ready: now and then nothing while one waits, which raises OperationalError if that is for too long."""
    if ready == Ready.NONE and time.monotonic() >= until:
        raise psycopg.OperationalError(f"the server did not answer within {TIMEOUT_S:.0f} s")
    return ready

"""What is kept of a run for people to see, the newest of it: what was refused, and alerts."""

from collections.abc import Sequence

import msgspec

from tallyboard.wire import Alert, Refusal, limits
from tallyboard_server.model import AlertCount, KeptAlert, KeptRefusal
from tallyboard_server.store.sql.connection import Connection

_encode = msgspec.json.Encoder().encode


def save_refused(connection: Connection, run_id: int, refused: Sequence[KeptRefusal]) -> None:
    """Append refusals, and forget the oldest of too many."""
    rows = [(kept.at, kept.producer, _encode(kept.refusal).decode()) for kept in refused]
    _append(connection, "refused", run_id, rows, limits.REFUSED_KEPT_PER_RUN_MAX)


def save_alerts(connection: Connection, run_id: int, alerts: Sequence[KeptAlert]) -> None:
    """Append alerts, and forget the oldest of too many."""
    rows = [(kept.at, kept.producer, _encode(kept.alert).decode()) for kept in alerts]
    _append(connection, "alerts", run_id, rows, limits.ALERTS_KEPT_PER_RUN_MAX)


def load_refused(connection: Connection, run_id: int, limit: int) -> list[KeptRefusal]:
    """The newest refusals of a run, newest first."""
    rows = connection.execute(
        "SELECT at, producer, refusal FROM refused WHERE run_id = ? ORDER BY id DESC LIMIT ?", (run_id, limit)
    )
    return [KeptRefusal(at, producer, msgspec.json.decode(text, type=Refusal)) for at, producer, text in rows]


def load_alerts(connection: Connection, run_id: int, limit: int) -> list[KeptAlert]:
    """The newest alerts of a run, newest first."""
    rows = connection.execute(
        "SELECT at, producer, alert FROM alerts WHERE run_id = ? ORDER BY id DESC LIMIT ?", (run_id, limit)
    )
    return [KeptAlert(at, producer, msgspec.json.decode(text, type=Alert)) for at, producer, text in rows]


def count_refused(connection: Connection, run_id: int) -> int:
    """How many refusals are kept of a run."""
    found = connection.execute("SELECT count(*) FROM refused WHERE run_id = ?", (run_id,)).get
    return found if isinstance(found, int) else 0


def count_alerts(connection: Connection, run_id: int) -> AlertCount:
    """How many alerts there are of a run, by their ids, which have no gaps."""
    newest = connection.execute(
        "SELECT id, at FROM alerts WHERE run_id = ? ORDER BY id DESC LIMIT 1", (run_id,)
    ).fetchone()
    if newest is None:
        return AlertCount(0, None)
    oldest = connection.execute("SELECT min(id) FROM alerts WHERE run_id = ?", (run_id,)).get
    if not isinstance(oldest, int):
        raise TypeError(f"alert id {oldest!r}")
    return AlertCount(newest[0] - oldest + 1, newest[1])


def _append(
    connection: Connection, table: str, run_id: int, rows: Sequence[tuple[float, str, str]], kept_max: int
) -> None:
    """Append (when, whose, JSON) to a table of such, and forget the oldest beyond kept_max."""
    newest = connection.execute(f"SELECT max(id) FROM {table} WHERE run_id = ?", (run_id,)).get or 0  # noqa: S608
    if not isinstance(newest, int):
        raise TypeError(f"{table} id {newest!r}")
    numbered = ((run_id, newest + 1 + i, *row) for i, row in enumerate(rows))
    connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", numbered)  # noqa: S608
    last_forgotten = newest + len(rows) - kept_max
    connection.execute(f"DELETE FROM {table} WHERE run_id = ? AND id <= ?", (run_id, last_forgotten))  # noqa: S608

"""A data directory in which every table holds something, and all rows of either engine, to compare."""

import struct
import time
from pathlib import Path
from typing import Any

import apsw
import msgspec
import psycopg

from tallyboard.wire import Alert
from tallyboard_server.ingest import Merger
from tallyboard_server.model import Incident, KeptAlert
from tallyboard_server.settings import Settings
from tallyboard_server.store.protocol import Transaction
from tallyboard_server.store.sql.tables import TABLES
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.store.watching import Delivery
from tests.service import RunningService, serving, until
from tests.summary_kit import event, framed, image_value, text_value

TOKEN = "an-admin-of-the-tests"
RUN = "a/long"
STEPS = 600
MERGED = 400
"""Of them so many lie in merged groups, long enough for cells of their own."""

ODD = (float("nan"), float("inf"), -0.0)
Rows = dict[str, list[tuple[Any, ...]]]


def furnish(data_dir: Path) -> str:
    """Make a data directory with something in every table; returns a token's text that is good for it."""
    settings = Settings(
        data_dir=data_dir, port=0, watchdogs=False, tensorboard=False, token=TOKEN,
        export_interval_s=0.05, export_sync_interval_s=0.1,
    )  # fmt: skip
    with serving(settings) as service:
        made = service.send("POST", "/tokens", {"scope": "write", "name": "job"}).json()
        fill(service)
    store = SqliteStore.open(data_dir)
    with store.transaction() as transaction:
        state = transaction.load(RUN)
        assert state is not None
        watched(transaction, state.id)
    store.close()
    connection = apsw.Connection(str(data_dir / "tallyboard.sqlite3"))  # as if it had ended before that was done
    connection.execute("INSERT OR REPLACE INTO deleted_runs SELECT next_run_id - 1, 'a/gone', 0 FROM sequence")
    for table in TABLES.values():  # what is younger than this kit has a row, too
        if connection.execute(f"SELECT 1 FROM {table.name}").get is None:
            values = [{"int": 1, "float": 1.5, "text": "x", "bytes": b"x"}[kind] for kind in table.columns.values()]
            connection.execute(f"INSERT INTO {table.name} VALUES ({', '.join('?' * len(values))})", values)
    connection.close()
    return str(made["token"])


def fill(service: RunningService) -> None:
    """What jobs, people and watchdogs leave."""
    for begin in range(0, MERGED, 10):
        send(service, RUN, begin // 10 + 1, reports=rows(begin, begin + 10))
    assert until(lambda: settled(service, RUN))
    merge(service, RUN)
    for begin in range(MERGED, STEPS, 50):
        send(service, RUN, begin // 50 + 40 - MERGED // 50 + 1, reports=rows(begin, begin + 50))
    for name in ("a/other", "b/ü", "a/gone"):
        send(
            service,
            name,
            1,
            open={"config": {"lr": 1e-4}, "group": "g", "tags": ["x"], "notes": "n"},
            reports=rows(0, 5),
        )
    send(service, "a/other", 2, rewind={"next_steps": {"global_step": 2}, "reason": "again"}, reports=rows(2, 4))
    refused = service.report("a/other", {"partial": True, "reports": rows(0, 1)})
    assert refused.status == 200
    send(service, "b/ü", 2, alerts=[{"title": "look", "text": "at this", "level": "warn"}], summary={"best": 0.5})
    values = [image_value("image", 1), text_value("text", "hello")]
    answer = service.request(
        "POST", "/api/v1/events/b/%C3%BC",
        framed(*(event(step, *values) for step in (1, 2))),
        {"Content-Type": "application/x-tfrecord"},
    )  # fmt: skip
    assert answer.status == 200, answer.body
    assert service.send("DELETE", "/runs/a/gone", {}).status == 204
    body = f"token={TOKEN}".encode()
    entered = service.request("POST", "/login", body, {"Content-Type": "application/x-www-form-urlencoded"})
    assert entered.status == 303
    assert until(lambda: all(settled(service, name) for name in (RUN, "a/other", "b/ü")))


def watched(transaction: Transaction, run_id: int) -> None:
    """What watchdogs and notices leave."""
    now = time.time()
    transaction.save_incident(Incident(run_id, "stalled", "global_step", now, "warn", "it stands", "still", True, 2))
    transaction.save_rules("a", '{"lost":false}')
    transaction.queue_notices(RUN, [KeptAlert(now, "p", Alert(title="one")), KeptAlert(now, "p", Alert(title="two"))])
    transaction.save_delivery(Delivery("id", "a", "[]", now, 3, now + 600))
    transaction.save_heartbeats({RUN: now - 5}, now)


def rows(first: int, end: int) -> list[dict[str, Any]]:
    """Reports of two tags, one of them with values that text would not keep."""
    return [
        {"step": step, "scalars": {"loss": step / 7, "odd": ODD[step // 3 % 3]}}
        if step % 3 == 2
        else {"step": step, "scalars": {"loss": step / 7}}
        for step in range(first, end)
    ]


def send(service: RunningService, run: str, seq: int, **parts: Any) -> None:
    """A numbered batch of producer p."""
    answer = service.report_bytes(run, msgspec.msgpack.encode({"producer": "p", "seq": seq} | parts))
    assert answer.status == 200, answer.body


def settled(service: RunningService, run: str) -> bool:
    """Whether the event file holds all there is, on disk."""
    with service.parts.store.snapshot() as view:
        state = view.load(run)
        assert state is not None
        live = [g for g in view.generations(state.id) if g.state == "live"]
        return bool(live) and live[-1].exported_pos == state.pos


def merge(service: RunningService, run: str) -> None:
    """Merge all there is to merge of a run."""
    with service.parts.store.snapshot() as view:
        state = view.load(run)
    assert state is not None
    assert Merger(service.parts.store, service.parts.ingest.record, min_blocks=2).merge_run(state.id)


def sqlite_rows(data_dir: Path) -> Rows:
    """Every row of every table of a data directory that nobody uses, in the order of keys."""
    connection = apsw.Connection(str(data_dir / "tallyboard.sqlite3"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = {table: [exact(row) for row in connection.execute(statement(table))] for table in TABLES}
        given = dict(connection.execute("SELECT name, seq FROM sqlite_sequence"))
        runs = connection.execute("SELECT next_run_id - 1 FROM sequence").get
        found["sequences"] = [(runs,), ("audit", given.get("audit", 0)), ("notices", given.get("notices", 0))]
    finally:
        connection.close()
    return found


def postgres_rows(url: str) -> Rows:
    """Every row of every table of a database, in the order of keys."""
    with psycopg.connect(url) as connection:
        found = {table: [exact(row) for row in connection.execute(statement(table).encode())] for table in TABLES}
        last = [connection.execute(f"SELECT {'last_value'}, is_called FROM {name}".encode()).fetchone()
                for name in ("run_ids", "audit_id_seq", "notices_id_seq")]  # fmt: skip
    runs, audit, notices = (row[0] - (not row[1]) for row in last if row is not None)
    found["sequences"] = [(runs,), ("audit", audit), ("notices", notices)]
    return found


def statement(table: str) -> str:
    """All columns, in the order of keys."""
    return f"SELECT {', '.join(TABLES[table].columns)} FROM {table} ORDER BY {', '.join(TABLES[table].key)}"


def exact(row: Any) -> tuple[Any, ...]:
    """Floats by their bits."""
    return tuple(struct.pack("<d", value) if isinstance(value, float) else value for value in row)

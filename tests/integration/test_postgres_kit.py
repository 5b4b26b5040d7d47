"""What tests with PostgreSQL rely on: it is gone with the process that started it, and PgBouncer mixes sessions."""

import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.postgres import PgBouncer, Postgres
from tests.service import until

_STARTED_AND_LEFT = """
import sys, time
from tests.postgres import Postgres, of_the_wheel
server = Postgres(of_the_wheel())
server.start()
print(server.folder, flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_no_server(postgres: Postgres) -> None:
    """The fixture is asked for because it skips where there is no PostgreSQL."""
    assert postgres.is_running
    with subprocess.Popen(
        [sys.executable, "-c", _STARTED_AND_LEFT], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        server = psutil.Process(int((folder / "data" / "postmaster.pid").read_text().split()[0]))
        process.kill()
    assert until(lambda: not folder.exists())
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE  # nobody may be there to bury it


def test_databases_are_copies_of_their_own(postgres: Postgres) -> None:
    template = postgres.create_database()
    postgres.query("CREATE TABLE numbers AS SELECT generate_series(1, 3) AS number", database=template)
    one, other = (postgres.create_database(template=template) for _ in range(2))
    postgres.query("DELETE FROM numbers", database=one)
    assert [postgres.query("SELECT count(*) FROM numbers", database=name) for name in (one, other)] == [[(0,)], [(3,)]]
    for name in (one, other, template):
        postgres.drop_database(name)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        postgres.query("SELECT 1", database=one)


def test_a_client_of_pgbouncer_meets_other_sessions(pgbouncer: PgBouncer) -> None:
    """What it prepared in one is not there in the next, and others may have the one that it had."""
    with (
        psycopg.connect(pgbouncer.url(), autocommit=True) as mine,
        psycopg.connect(pgbouncer.url(), autocommit=True) as other,
    ):
        with mine.transaction():
            mine.execute("PREPARE mine AS SELECT 1")
            first = mine.execute("SELECT pg_backend_pid()").fetchone()
        with other.transaction():
            assert other.execute("SELECT pg_backend_pid()").fetchone() == first
            with pytest.raises(psycopg.errors.InvalidSqlStatementName):
                mine.execute("EXECUTE mine")

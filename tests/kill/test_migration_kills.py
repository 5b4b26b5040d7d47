"""A migration killed between any two statements leaves the old schema as it was, and is carried out next time."""

import shutil
import signal
from pathlib import Path

import apsw
import pytest

from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.store.sqlite.migrate import migrations, schema_version
from tests import forked
from tests.cli_process import clean
from tests.kill.kills import EXIT_TIMEOUT_S

pytestmark = pytest.mark.slow

_STATEMENTS_MAX = 80


def old_store(path: Path) -> None:
    """A data directory of the first schema with a run whose first attempt holds something, and its second nothing."""
    path.mkdir()
    connection = apsw.Connection(str(path / "tallyboard.sqlite3"))
    connection.execute("PRAGMA page_size=16384; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL")
    connection.execute(migrations()[0][1])
    connection.execute("PRAGMA user_version=1")
    connection.execute(
        "INSERT INTO runs VALUES (1, 'a/b', NULL, 1.0, 'running', NULL, NULL, NULL, '[]', '{}', '{}', '{}', '[]', 0);"
        "INSERT INTO heads VALUES (1, 0, 0, 1, 1.0);"
        "INSERT INTO counters VALUES (1, 1, 'global_step', NULL);"
        "INSERT INTO attempts VALUES (1, 1, 1, 'a', 0, 4, 4, 5, 10, x'', x'');"
        "INSERT INTO attempts VALUES (1, 1, 2, 'b', 5, NULL, NULL, 0, 0, x'', x'')"
    )
    connection.close()


def schema(path: Path) -> tuple[int, list[str]]:
    """Version and definitions in a database that nobody uses."""
    connection = apsw.Connection(str(path / "tallyboard.sqlite3"))
    try:
        found = [sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOTNULL ORDER BY name")]
        return schema_version(connection), found
    finally:
        connection.close()


def between(path: Path) -> list[tuple[int, list[str]]]:
    """The schemas that lie between the first and the newest."""
    old_store(path)
    found = []
    for number, sql in migrations()[1:-1]:
        connection = apsw.Connection(str(path / "tallyboard.sqlite3"))
        connection.execute(sql)
        connection.execute(f"PRAGMA user_version={number}")
        connection.close()
        found.append(schema(path))
    return found


def open_and_die(path: Path, number: int) -> int | None:
    """Open a store and die before the n-th statement; how the process ended, 0 if there was no such statement."""
    arguments = ["tests.kill.migrating", str(path), str(number)]
    process = forked.start(arguments, path.with_suffix(".log"), clean({}))
    process.join(EXIT_TIMEOUT_S)
    return process.exitcode


def test_killed_between_any_two_statements(tmp_path: Path) -> None:
    old_store(tmp_path / "old")
    before = schema(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    SqliteStore.open(tmp_path / "new").close()
    after = schema(tmp_path / "new")
    assert (before[0], after[0]) == (1, len(migrations()))
    allowed = [before, *between(tmp_path / "between"), after]
    found = []
    for number in range(1, _STATEMENTS_MAX):
        path = tmp_path / f"killed{number}"
        shutil.copytree(tmp_path / "old", path)
        if (ended := open_and_die(path, number)) == 0:
            break
        assert ended == -signal.SIGKILL
        assert schema(path) in allowed, number
        found.append(schema(path)[0])
        check_upgraded(path, after)
    assert found == sorted(found)
    assert found.count(1) > 6  # the statements of the migration, and those before it
    assert found[-1] == len(migrations())


def check_upgraded(path: Path, after: tuple[int, list[str]]) -> None:
    """The next start brings it to the newest schema, with all that was in it."""
    store = SqliteStore.open(path)
    with store.snapshot() as view:
        state = view.load("a/b")
        assert state is not None
        assert [(a.scalars, a.checksum) for a in state.counters["global_step"].attempts] == [(10, None), (0, 0)]
    store.close()
    assert schema(path) == after


def test_killed_while_a_store_is_made(tmp_path: Path) -> None:
    for number in (1, 3, 8, 12, 20, 28):
        path = tmp_path / str(number)
        assert open_and_die(path, number) == -signal.SIGKILL
        SqliteStore.open(path).close()
        assert schema(path)[0] == len(migrations())

"""`tallyboard migrate` on real stores: everything is there afterwards, jobs go on, and what can't be is refused."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import psycopg
import pytest

from tallyboard_server.cli.output import Exit
from tallyboard_server.move import Ends, Move, PostgresEnd, SqliteEnd
from tallyboard_server.settings import Settings, without_password
from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.store.sqlite import SqliteStore
from tests.cli_process import Cli, Outcome
from tests.move_kit import RUN, STEPS, TOKEN, furnish, postgres_rows, rows, sqlite_rows
from tests.postgres import PgBouncer, Postgres
from tests.service import serving

Moving = Callable[..., Outcome]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A data directory with something in every table, and the text of a token; nobody may change it."""
    folder = tmp_path_factory.mktemp("furnished") / "data"
    token = furnish(folder)
    return folder, token


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The URL of an empty database."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture
def move(command: Cli) -> Moving:
    """`tallyboard migrate`, with data directories as paths."""

    def run(source: str | Path, target: str | Path, *options: str) -> Outcome:
        named = [f"sqlite:{store}" if isinstance(store, Path) else store for store in (source, target)]
        return command("migrate", "--from", named[0], "--to", named[1], *options)

    return run


def test_the_kit_has_something_in_every_table(furnished: tuple[Path, str]) -> None:
    assert [table for table, found in sqlite_rows(furnished[0]).items() if not found] == []


def test_there_and_back_every_row_is_what_it_was(
    furnished: tuple[Path, str], database: str, tmp_path: Path, move: Moving
) -> None:
    source, _ = furnished
    before, expected = digest(source), sqlite_rows(source)
    there = move(source, database, "--keep-event-files")
    assert (there.code, there.err) == (0, "")
    assert "none differs" in there.out
    assert "what was acknowledged is there" in there.out
    assert postgres_rows(database) == expected
    back = move(database, tmp_path / "back", "--keep-event-files")
    assert (back.code, back.err) == (0, "")
    assert sqlite_rows(tmp_path / "back") == expected
    assert digest(source) == before


def test_jobs_go_on_and_nothing_is_lost(
    furnished: tuple[Path, str], database: str, tmp_path: Path, move: Moving
) -> None:
    source, token = furnished
    assert move(source, database).code == 0
    settings = Settings(
        data_dir=tmp_path, database_url=database, port=0, watchdogs=False, token=TOKEN,
        export_interval_s=0.05, export_sync_interval_s=0.1,
    )  # fmt: skip
    with serving(settings) as service:
        service.headers["Authorization"] = f"Bearer {token}"
        assert service.report("a/new", {"step": 1, "scalars": {"loss": 1}}).status == 200
        last = msgspec.msgpack.encode({"producer": "p", "seq": 44, "reports": rows(550, STEPS)})
        assert service.report_bytes(RUN, last).json()["replayed"] is True
        one = {"producer": "p", "reports": [{"step": STEPS, "scalars": {"loss": 1}}]}
        gap = service.report(RUN, one | {"seq": 46})
        assert (gap.status, gap.json()["expected_seq"]) == (409, 45)
        wrong = service.report(RUN, one | {"seq": 44})
        assert (wrong.status, wrong.json()["code"]) == (409, "seq_reused")
        following = service.report(RUN, one | {"seq": 45})
        assert (following.status, following.json()["accepted"]) == (200, 1)
        points = service.points(RUN, "loss")
        assert [step for step, _ in points] == list(range(STEPS + 1))
        assert service.send("DELETE", "/runs/a/new", {}).status == 403
        service.headers["Authorization"] = f"Bearer {TOKEN}"
        lines = service.get(f"/verify/{RUN}").body.splitlines()
        assert b'"ok":true' in lines[-1], lines[-1]
        audit = service.get("/audit").json()["entries"]
        assert len({entry["id"] for entry in audit}) == len(audit)
    generations = postgres_rows(database)["generations"]
    assert [row[9] for row in generations if row[0] == 1][-1] == "live"
    ids = {row[1]: row[0] for row in postgres_rows(database)["runs"]}
    assert ids["a/new"] == 5  # the fourth was deleted


def digest(data_dir: Path) -> bytes:
    """What the database file holds, and its log."""
    found = hashlib.sha256()
    for name in ("tallyboard.sqlite3", "tallyboard.sqlite3-wal"):
        if (path := data_dir / name).exists():
            found.update(path.read_bytes())
    return found.digest()


class TestRefused:
    """What can't be moved, and where nothing may be moved to; all of it leaves both ends as they are."""

    def test_a_source_that_a_service_uses(self, database: str, tmp_path: Path, move: Moving) -> None:
        store = SqliteStore.open(tmp_path / "data")
        done = move(tmp_path / "data", database)
        store.close()
        assert (done.code, "is in use by process" in done.err) == (1, True)

    def test_a_database_that_a_service_uses(self, database: str, tmp_path: Path, move: Moving) -> None:
        settings = Settings(data_dir=tmp_path / "data", database_url=database, port=0, watchdogs=False)
        with serving(settings):
            away = move(database, tmp_path / "away")
            here = move(furnish_small(tmp_path / "small"), database)
        for done in (away, here):
            assert (done.code, "in use by 1 running service(s); stop them first" in done.err) == (1, True), done.err

    def test_a_target_with_other_runs(self, database: str, tmp_path: Path, move: Moving) -> None:
        one, other = furnish_small(tmp_path / "one"), furnish_small(tmp_path / "other")
        assert move(one, database).code == 0
        before = postgres_rows(database)
        done = move(other, database)
        assert (done.code, "is not empty (it holds runs)" in done.err) == (1, True)
        again = move(one, database)
        assert (again.code, "holds this very store already" in again.err) == (1, True)
        assert postgres_rows(database) == before

    def test_another_schema(self, database: str, tmp_path: Path, move: Moving) -> None:
        one, other = furnish_small(tmp_path / "one"), furnish_small(tmp_path / "other")
        assert move(one, database).code == 0
        for change, said in (
            ("- 1", "let `tallyboard serve` of this version start on it once"), ("+ 2", "written by a newer Tallyboard")
        ):  # fmt: skip
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute(f"UPDATE schema_version SET number = number {change}".encode())
            for done in (move(other, database), move(database, tmp_path / "back")):
                assert (done.code, said in done.err) == (1, True)
        assert not (tmp_path / "back").exists()

    def test_what_is_no_store(self, database: str, tmp_path: Path, move: Moving) -> None:
        absent = move(tmp_path / "absent", database)
        assert (absent.code, absent.err) == (
            1,
            f"tallyboard: {tmp_path / 'absent'} is no data directory of Tallyboard\n",
        )
        assert not (tmp_path / "absent").exists()
        empty = move(database, tmp_path / "new")
        assert (empty.code, "holds nothing of Tallyboard" in empty.err) == (1, True)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize(
        ("source", "target", "said"),
        [
            ("postgresql://a/b", "postgresql://a/c", "pg_dump"),
            ("sqlite:a", "sqlite:b", "tallyboard backup"),
            ("sqlite:", "postgresql://a/c", "write sqlite:DATA_DIR or postgresql://"),
            ("mysql://a:secret@b", "sqlite:x", "write sqlite:DATA_DIR or postgresql://"),
            ("-", "sqlite:x", "TALLYBOARD_DATABASE_URL is no database's URL"),
        ],
    )
    def test_what_is_no_move(self, source: str, target: str, said: str, move: Moving) -> None:
        done = move(source, target)
        assert (done.code, said in done.err, "secret" in done.err) == (Exit.FAILED, True, False), done.err


class TestUnfinished:
    """A move that was cut off."""

    @pytest.fixture
    def begun(self, database: str, tmp_path: Path) -> tuple[Path, str]:
        """A source, and a target that holds some of it."""
        source = furnish_small(tmp_path / "data")
        leave_at(source, database, "journal …")
        return source, database

    def test_no_service_opens_it(self, begun: tuple[Path, str], tmp_path: Path, move: Moving) -> None:
        source, database = begun
        with pytest.raises(StoreError, match="being filled by `tallyboard migrate`"):
            PostgresStore.open(database)
        assert move(source, database).code == 0
        leave_at(database, tmp_path / "back", "journal …")
        with pytest.raises(StoreError, match="being filled by `tallyboard migrate`"):
            SqliteStore.open(tmp_path / "back")
        half = move(tmp_path / "back", database)
        assert (half.code, "holds a move that was not finished" in half.err) == (1, True)

    def test_it_goes_on(self, begun: tuple[Path, str], move: Moving) -> None:
        source, database = begun
        done = move(source, database)
        assert (done.code, "going on with a move that was cut off" in done.out) == (0, True)
        expected = sqlite_rows(source)
        expected["generations"] = [
            tuple("retired" if v == "live" else v for v in row) for row in expected["generations"]
        ]
        assert postgres_rows(database) == expected

    def test_but_not_otherwise_than_it_began(self, begun: tuple[Path, str], tmp_path: Path, move: Moving) -> None:
        source, database = begun
        flag = move(source, database, "--keep-event-files")
        assert (flag.code, "began without --keep-event-files" in flag.err) == (1, True)
        other = move(furnish_small(tmp_path / "other"), database)
        assert (other.code, "unfinished move of another store" in other.err) == (1, True)
        with serving(Settings(data_dir=source, port=0, watchdogs=False)) as service:
            assert service.report("a/later", {"step": 1, "scalars": {"loss": 1}}).status == 200
        later = move(source, database)
        assert (later.code, "was in use since this move" in later.err) == (1, True)

    def test_one_at_a_time(self, begun: tuple[Path, str], move: Moving) -> None:
        source, database = begun
        end = PostgresEnd(database, "there", target=True)
        done = move(source, database)
        end.close()
        assert (done.code, "another `tallyboard migrate` works on" in done.err) == (1, True)


def test_a_proxy_that_takes_sessions_apart_is_refused(postgres: Postgres, pgbouncer: PgBouncer) -> None:
    """The move's lock would stay in a session that is anybody's next, and be no lock to another move there."""
    name = postgres.create_database()
    with pytest.raises(StoreError, match="give the address of PostgreSQL itself"):
        PostgresEnd(pgbouncer.url(name), "the database", target=True)
    assert postgres.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", database=name) == [(0,)]
    postgres.drop_database(name)


def test_what_differs_is_listed(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: Moving) -> None:
    source = furnish_small(tmp_path / "data")
    changes = (
        "UPDATE runs SET notes = 'other' WHERE id = 1",
        "DELETE FROM producers",
        "INSERT INTO tombstones VALUES ('a/x', 1)",
        "UPDATE counters SET total = 7",
    )

    def spoil(*_: Any) -> None:
        with psycopg.connect(database) as connection:
            for change in changes:
                connection.execute(change.encode())

    monkeypatch.setattr(PostgresEnd, "settle", spoil)
    done = move(source, database)
    assert done.code == 1
    assert "  ✗ runs (1) differs in notes\n" in done.out
    assert "  ✗ producers (1, p) is not in the target\n" in done.out
    assert "  ✗ counters (1, 1) differs in total\n" in done.out
    assert "  ✗ tombstones (a/x) is in the target only\n" in done.out
    assert done.err.splitlines()[-1] == "tallyboard: 4 differences; begin anew with an empty target"
    with pytest.raises(StoreError, match="being filled"):
        PostgresStore.open(database)


def test_what_was_lost_before_is_told(database: str, tmp_path: Path, move: Moving) -> None:
    source = furnish_small(tmp_path / "data")
    connection = apsw.Connection(str(source / "tallyboard.sqlite3"))
    connection.execute("DELETE FROM journal WHERE id = (SELECT max(id) FROM journal)")
    connection.close()
    done = move(source, database)
    assert (done.code, "none differs" in done.out) == (1, True)
    assert "not all that was acknowledged is there, and was not in the source, either" in done.out
    PostgresStore.open(database).close()


def test_texts_that_postgresql_can_not_hold(database: str, tmp_path: Path, move: Moving) -> None:
    source = furnish_small(tmp_path / "data")
    connection = apsw.Connection(str(source / "tallyboard.sqlite3"))
    connection.execute("UPDATE runs SET notes = ?", ("one\0two",))
    connection.close()
    done = move(source, database)
    assert (done.code, "1 row had texts with the character U+0000" in done.out) == (0, True)
    with closing(PostgresStore.open(database)) as store, store.snapshot() as view:
        state = view.load("a/b")
    assert state is not None
    assert state.meta.notes == "one\ufffdtwo"


def leave_at(source: str | Path, target: str | Path, step: str) -> None:
    """Begin a move, and let go when it comes to that."""
    ends = [
        SqliteEnd(store, target=is_target)
        if isinstance(store, Path)
        else PostgresEnd(store, without_password(store), target=is_target)
        for store, is_target in ((source, False), (target, True))
    ]
    moving = Move(Ends(*ends)).steps()
    while next(moving) != step:
        pass
    moving.close()  # type: ignore[attr-defined]
    for end in ends:
        end.close()


def furnish_small(data_dir: Path) -> Path:
    """A data directory with one run."""
    with serving(Settings(data_dir=data_dir, port=0, watchdogs=False, tensorboard=False)) as service:
        answer = service.report("a/b", {"producer": "p", "seq": 1, "step": 1, "scalars": {"loss": 0.5}})
        assert answer.status == 200
    return data_dir

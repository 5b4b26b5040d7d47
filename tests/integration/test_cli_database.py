"""Commands that open a PostgreSQL database by themselves, and docs/postgresql.md, whose lines work as they stand."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import typer

from tallyboard_server.cli.commands import app
from tallyboard_server.move import Ends, Move, PostgresEnd, SqliteEnd
from tallyboard_server.replicas import replica
from tallyboard_server.settings import WORKERS_MAX, Settings
from tallyboard_server.store.postgres import PostgresStore
from tallyboard_server.store.postgres import store as postgres_store
from tallyboard_server.store.protocol import StoreError
from tests.cli_process import Cli, clean
from tests.move_kit import RUN, STEPS, TOKEN, furnish
from tests.postgres import Postgres, of_the_wheel
from tests.service import RunningService, serving, until

PAGE = (Path(__file__).parents[2] / "docs" / "postgresql.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
LINES = [line for block in BLOCKS for line in block.splitlines()]


@pytest.fixture(scope="module")
def moved(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL of a database with runs, moved there, and the folder with its event files; tests change it little."""
    folder = tmp_path_factory.mktemp("moved")
    furnish(folder / "data")
    name = postgres.create_database()
    url = postgres.url(name)
    with (
        closing(SqliteEnd(folder / "data", target=False)) as source,
        closing(PostgresEnd(url, "there", target=True)) as target,
    ):
        for _ in Move(Ends(source, target), keep_event_files=True).steps():
            pass
    with serving(of_database(url, folder)) as service:  # the kit's made-up rows aside, files are as they should be
        assert until(lambda: all(b'"ok":true' in verified(service, run) for run in (RUN, "a/other", "b/%C3%BC")))
    yield url, folder
    postgres.drop_database(name)


def of_database(url: str, folder: Path) -> Settings:
    """A service on it."""
    return Settings(
        data_dir=folder / "data", database_url=url, port=0, watchdogs=False, tensorboard=False, token=TOKEN,
        export_interval_s=0.05, export_sync_interval_s=0.1,
    )  # fmt: skip


def verified(service: RunningService, run: str) -> bytes:
    """The last line of a verification."""
    return service.get(f"/verify/{run}").body.splitlines()[-1]


@pytest.fixture
def database(moved: tuple[str, Path]) -> str:
    """The database's URL."""
    return moved[0]


@pytest.fixture
def logdir(moved: tuple[str, Path]) -> str:
    """Where its event files are."""
    return str(moved[1] / "data" / "logdir")


class TestCommands:
    def test_verify(self, database: str, logdir: str, command: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        done = command("verify", "--database-url", database, "--logdir", logdir)
        assert (done.code, done.err) == (0, "")
        assert done.out.count("✓") == 3
        monkeypatch.setenv("TALLYBOARD_DATABASE_URL", database)
        assert command("verify", RUN, "--database-url", "-", "--logdir", logdir).code == 0
        unknown = command("verify", "a/nobody", "--database-url", "-")
        assert (unknown.code, "there is no run 'a/nobody'" in unknown.err) == (4, True)

    def test_export(self, database: str, command: Cli) -> None:
        done = command("export", RUN, "--tag", "loss", "--format", "csv", "--database-url", database)
        assert (done.code, done.out.count("\n")) == (0, STEPS + 1)

    def test_prune(self, database: str, command: Cli) -> None:
        done = command("prune", "a/other", "--attempts", "--database-url", database)
        assert (done.code, done.err) == (0, "")

    def test_repair(self, database: str, logdir: str, command: Cli) -> None:
        done = command("repair", "a/other", "--database-url", database, "--logdir", logdir)
        assert (done.code, "a/other: written anew as " in done.out) == (0, True), done.err
        assert command("verify", "a/other", "--database-url", database, "--logdir", logdir).code == 0

    def test_beside_services(self, database: str, logdir: str, command: Cli, tmp_path: Path) -> None:
        with serving(of_database(database, Path(logdir).parents[1])):
            for line in (("repair", RUN), ("prune", RUN, "--attempts")):
                done = command(*line, "--database-url", database)
                assert (done.code, done.err.count("\n")) == (1, 1)
                assert f"have one do it, {line[0]} without --database-url" in done.err
            assert command("verify", RUN, "--database-url", database, "--logdir", logdir).code == 0
            assert command("export", RUN, "--database-url", database, "-o", str(tmp_path / "a.csv")).code == 0

    def test_what_can_not_be(self, database: str, command: Cli, tmp_path: Path) -> None:
        for line, said in (
            (("backup", "x", "--database-url", database), "copied with pg_dump"),
            (("verify", "--database-url", "-"), "TALLYBOARD_DATABASE_URL is no database's URL"),
            (("verify", "--database-url", "mysql://x"), "that is no database's URL"),
            (("verify", "--database-url", database, "--data-dir", str(tmp_path)), "give --data-dir or --database-url"),
            (("verify", "--database-url", "postgresql://127.0.0.1:1/x"), "Without --database-url the running service"),
        ):
            done = command(*line)
            assert (done.code, said in done.err, done.err.count("\n")) == (1, True, 1), done.err


class TestThePage:
    def test_a_database_and_its_owner(self, postgres: Postgres) -> None:
        (block,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.M | re.S)
        made = block.replace("ROLE tallyboard", "ROLE of_the_page").replace("OWNER tallyboard", "OWNER of_the_page")
        made = made.replace("DATABASE tallyboard", "DATABASE of_the_page")
        for statement in filter(None, map(str.strip, made.split(";"))):
            postgres.query(statement)
        with closing(PostgresStore.open(postgres.url("of_the_page", user="of_the_page"))) as store:
            assert store.services() == 0
        postgres.drop_database("of_the_page")
        postgres.query("DROP ROLE of_the_page")

    def test_what_is_dumped_is_whole_when_it_is_restored(
        self, database: str, postgres: Postgres, tmp_path: Path
    ) -> None:
        name = postgres.create_database()
        installed = of_the_wheel()
        assert installed is not None
        python = f"{sys.executable} -m tallyboard_server.cli"
        dump, restore = (block.replace("tallyboard verify", f"{python} verify") for block in BLOCKS if "dump" in block)
        variables = {
            "TALLYBOARD_DATABASE_URL": database, "TALLYBOARD_RESTORED_URL": postgres.url(name),
            "PATH": f"{installed.programs}:{os.environ['PATH']}",
        }  # fmt: skip
        done = subprocess.run(
            ["/bin/sh", "-e"], input=dump + restore, cwd=tmp_path, env=clean(variables), text=True, capture_output=True
        )
        assert (done.returncode, "UPDATE 3\n" in done.stdout) == (1, True), done.stderr
        differing = [line for line in done.stdout.splitlines() if line.startswith("  ✗")]
        assert len(differing) == 3
        assert all("there is no event file yet" in line for line in differing)
        with serving(of_database(variables["TALLYBOARD_RESTORED_URL"], tmp_path)) as service:
            assert all(b'"ok":true' in verified(service, run) for run in (RUN, "a/other", "b/%C3%BC"))
            assert [step for step, _ in service.points(RUN, "loss")] == list(range(STEPS))
        postgres.drop_database(name)

    def test_a_service_goes_on_when_a_newer_one_brings_the_schema_up(self, postgres: Postgres, tmp_path: Path) -> None:
        name = postgres.create_database()
        with serving(of_database(postgres.url(name), tmp_path)) as service:
            assert service.report("a/b", {"step": 1, "scalars": {"loss": 1}}).status == 200
            with psycopg.connect(postgres.url(name)) as connection:  # as migrations have it
                connection.execute("ALTER TABLE attempts ADD COLUMN newer bigint NOT NULL DEFAULT 0")
                connection.execute('ALTER TABLE tags ADD COLUMN newer text COLLATE "C"')
                connection.execute("CREATE TABLE newer (run_id bigint PRIMARY KEY)")
                connection.execute("UPDATE schema_version SET number = number + 1")
            assert service.report("a/b", {"step": 2, "scalars": {"loss": 2, "new": 1}}).status == 200
            assert service.report("a/c", {"step": 1, "scalars": {"loss": 1}}).status == 200
            assert b'"ok":true' in verified(service, "a/b")
            assert len(service.points("a/b", "loss")) == 2
            with pytest.raises(StoreError, match="was written by a newer Tallyboard"):
                PostgresStore.open(postgres.url(name))
        postgres.drop_database(name)

    def test_its_numbers_hold(self) -> None:
        for sentence in (
            f"{postgres_store.CONNECTIONS_MAX} at most",
            f"must be {postgres_store.CONNECTIONS_MAX} for each replica",
            f"had within {postgres_store.CONNECTION_WAIT_S:g} s",
            f"not there within {postgres_store.CONNECT_TIMEOUT_S} s fail",
            f"takes longer than {postgres_store.STATEMENT_TIMEOUT_S} s",
            f"ends that after {postgres_store.ABANDONED_AFTER_S} s",
            f"after {replica.VALID_S:g} s others",
        ):
            assert sentence in TEXT, sentence

    def test_its_options_and_settings_exist(self) -> None:
        commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        said = re.findall(r"tallyboard (\w+)((?: --[\w-]+(?: [^-\s][^\s]*)?)+)", " ".join(LINES))
        assert {name for name, _ in said} == {"serve", "migrate", "verify"}
        for name, options in said:
            known = {option for parameter in commands[name].params for option in parameter.opts}
            assert {word for word in shlex.split(options) if word.startswith("--")} <= known
        assert WORKERS_MAX >= 4

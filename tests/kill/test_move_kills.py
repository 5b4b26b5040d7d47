"""A move killed at any moment, and begun again until it comes to its end: every row is there, as it was, once."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests import forked
from tests.cli_process import clean
from tests.kill.kills import EXIT_TIMEOUT_S, KILLS
from tests.move_kit import furnish, postgres_rows, sqlite_rows
from tests.postgres import Postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

_LATEST_S = 1.6
"""A whole move of the kit takes about so long: kills come at any moment of it, and after it."""


def test_killed_at_any_moment_it_goes_on(tmp_path: Path, postgres: Postgres) -> None:
    furnish(tmp_path / "data")
    expected = sqlite_rows(tmp_path / "data")
    rng = random.Random()
    killed = going_on = 0
    while killed < KILLS // 5:
        name = postgres.create_database()
        folder = tmp_path / name
        database, back = postgres.url(name), f"sqlite:{folder}"
        for source, target in ((f"sqlite:{tmp_path / 'data'}", database), (database, back)):
            log = tmp_path / f"{name}.log"
            while True:
                process = forked.start(
                    ["tests.kill.moving", "migrate", "--from", source, "--to", target, "--keep-event-files"],
                    log, clean({}),
                )  # fmt: skip
                process.join(_LATEST_S * rng.random() ** 1.5)
                process.kill()
                process.join(EXIT_TIMEOUT_S)
                if process.exitcode == -signal.SIGKILL:
                    killed += 1
                    wait_for_release(postgres, name)
                    continue
                said = log.read_text()
                assert process.exitcode == 0 or "holds this very store already" in said, said
                break
            going_on += "going on with a move" in log.read_text()
        assert postgres_rows(database) == expected
        assert sqlite_rows(folder) == expected
        postgres.drop_database(name)
    assert going_on


def wait_for_release(postgres: Postgres, database: str) -> None:
    """Until the server has noticed that whoever held the lock of a move is gone."""
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while postgres.query("SELECT 1 FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", database):
        assert time.monotonic() < deadline
        time.sleep(0.01)

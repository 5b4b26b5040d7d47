"""Fixtures that many tests share."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tallyboard_server.api.static import STATIC
from tallyboard_server.settings import Settings
from tests.service import RunningService, serving
from tests.stores import SQLITE, Engine, Stores

if TYPE_CHECKING:  # else imported where it is needed: the venv of tests/frameworks has no driver for PostgreSQL
    from tests.postgres import PgBouncer, Postgres

_numbers = itertools.count()
StartService = Callable[..., RunningService]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests may have a service and a token of their own."""
    for name in [name for name in os.environ if name.startswith("TALLYBOARD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TALLYBOARD_SYSTEM_METRICS", "0")  # a test that takes long would have reports it did not make
    monkeypatch.setenv("TALLYBOARD_WATCHDOGS", "0")  # nor alerts that no test raised
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # what is spooled there is the developer's own


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`stores` is SQLite's, unless the mark `engines` has others, too."""
    mark = metafunc.definition.get_closest_marker("engines")
    if mark is not None and "stores" in metafunc.fixturenames:
        metafunc.parametrize("stores", mark.args, indirect=True, scope="module")


@pytest.fixture(scope="session")
def postgres() -> "Iterator[Postgres]":
    """A PostgreSQL that all tests of this process share, each with a database of its own."""
    from tests.postgres import of_the_wheel, running

    with running(of_the_wheel()) as server:
        yield server


@pytest.fixture(scope="session")
def pgbouncer(postgres: "Postgres") -> "Iterator[PgBouncer]":
    """A PgBouncer before it."""
    from tests.postgres import pooling

    with pooling(postgres) as bouncer:
        yield bouncer


@pytest.fixture(scope="session")
def debian_postgres() -> "Iterator[Postgres]":
    """An older PostgreSQL."""
    from tests.postgres import of_debian, running

    with running(of_debian()) as server:
        yield server


@pytest.fixture(scope="module")
def stores(request: pytest.FixtureRequest) -> Iterator[Stores]:
    """Opens stores on the engine that the test is run with (see the mark `engines`)."""
    engine: Engine = getattr(request, "param", "sqlite")
    if engine == "sqlite":
        yield SQLITE
        return
    from tests.postgres_stores import PostgresStores

    server: Postgres = request.getfixturevalue("debian_postgres" if engine == "debian" else "postgres")
    front = request.getfixturevalue("pgbouncer") if engine == "pgbouncer" else server
    made = PostgresStores(engine, server, front)
    yield made
    made.close()


@pytest.fixture(scope="module")
def service(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that the tests of a module share: each uses runs of its own. No watchdog adds to what they see."""
    settings = Settings(**stores.settings(tmp_path_factory.mktemp("data")), port=0, watchdogs=False)
    with serving(settings) as running:
        yield running


@pytest.fixture
def start_service(stores: Stores, tmp_path: Path) -> Iterator[StartService]:
    """Starts services with settings of the test's own, without watchdogs unless asked for; they stop when it ends.

    static: the dashboard's files.
    """
    with ExitStack() as stack:

        def start(**settings: Any) -> RunningService:
            chosen: dict[str, Any] = stores.settings(tmp_path / "data") | {"port": 0, "watchdogs": False} | settings
            static = chosen.pop("static", STATIC)
            return stack.enter_context(serving(Settings(**chosen), static=static))

        yield start


@pytest.fixture
def run_name(request: pytest.FixtureRequest) -> str:
    """A run that no other test uses."""
    text = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"test/{text[:100]}-{next(_numbers)}"

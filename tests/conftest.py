"""Fixtures that many tests share."""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tallyboard_server.api.static import STATIC
from tallyboard_server.settings import Settings
from tests.service import RunningService, serving

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


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that the tests of a module share: each uses runs of its own. No watchdog adds to what they see."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data"), port=0, watchdogs=False)) as running:
        yield running


@pytest.fixture
def start_service(tmp_path: Path) -> Iterator[StartService]:
    """Starts services with settings of the test's own, without watchdogs unless asked for; they stop when it ends.

    static: the dashboard's files.
    """
    with ExitStack() as stack:

        def start(**settings: Any) -> RunningService:
            chosen: dict[str, Any] = {"data_dir": tmp_path / "data", "port": 0, "watchdogs": False} | settings
            static = chosen.pop("static", STATIC)
            return stack.enter_context(serving(Settings(**chosen), static=static))

        yield start


@pytest.fixture
def run_name(request: pytest.FixtureRequest) -> str:
    """A run that no other test uses."""
    text = "".join(c if c.isalnum() else "-" for c in request.node.name)
    return f"test/{text[:100]}-{next(_numbers)}"

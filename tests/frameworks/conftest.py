"""Fixtures of the tests with frameworks."""

from collections.abc import Iterator

import pytest

from tallyboard import lifecycle
from tests.service import RunningService


@pytest.fixture
def named(service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The run that the environment names; strict, so that whatever is refused raises."""
    monkeypatch.setenv("TALLYBOARD_URL", service.url)
    monkeypatch.setenv("TALLYBOARD_RUN", run_name)
    monkeypatch.setenv("TALLYBOARD_STRICT", "1")
    yield run_name
    lifecycle.finish_all()

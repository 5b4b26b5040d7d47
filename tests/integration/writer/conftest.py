"""Where tests of SummaryWriter run: in a folder of their own, beside a service that the environment names."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallyboard import lifecycle
from tests.service import RunningService


@pytest.fixture(autouse=True)
def _elsewhere(service: RunningService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("TALLYBOARD_URL", service.url)
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    lifecycle.finish_all()

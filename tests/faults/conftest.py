"""Fixtures of the tests with faults: clients whose patience is measured in milliseconds, and an end to each run."""

from collections.abc import Iterator

import pytest

from tallyboard import lifecycle
from tallyboard.delivery import transmit, transport
from tallyboard.outbox import spool


@pytest.fixture(autouse=True)
def _hasty_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(transport, "READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr(transmit, "BACKOFF_S_MIN", 0.005)
    monkeypatch.setattr(transmit, "BACKOFF_S_MAX", 0.05)
    monkeypatch.setattr(spool, "SPILL_AFTER_S", 0.1)
    yield
    lifecycle.finish_active()

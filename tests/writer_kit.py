"""What tests of SummaryWriter ask the service."""

from collections.abc import Mapping
from typing import Any

from tests.service import RunningService


def described(service: RunningService, run: str) -> dict[str, Any]:
    """A run as GET /runs shows it."""
    answer = service.get(f"/runs/{run}")
    assert answer.status == 200, answer.body
    document = answer.json()
    assert isinstance(document, dict)
    return document


def kinds(service: RunningService, run: str) -> Mapping[str, str]:
    """The kinds of its tags that are no scalars."""
    found = described(service, run)["kinds"]
    assert isinstance(found, dict)
    return found

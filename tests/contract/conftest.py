"""A store of each engine, and the same one opened again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallyboard_server.store.protocol import Store
from tests.contract.blocks import Reopen
from tests.stores import Stores


@pytest.fixture
def reopen(stores: Stores, tmp_path: Path) -> Iterator[Reopen]:
    """Opens the same store again, in place of the one opened before: whatever it knows, it knows from disk."""
    opened: list[Store] = []

    def open_again() -> Store:
        if opened:
            opened.pop().close()
        opened.append(stores.open(tmp_path / "store"))
        return opened[-1]

    yield open_again
    while opened:
        opened.pop().close()
    stores.remove(tmp_path / "store")


@pytest.fixture
def store(reopen: Reopen) -> Store:
    """A store that is new."""
    return reopen()

"""How many connections there may be where the system allows few open files."""

import logging

import pytest

from tallyboard_server.cli.server import FILES_KEPT, within_files
from tallyboard_server.settings import Settings


@pytest.mark.parametrize(("files", "expected"), [
    (65_536, 4096), (4096 + FILES_KEPT, 4096), (4096, 4096 - FILES_KEPT), (1024, 1024 - FILES_KEPT), (256, 128),
])  # fmt: skip
def test_connections_leave_files_for_the_store(files: int, expected: int, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert within_files(Settings(connections_max=4096), files).connections_max == expected
    assert bool(caplog.messages) == (expected < 4096)
    assert all(str(files) in message for message in caplog.messages)

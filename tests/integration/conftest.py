"""Fixtures of the integration tests."""

import sys
from collections.abc import Iterator

import pytest

from tallyboard import lifecycle
from tallyboard_server.cli import main
from tests.cli_process import Cli, Outcome
from tests.service import RunningService


@pytest.fixture
def no_run_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Finishes the run that a test may have left running in this process, which is no rank of a job."""
    monkeypatch.delenv("RANK", raising=False)
    yield
    lifecycle.finish_active()


@pytest.fixture
def cli(service: RunningService, command: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs a command line against the module's service."""
    monkeypatch.setenv("TALLYBOARD_URL", service.url)
    return command


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line in this process."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tallyboard", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        printed = capsys.readouterr()
        return Outcome(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run

"""What `tallyboard sync` says on its way, and that it believes no service that can't account for what it took."""

from pathlib import Path

import pytest

import tallyboard
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.spooldir import stream_dirs
from tallyboard.syncing import sync as syncing
from tests.unit.client_kit import ScriptedTransport, taken


@pytest.fixture
def transport(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTransport:
    """A service, and a spool with three batches for it."""
    monkeypatch.delenv("RANK", raising=False)
    run = tallyboard.init("digits/try1", mode="offline", spool_dir=tmp_path)
    for step in range(3):
        run.log({"loss": 1.0}, step)
        assert run.flush()
    run.finish()
    made = ScriptedTransport()
    monkeypatch.setattr(syncing, "HttpTransport", lambda *_, **_options: made)
    return made


def test_progress_is_told_now_and_then(
    transport: ScriptedTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "PROGRESS_EVERY_S", 0.0)
    told: list[str] = []
    (result,) = tallyboard.sync(tmp_path, tell=told.append)
    assert result.done
    assert len(told) == len(transport.batches) >= 4
    assert told[0] == f"digits/try1: 1 of {len(told)} batches (0.0 MiB in all)"


def test_progress_is_not_told_all_the_time(transport: ScriptedTransport, tmp_path: Path) -> None:
    told: list[str] = []
    (result,) = tallyboard.sync(tmp_path, tell=told.append)
    assert result.done
    assert told == []


def test_nothing_is_removed_unless_each_report_is_accounted_for(transport: ScriptedTransport, tmp_path: Path) -> None:
    transport.script.extend([taken(), taken(accepted=0, stored=0)])
    (result,) = tallyboard.sync(tmp_path)
    assert result.state == "stopped"
    assert "the answers account for other reports than were sent" in result.detail
    (folder,) = stream_dirs(tmp_path)
    spool = DiskSpool.take(folder)
    assert spool is not None
    assert not spool.progress.balanced
    spool.close()

"""`tallyboard verify`, `repair`, `backup` and `restore` against a service and on a data directory that nobody owns."""

from pathlib import Path

import pytest

from tallyboard_server.settings import Settings
from tests.cli_process import Cli, report
from tests.conftest import StartService
from tests.service import RunningService, serving


@pytest.fixture
def quick(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> RunningService:
    """A service whose event files follow at once; the command line finds it."""
    running = start_service(export_interval_s=0.05, export_sync_interval_s=0.05)
    monkeypatch.setenv("TALLYBOARD_URL", running.url)
    return running


def damage(logdir: Path, run: str) -> None:
    """Flip a bit in the run's newest event file."""
    path = sorted((logdir / run).glob("*tfevents*"))[-1]
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)


def test_verify_one_run_shows_its_attempts(cli: Cli, quick: RunningService) -> None:
    report(quick, "a/b", range(20))
    quick.send("POST", "/rewind/a/b", {"next_steps": {"global_step": 15}})
    report(quick, "a/b", range(15, 18))
    outcome = cli("verify", "a/b")
    assert outcome.code == 0, outcome
    assert "✓ a/b: 23 scalars acknowledged and stored, 18 visible and in the event file" in outcome.out
    lines = [line.split()[:7] for line in outcome.out.splitlines() if line.startswith("global_step")]
    assert lines == [
        ["global_step", "1", "20", "0", "20", "15", "15"],
        ["global_step", "2", "3", "0", "3", "3", "3"],
    ]


def test_verify_and_repair_all_runs(cli: Cli, quick: RunningService) -> None:
    for run in ("a/one", "a/two", "a/three"):
        report(quick, run, range(20))
    assert cli("verify").code == 0
    damage(quick.logdir, "a/two")
    outcome = cli("verify")
    assert outcome.code == 1
    assert "✗ a/two: differs" in outcome.out
    assert "✓ a/one" in outcome.out
    assert "`tallyboard repair a/two`" in outcome.out
    assert "1 run of 3 differ" in outcome.err
    repaired = cli("repair")
    assert (repaired.code, repaired.out.count("written anew")) == (0, 1)
    assert cli("verify").code == 0


def test_commands_about_a_run_that_is_not_there(cli: Cli, quick: RunningService) -> None:
    assert cli("verify", "no/run").code == 4
    assert cli("repair", "no/run").code == 4
    outcome = cli("verify")
    assert (outcome.code, outcome.err) == (0, "no runs yet\n")


def test_a_backup_of_a_service_becomes_another_service(cli: Cli, quick: RunningService, tmp_path: Path) -> None:
    body = {"producer": "p", "seq": 1, "step": 1, "scalars": {"loss": 0.1}}
    assert quick.report("a/b", body).status == 200
    outcome = cli("backup", str(tmp_path / "copy.sqlite3"))
    assert outcome.code == 0, outcome
    assert "read back and found whole" in outcome.out
    assert quick.report("a/b", body | {"seq": 2, "step": 2}).status == 200
    assert "exists already" in cli("backup", str(tmp_path / "copy.sqlite3")).err
    assert cli("backup", str(tmp_path)).code == 0
    assert len(list(tmp_path.glob("tallyboard-2*.sqlite3"))) == 1
    data_dir = tmp_path / "restored"
    assert cli("restore", str(tmp_path / "copy.sqlite3"), "--data-dir", str(data_dir)).code == 0
    again = cli("restore", str(tmp_path / "copy.sqlite3"), "--data-dir", str(data_dir))
    assert (again.code, "is not empty" in again.err) == (1, True)
    settings = Settings(data_dir=data_dir, port=0, export_interval_s=0.05, export_sync_interval_s=0.05)
    with serving(settings) as restored:
        assert restored.points("a/b", "loss") == [(1, 0.1)]
        gap = restored.report("a/b", body | {"seq": 3, "step": 3})
        assert (gap.status, gap.json()["code"], gap.json()["expected_seq"]) == (409, "seq_gap", 2)
        assert b'"ok":true' in restored.get("/verify/a/b").body
        assert len(list((data_dir / "logdir" / "a" / "b").iterdir())) == 1


class TestOffline:
    """A data directory left by a service that has stopped."""

    @pytest.fixture
    def data_dir(self, tmp_path: Path) -> Path:
        settings = Settings(data_dir=tmp_path / "data", port=0, export_interval_s=0.05, export_sync_interval_s=0.05)
        with serving(settings) as service:
            report(service, "a/b", range(20))
            report(service, "a/c", range(20))
        return settings.data_dir

    def test_verify_repair_and_backup(self, cli: Cli, data_dir: Path, tmp_path: Path) -> None:
        option = ("--data-dir", str(data_dir))
        assert cli("verify", *option).code == 0
        damage(data_dir / "logdir", "a/b")
        outcome = cli("verify", "a/b", *option)
        assert (outcome.code, "damaged at byte" in outcome.out) == (1, True)
        repaired = cli("repair", "a/b", *option)
        assert (repaired.code, "written anew" in repaired.out) == (0, True)
        assert cli("verify", *option).code == 0
        assert cli("backup", str(tmp_path / "copy.sqlite3"), *option).code == 0
        assert cli("verify", "no/run", *option).code == 4

    def test_a_directory_in_use_is_refused(self, cli: Cli, quick: RunningService) -> None:
        outcome = cli("verify", "--data-dir", str(quick.parts.settings.data_dir))
        assert outcome.code == 1
        assert "is in use by process" in outcome.err
        assert "the running service is asked" in outcome.err

    def test_what_is_no_data_directory_is_not_made_one(self, cli: Cli, tmp_path: Path) -> None:
        outcome = cli("verify", "--data-dir", str(tmp_path / "nothing"))
        assert (outcome.code, "is no data directory" in outcome.err) == (4, True)
        assert not (tmp_path / "nothing").exists()

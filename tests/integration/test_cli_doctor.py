"""`tallyboard doctor`: each thing that can keep points from showing is found and told."""

import time
from pathlib import Path

import pytest

from tallyboard_server.cli import logdir
from tests.cli_process import Cli, report
from tests.conftest import StartService
from tests.service import RunningService


def test_doctor_finds_nothing_wrong_with_a_good_run(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 4))
    outcome = cli("doctor", run_name)
    assert "global_step is at 3 (3 scalars stored, 1 tag)" in outcome.out
    assert "✓ no report was refused" in outcome.out


def test_doctor_names_runs_that_are_called_alike(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 2))
    outcome = cli("doctor", run_name.partition("/")[2])
    assert outcome.code == 1
    assert f"there is {run_name}" in outcome.out


def test_doctor_tells_refused_reports_and_what_to_do(cli: Cli, service: RunningService, run_name: str) -> None:
    reports = [{"step": step, "scalars": {"loss": 0.5}} for step in (5, 3)]
    assert service.report(run_name, {"reports": reports, "partial": True}).status == 200
    outcome = cli("doctor", run_name)
    assert outcome.code == 1
    assert "1 × step_decreased" in outcome.out
    assert "global_step at step 3:" in outcome.out


def test_doctor_tells_a_run_that_shows_nothing_since_its_rewind(
    cli: Cli, service: RunningService, run_name: str
) -> None:
    report(service, run_name, range(1, 4))
    assert service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 0}}).status == 200
    outcome = cli("doctor", run_name)
    assert outcome.code == 1
    assert "all of its 3 scalars were superseded" in outcome.out


def rewound(service: RunningService, run: str, **next_steps: int) -> None:
    """Go back, as a resumed job does."""
    assert service.send("POST", f"/rewind/{run}", {"next_steps": next_steps}).status == 200


def test_doctor_finds_nothing_wrong_with_a_resumed_run_whose_epoch_is_still_to_come(
    cli: Cli, service: RunningService, run_name: str
) -> None:
    report(service, run_name, range(1, 4))
    rewound(service, run_name, global_step=3, epoch=1)
    report(service, run_name, range(3, 6))
    written(service, run_name, size_min=150)
    outcome = cli("doctor", run_name)
    assert f"· {run_name}: epoch shows no point" in outcome.out
    assert "✗" not in outcome.out
    assert outcome.code == 0


def test_a_counter_without_points_is_amiss_if_its_reports_were_refused(
    cli: Cli, service: RunningService, run_name: str
) -> None:
    report(service, run_name, range(1, 4))
    rewound(service, run_name, epoch=5)
    refused = {"reports": [{"counter": "epoch", "step": 2, "scalars": {"val/loss": 0.5}}], "partial": True}
    assert service.report(run_name, refused).status == 200
    outcome = cli("doctor", run_name)
    assert f"✗ {run_name}: epoch shows no point" in outcome.out
    assert outcome.code == 1


def test_the_machines_figures_are_no_points_of_a_training(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 4), counter="system", tag="system/cpu")
    outcome = cli("doctor", run_name)
    assert outcome.code == 1
    assert "no report was ever accepted" in outcome.out
    assert "log_every(n, …)" in outcome.out
    rewound(service, run_name, global_step=1)
    assert f"✗ {run_name}: global_step shows no point" in cli("doctor", run_name).out


def test_doctor_looks_at_the_directory_that_tensorboard_was_given(
    cli: Cli, service: RunningService, run_name: str, tmp_path: Path
) -> None:
    report(service, run_name, range(1, 2))
    outcome = cli("doctor", run_name, "--logdir", str(tmp_path))
    assert outcome.code == 1
    assert f"TensorBoard was given {tmp_path}, but the service writes" in outcome.out
    assert f"{tmp_path / run_name} holds no event file of the run" in outcome.out


def written(service: RunningService, run: str, size_min: int = 1) -> Path:
    """The run's event file, once the exporter has written it."""
    directory = service.logdir / run
    deadline = time.monotonic() + 30.0
    while not (found := [path for path in directory.glob("*tfevents*") if path.stat().st_size >= size_min]):
        assert time.monotonic() < deadline, "no event file came"
        time.sleep(0.05)
    return found[-1]


def test_doctor_reads_the_event_file(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 4))
    written(service, run_name, size_min=150)
    outcome = cli("doctor", run_name)
    assert outcome.code == 0
    assert "holds every counter's last step" in outcome.out


def test_doctor_counts_the_event_files_of_all_runs(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 4))
    written(service, run_name)
    outcome = cli("doctor")
    assert outcome.code == 0
    assert "event file" in outcome.out.splitlines()[-1]


def test_doctor_finds_another_program_s_file(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 4))
    foreign = written(service, run_name).with_name("events.out.tfevents.1700000000.otherhost")
    foreign.write_bytes(b"")
    outcome = cli("doctor", run_name)
    foreign.unlink(missing_ok=True)
    assert outcome.code == 1
    assert f"did not write: {foreign.name}" in outcome.out


def test_doctor_finds_a_damaged_file(cli: Cli, service: RunningService, run_name: str, tmp_path: Path) -> None:
    report(service, run_name, range(1, 4))
    source = written(service, run_name, size_min=150)
    copy = tmp_path / run_name / source.name
    copy.parent.mkdir(parents=True)
    data = bytearray(source.read_bytes())
    data[60] ^= 0xFF
    copy.write_bytes(data)
    outcome = cli("doctor", run_name, "--logdir", str(tmp_path))
    assert outcome.code == 1
    assert "is damaged at byte" in outcome.out


def test_doctor_finds_a_file_that_stays_behind(
    cli: Cli, service: RunningService, run_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(service, run_name, range(1, 4))
    source = written(service, run_name, size_min=150)
    copy = tmp_path / run_name / source.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(source.read_bytes())
    report(service, run_name, range(4, 6))
    assert "is being written" in cli("doctor", run_name, "--logdir", str(tmp_path)).out
    monkeypatch.setattr(logdir, "LAG_MAX_S", -1.0)
    outcome = cli("doctor", run_name, "--logdir", str(tmp_path))
    assert "global_step is at 5 but the file at 3" in outcome.out


def test_doctor_does_not_read_a_huge_file(
    cli: Cli, service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(service, run_name, range(1, 4))
    written(service, run_name)
    monkeypatch.setattr(logdir, "FILE_BYTES_MAX", 10)
    assert "bytes, not read" in cli("doctor", run_name).out


def test_doctor_finds_clocks_that_differ(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("tallyboard_server.cli.doctor.time.time", lambda: now + 95.0)
    outcome = cli("doctor")
    assert outcome.code == 1
    assert "clock is 9" in outcome.out
    assert "ahead of the service's" in outcome.out


def test_doctor_finds_a_run_that_fell_silent(
    cli: Cli, start_service: StartService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start_service(lost_after_s=1e-9)
    monkeypatch.setenv("TALLYBOARD_URL", service.url)
    service.report(run_name, {"producer": "p", "seq": 1, "step": 1, "scalars": {"loss": 1.0}})
    outcome = cli("doctor", run_name)
    assert outcome.code == 1
    assert "says it is running, but was last heard of" in outcome.out


def test_doctor_without_a_service_says_how_to_start_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYBOARD_URL", "http://127.0.0.1:9")
    outcome = cli("doctor")
    assert outcome.code == 1
    assert outcome.out.startswith("✗ no service at http://127.0.0.1:9\n")
    assert "tallyboard serve" in outcome.out

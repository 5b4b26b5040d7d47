"""`tallyboard sync`: resumable, safe to run twice and beside living jobs, checked at the end, clear about the rest."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import tallyboard
from tallyboard.syncing import sync as syncing
from tests.cli_process import Cli
from tests.client_script import LIMIT_S
from tests.conftest import StartService
from tests.faults.proxy import proxied
from tests.service import RunningService

pytestmark = pytest.mark.usefixtures("no_run_left")


def offline(folder: Path, run: str, steps: range = range(100), **options: object) -> tallyboard.Run:
    """A finished run in a spool dir."""
    made = tallyboard.init(run, mode="offline", spool_dir=folder, strict=True, **options)  # type: ignore[arg-type]
    for step in steps:
        made.log({"loss": float(step)}, step)
        if step % 10 == 0:
            assert made.flush(kept=True)  # a batch of its own
    made.finish()
    return made


def left(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/stream.json"))


def test_all_streams_in_a_folder_or_one(service: RunningService, run_name: str, tmp_path: Path) -> None:
    for name in "abc":
        offline(tmp_path, f"{run_name}/{name}", range(10))
    (first,) = tallyboard.sync(left(tmp_path)[0], url=service.url)
    assert (first.state, first.reports, first.remaining) == ("sent", 10, 0)
    assert len(left(tmp_path)) == 2
    others = tallyboard.sync(tmp_path, url=service.url)
    assert {first.run, *(other.run for other in others)} == {f"{run_name}/{name}" for name in "abc"}
    for name in "abc":
        assert service.points(f"{run_name}/{name}", "loss") == [(i, float(i)) for i in range(10)]
    assert tallyboard.sync(tmp_path, url=service.url) == []


def test_two_at_once_send_each_stream_once(service: RunningService, run_name: str, tmp_path: Path) -> None:
    for number in range(5):
        offline(tmp_path, f"{run_name}/{number}")
    results: list[syncing.Synced] = []
    threads = [
        threading.Thread(target=lambda: results.extend(tallyboard.sync(tmp_path, url=service.url))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.reports for result in results) == 500
    assert {result.state for result in results} <= {"sent", "busy"}
    assert left(tmp_path) == []
    for number in range(5):
        assert service.points(f"{run_name}/{number}", "loss") == [(i, float(i)) for i in range(100)]


def test_stopped_halfway_it_goes_on_where_it_was(service: RunningService, run_name: str, tmp_path: Path) -> None:
    offline(tmp_path, run_name)
    stops = 0
    while left(tmp_path):
        command = [sys.executable, "-m", "tallyboard", "sync", str(tmp_path), "--url", service.url]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(0.3 + 0.05 * stops)
            except subprocess.TimeoutExpired:
                process.kill()
        stops += 1
        assert stops < 60
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(100)]


def test_a_living_job_sends_by_itself(service: RunningService, run_name: str, tmp_path: Path) -> None:
    with proxied(service.port, faults=()) as proxy:
        run = tallyboard.init(run_name, url=proxy.url, spool_dir=tmp_path, strict=True)
        proxy.cut()
        for step in range(100):
            run.log({"loss": float(step)}, step)
        assert run.flush(kept=True)
        (result,) = tallyboard.sync(tmp_path, url=service.url)
        assert (result.state, result.reports, result.done) == ("busy", 0, False)
        assert f"process {os.getpid()} on" in result.detail
        proxy.mend()
        assert run.flush()
        run.finish()
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(100)]
    assert left(tmp_path) == []


def test_an_offline_jobs_reports_can_be_sent_while_it_writes(
    service: RunningService, run_name: str, tmp_path: Path
) -> None:
    run = tallyboard.init(run_name, mode="offline", spool_dir=tmp_path, strict=True)
    for step in range(60):
        run.log({"loss": float(step)}, step)
        if step % 20 == 19:
            assert run.flush()
            (result,) = tallyboard.sync(tmp_path, url=service.url)
            assert (result.state, result.reports) == ("growing", 20)
            assert len(service.points(run_name, "loss")) == step + 1
    run.finish()
    (result,) = tallyboard.sync(tmp_path, url=service.url)
    assert (result.state, result.reports) == ("sent", 0)
    assert service.get(f"/runs/{run_name}").json()["status"] == "finished"


def test_to_another_service_goes_what_the_first_does_not_have(
    service: RunningService, run_name: str, tmp_path: Path, start_service: StartService
) -> None:
    with proxied(service.port, faults=()) as proxy:
        run = tallyboard.init(run_name, url=proxy.url, spool_dir=tmp_path, config={"lr": 0.1}, exit_timeout_s=0.1)
        for step in range(10):
            run.log({"loss": float(step)}, step)
        assert run.flush()
        proxy.cut()
        for step in range(10, 20):
            run.log({"loss": float(step)}, step)
        run.finish()
    other = start_service()
    (result,) = tallyboard.sync(tmp_path, url=other.url)
    assert (result.state, result.reports) == ("sent", 10)
    assert "batches acknowledged before are not on this server" in result.detail
    assert other.points(run_name, "loss") == [(i, float(i)) for i in range(10, 20)]
    assert service.points(run_name, "loss") == [(i, float(i)) for i in range(10)]
    assert other.get(f"/runs/{run_name}").json()["config"] == {"lr": 0.1}


def test_what_another_job_has_gone_on_with_is_held_until_it_gets_a_run_of_its_own(
    service: RunningService, run_name: str, tmp_path: Path
) -> None:
    offline(tmp_path, run_name, range(5, 15), resume="continue", next_steps={"global_step": 5})
    with tallyboard.init(run_name, url=service.url, strict=True) as newer:
        for step in range(20):
            newer.log({"loss": -1.0}, step)
    (held,) = tallyboard.sync(tmp_path, url=service.url)
    assert (held.state, held.remaining) == ("held", 10)
    assert "began later and has gone on with global_step" in held.detail
    assert "--as-new" in held.detail
    assert service.points(run_name, "loss") == [(i, -1.0) for i in range(20)]
    (sent,) = tallyboard.sync(tmp_path, url=service.url, as_new=True)
    assert (sent.state, sent.run, sent.reports) == ("sent", f"{run_name}-2", 10)
    assert service.points(f"{run_name}-2", "loss") == [(i, float(i)) for i in range(5, 15)]
    assert service.points(run_name, "loss") == [(i, -1.0) for i in range(20)]


def test_what_counted_from_0_while_nobody_could_say_where_is_held_too(
    service: RunningService, run_name: str, tmp_path: Path
) -> None:
    with tallyboard.init(run_name, url=service.url) as before:
        for _ in range(100):
            before.log({"loss": 1.0})
    with proxied(service.port, faults=()) as proxy:
        proxy.cut()
        run = tallyboard.init(run_name, resume="continue", url=proxy.url, spool_dir=tmp_path, exit_timeout_s=5.0)
        for _ in range(150):
            run.counter().increment()
            run.log({"loss": 2.0})
        proxy.mend()
        assert run.flush() is False
        run.finish()
    assert service.points(run_name, "loss") == [(i, 1.0) for i in range(1, 101)]
    (held,) = tallyboard.sync(tmp_path, url=service.url)
    assert (held.state, held.remaining) == ("held", 150)
    (sent,) = tallyboard.sync(tmp_path, url=service.url, as_new=True)
    assert service.points(sent.run, "loss") == [(i, 2.0) for i in range(1, 151)]


def test_reports_that_are_refused_are_counted(service: RunningService, run_name: str, tmp_path: Path) -> None:
    run = tallyboard.init(run_name, mode="offline", spool_dir=tmp_path)
    for step in (1, 2, 1):
        run.log({"loss": 1.0}, step)
    run.finish()
    (result,) = tallyboard.sync(tmp_path, url=service.url)
    assert (result.state, result.reports, result.refused) == ("sent", 3, 1)


def test_damage_is_passed_over_and_told(service: RunningService, run_name: str, tmp_path: Path) -> None:
    offline(tmp_path, run_name)
    (segment,) = tmp_path.rglob("*.seg")
    data = bytearray(segment.read_bytes())
    data[-200] ^= 0xFF  # in the last batch but one, or the last
    segment.write_bytes(bytes(data))
    (result,) = tallyboard.sync(tmp_path, url=service.url)
    assert result.state == "damaged"
    assert "bytes were damaged" in result.detail
    assert not result.done
    points = service.points(run_name, "loss")
    assert points == [(i, float(i)) for i in range(len(points))]
    assert 80 <= len(points) < 100


# ── services in trouble, and the command itself ──────────────────────────────────────────────────────────────────


def test_a_service_that_is_away_or_wants_a_token_costs_nothing(
    run_name: str, tmp_path: Path, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "FIRST_PATIENCE_S", 0.5)
    offline(tmp_path, run_name)
    (away,) = tallyboard.sync(tmp_path, url="http://127.0.0.1:9")
    assert (away.state, away.remaining) == ("away", 100)
    service = start_service(token="s3cret")
    (stopped,) = tallyboard.sync(tmp_path, url=service.url)
    assert (stopped.state, stopped.remaining) == ("stopped", 100)
    assert "TALLYBOARD_TOKEN" in stopped.detail
    (sent,) = tallyboard.sync(tmp_path, url=service.url, token="s3cret")
    assert (sent.state, sent.reports) == ("sent", 100)


def test_the_command_ends_with_a_status_for_scripts(
    service: RunningService, run_name: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncing, "FIRST_PATIENCE_S", 0.2)
    assert cli("sync", str(tmp_path)) == (0, "nothing waits to be sent\n", "")
    offline(tmp_path, run_name)
    away = cli("sync", str(tmp_path), "--url", "http://127.0.0.1:9")
    assert away.code == 3
    assert f"{run_name}: away: 100 left in {tmp_path}" in away.out
    wrong = cli("sync", str(tmp_path), "--url", "localhost")
    assert wrong.code == 2
    assert "url 'localhost' is not one of a service" in wrong.err
    sent = cli("sync", str(tmp_path))
    assert sent == (0, f"{run_name}: sent: 100 reports sent, checked and removed here\n", "")


def test_it_needs_nothing_but_the_client(service: RunningService, run_name: str, tmp_path: Path) -> None:
    offline(tmp_path, run_name)
    code = f"""
import sys
for absent in ("typer", "rich", "fastapi", "apsw", "pydantic"):
    sys.modules[absent] = None
from tallyboard_server.cli import main
sys.argv = ["tallyboard", "sync", {str(tmp_path)!r}, "--url", {service.url!r}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "100 reports sent" in done.stdout


def test_interrupted_it_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def interrupted(*_: object, **__: object) -> list[syncing.Synced]:
        raise KeyboardInterrupt

    monkeypatch.setattr("tallyboard.syncing.command.sync", interrupted)
    assert cli("sync", str(tmp_path)) == (1, "", "tallyboard: stopped; run it again to go on\n")


def test_a_folder_that_cant_be_read_is_said(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "file").write_text("")
    assert cli("sync", str(tmp_path / "file")).out == "nothing waits to be sent\n"
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "stream.json").write_text("{")
    outcome = cli("sync", str(tmp_path))
    assert "can't be read" in outcome.err

"""`tallyboard import` killed at any moment, again and again: in the end it has brought what one quiet import brings."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.service import figures
from tests.cli_process import clean
from tests.logdir_kit import counts, event, import_from, write
from tests.service import RunningService, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS_MAX = 200
RUNS = 40
TAGS = ("loss", "acc", "lr")


def test_killed_imports_end_as_quiet_ones(service: RunningService, run_name: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    for run in range(RUNS):
        write(tmp_path / "log" / f"r{run:02}", 0, (event(s, dict.fromkeys(TAGS, s + run)) for s in range(2_000)))
        write(tmp_path / "log" / f"r{run:02}", 1, (event(s, {"loss": -s}) for s in range(1_500, 1_800)))
    whole = import_from(tmp_path / "log", service, f"{run_name}-whole")
    assert counts(whole) == {"restarted": RUNS}
    command = [sys.executable, "-m", "tallyboard", "import", str(tmp_path / "log"), "--project", run_name]
    killed = 0
    while not ended(service, command, rng.randint(1, 6)):
        killed += 1
        assert killed < KILLS_MAX
    assert killed > 2
    last = import_from(tmp_path / "log", service, run_name)
    assert (last.points_sent, counts(last)) == (0, {})
    for run in range(RUNS):
        for tag in TAGS:
            name = f"r{run:02}"
            assert service.points(f"{run_name}/{name}", tag) == service.points(f"{run_name}-whole/{name}", tag)


def ended(service: RunningService, command: list[str], batches: int) -> bool:
    """Let the command run until about so many batches have come; True if it ended by itself before."""

    def stored() -> float:
        return figures(service.request("GET", "/metrics").body.decode())["store_commits_total"]

    before = stored()
    environment = clean({"TALLYBOARD_URL": service.url})
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        until(lambda: process.poll() is not None or stored() >= before + batches, 60)
        process.kill()
    return process.returncode == 0

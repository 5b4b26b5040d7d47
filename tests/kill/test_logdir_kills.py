"""`tallyboard import` killed at any moment, again and again: in the end it has brought what one quiet import brings."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli_process import clean
from tests.logdir_kit import counts, event, import_from, write
from tests.service import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KILLS_MAX = 60
TAGS = ("loss", "acc", "lr")


def test_killed_imports_end_as_quiet_ones(service: RunningService, run_name: str, tmp_path: Path) -> None:
    rng = random.Random(7)
    for run in range(6):
        write(tmp_path / "log" / f"r{run}", 0, (event(s, dict.fromkeys(TAGS, s + run)) for s in range(30_000)))
        write(tmp_path / "log" / f"r{run}", 1, (event(s, {"loss": -s}) for s in range(20_000, 25_000)))
    whole = import_from(tmp_path / "log", service, f"{run_name}-whole")
    assert counts(whole) == {"restarted": 6}
    command = [sys.executable, "-m", "tallyboard", "import", str(tmp_path / "log"), "--project", run_name]
    killed = 0
    while killed < KILLS_MAX:
        with subprocess.Popen(
            command, env=clean({"TALLYBOARD_URL": service.url}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                process.wait(rng.uniform(0.3, 1.2) + 0.05 * killed)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
    time.sleep(0.5)  # what the last killed one had on its way has arrived
    last = import_from(tmp_path / "log", service, run_name)
    assert "refused" not in counts(last)
    assert killed > 2
    for run in range(6):
        for tag in TAGS:
            name = f"r{run}"
            assert service.points(f"{run_name}/{name}", tag) == service.points(f"{run_name}-whole/{name}", tag)

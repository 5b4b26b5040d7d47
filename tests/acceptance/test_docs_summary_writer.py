"""The page about SummaryWriter: its snippets run, its rule gives the names it shows, its table knows every method."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tallyboard import SummaryWriter
from tallyboard.summary_writer import logdirs
from tests.cli_process import clean
from tests.service import RunningService

PAGE = (Path(__file__).parents[2] / "docs" / "summary-writer.md").read_text(encoding="utf-8")


def test_its_snippets_report_what_they_say(service: RunningService, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    environment = clean({"TALLYBOARD_URL": service.url, "TALLYBOARD_STRICT": "1"})
    for block in blocks:
        done = subprocess.run(
            [sys.executable, "-c", block], capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        assert " 0 refused, 0 dropped" in done.stderr
    assert [step for step, _ in service.points("mnist/try3", "train/loss")] == [0, 1, 2, 3, 4, 5]
    assert service.points("mnist/try3", "val/accuracy") == [(0, 0.9), (1, 0.9)]
    assert [step for step, _ in service.points("mnist/try4", "train/loss")] == [1, 2, 3, 4, 5, 6]
    kinds = service.get("/runs/mnist/try5").json()["kinds"]
    assert kinds == {"samples": "images", "weights": "histograms", "notes": "text"}
    assert list(tmp_path.iterdir()) == []


def test_the_rule_gives_the_names_that_it_shows() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for logdir, run in rows:
        assert logdirs.run_name(logdir, "/home/me") == run
    named = re.search(r'"logs are here" \(([^)]*)\)', PAGE)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == logdirs.ROOTS


@pytest.mark.parametrize(
    "method",
    [name for name, _ in inspect.getmembers(SummaryWriter, inspect.isfunction) if not name.startswith(("_", "take_"))],
)
def test_its_table_knows_every_method(method: str) -> None:
    assert method == "reject" or re.search(rf"^\| .*`{method}`.* \| ", PAGE, re.MULTILINE)

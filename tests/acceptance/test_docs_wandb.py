"""The page about code written for wandb: its snippet runs, and its table knows every name and every variable."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tallyboard.integrations import wandb
from tallyboard.integrations.wandb import metrics, opening, values
from tallyboard.integrations.wandb.running import ALERT_WAIT_S, Run
from tests.cli_process import clean
from tests.service import RunningService

PAGE = (Path(__file__).parents[2] / "docs" / "wandb.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("## What becomes of it")[2]


def test_its_snippet_reports_what_it_says(service: RunningService, tmp_path: Path) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", block], capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env=clean({"TALLYBOARD_URL": service.url, "TALLYBOARD_STRICT": "1"}), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " 0 refused, 0 dropped" in done.stderr
    assert [step for step, _ in service.points("mnist/try6", "train/loss")] == [0, 1, 2, 4, 5, 6]
    assert service.points("mnist/try6", "val/accuracy") == [(0, 0.9), (1, 0.91)]
    told = service.get("/runs/mnist/try6").json()
    assert told["summary"] == {"best": 0.91, "val/accuracy": {"max": 0.91}}
    assert told["config"] == {"learning_rate": 0.02, "epochs": 2}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name", [name for name in wandb.__all__ if name not in ("AlertLevel", "Config", "Error", "Run")]
)
def test_its_table_knows_every_name(name: str) -> None:
    assert name == "run" or re.search(rf"^\| .*`{name}[`(].*\| ", TABLE, re.MULTILINE) or f"`{name}`" in TABLE


@pytest.mark.parametrize(
    "name", [name for name, _ in inspect.getmembers(Run, lambda member: isinstance(member, property))]
)
def test_its_table_knows_what_a_run_answers(name: str) -> None:
    assert f"`run.{name}`" in TABLE


def test_what_is_refused_and_which_variables_count_are_those_that_it_names() -> None:
    (row,) = re.findall(r"^\| (.*) \| raise `wandb\.Error`", TABLE, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == wandb._REFUSED.keys()
    assert set(re.findall(r"`(WANDB_\w+)`", TABLE)) == set(opening._VARIABLES.values())
    named = re.search(r"- (.*) are taken: their", PAGE)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == metrics._TAKEN
    assert f"of more than {values._ARRAY_SIZE} numbers" in TABLE
    assert f"({values.IMAGES_MAX} at most)" in TABLE
    assert ALERT_WAIT_S == 60

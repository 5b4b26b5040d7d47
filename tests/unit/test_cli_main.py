"""The entry point without the server's packages, and the small parts of the commands."""

import subprocess
import sys
from pathlib import Path

import pytest

from tallyboard_server.cli import SERVER_EXTRA
from tallyboard_server.cli.demo.compare import as_float32, compare
from tallyboard_server.cli.output import ago, count, timestamp

_WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ["tallyboard", "serve"]
from tallyboard_server.cli import main
main()
"""


@pytest.mark.parametrize("package", sorted(SERVER_EXTRA & {"rich", "typer", "pydantic"}))
def test_without_the_server_extra_it_says_what_to_install(package: str) -> None:
    program = _WITHOUT.format(package=package)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == f"tallyboard: {package} is not installed; pip install 'tallyboard[server]'\n"


def test_another_missing_module_is_no_matter_of_the_extra() -> None:
    program = _WITHOUT.format(package="errno_of_ours").replace(
        "main()", "import tallyboard_server.cli as c; sys.modules['tallyboard_server.cli.commands'] = None; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "ModuleNotFoundError" in done.stderr


@pytest.mark.parametrize("command", ["demo", "demo-preempt"])
def test_a_demo_that_can_not_train_says_so_before_anything_else(command: str, tmp_path: Path) -> None:
    program = _WITHOUT.format(package="sklearn").replace('"serve"]', f'"{command}"]')
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    remedy = "sklearn is not installed; pip install 'tallyboard[server,examples]'"
    assert done.stderr == f"tallyboard: {command}: {remedy}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_spans_of_time(seconds: float, text: str) -> None:
    assert ago(seconds) == text


def test_numbers_and_times() -> None:
    assert (count(1, "run"), count(2000, "run")) == ("1 run", "2,000 runs")
    assert timestamp(0.0) == "1970-01-01 00:00:00"


def test_the_comparison_finds_the_first_difference_of_each_counter() -> None:
    curve, other = ("p/r", "global_step", "loss"), ("p/r", "epoch", "val")
    sent = {curve: {1: 0.1, 2: 0.2}, other: {1: 1.0}}
    shown = {name: as_float32(points) for name, points in sent.items()}
    same = compare(sent, sent, shown)
    assert [(line.sent, line.stored, line.shown, line.difference) for line in same] == [
        (2, 2, 2, None),
        (1, 1, 1, None),
    ]
    lost = compare(sent, {**sent, curve: {1: 0.1}}, shown)
    assert lost[0].difference == "loss at step 2: sent 0.2, stored None"
    assert lost[1].difference is None
    wrong = compare(sent, sent, {**shown, other: {1: 1.0, 2: 3.0}})
    assert wrong[1].difference == "val at step 2: sent None, TensorBoard 3.0"

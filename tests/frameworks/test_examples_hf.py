"""The examples with transformers and Lightning: on real digits, twice, and the second time from the checkpoint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli_process import clean
from tests.frameworks import kit_hf
from tests.service import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

BATCHES = 23
"""In an epoch: 1,437 images, 64 in a batch."""


def run(script: str, service: RunningService, folder: Path, *arguments: str) -> str:
    """Run an example to its end; the last line that it printed."""
    outside = clean({})
    path = os.pathsep.join([str(kit_hf.ROOT / "client"), outside.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(kit_hf.ROOT / "client" / "examples" / script), *arguments], capture_output=True, text=True,
        timeout=120, check=False, cwd=folder, env=outside | {"TALLYBOARD_URL": service.url, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " 0 refused, 0 dropped" in done.stderr
    return done.stdout.splitlines()[-1]


def test_transformers_learn_digits_and_go_on_from_a_checkpoint(service: RunningService, tmp_path: Path) -> None:
    name = "digits_transformers/digits-transformers"
    run("digits_transformers.py", service, tmp_path, "--epochs", "2")
    said = run("digits_transformers.py", service, tmp_path, "--epochs", "8")

    found, steps = kit_hf.curves(service, name), kit_hf.steps(kit_hf.curves(service, name))
    assert steps["train/loss"] == list(range(5, 8 * BATCHES + 1, 5))
    assert steps["eval/accuracy"] == list(range(1, 10))  # one an epoch, and the best model's
    accuracy = found["eval/accuracy"][-1][1]
    assert accuracy > 0.85
    assert said == f"{name}: validation accuracy {accuracy:.3f}"
    assert service.get(f"/runs/{name}").json()["config"]["model"]["hidden"] == 64


def test_lightning_learns_digits_and_goes_on_from_a_checkpoint(service: RunningService, tmp_path: Path) -> None:
    name = "digits/lightning"
    run("digits_lightning.py", service, tmp_path, "--epochs", "2")
    said = run("digits_lightning.py", service, tmp_path, "--epochs", "10")

    found, steps = kit_hf.curves(service, name), kit_hf.steps(kit_hf.curves(service, name))
    assert steps["train/loss_step"] == list(range(5, 10 * BATCHES + 1, 5))
    assert steps["train/loss_epoch"] == list(range(1, 11))
    assert steps["val/accuracy"] == list(range(1, 12))
    assert found["val/accuracy"][-1][1] > 0.9
    assert said == f"{name}: validation accuracy {found['val/accuracy'][-1][1]:.3f}"
    assert service.get(f"/runs/{name}").json()["config"] == {"hidden": 64, "learning_rate": 3e-3}

"""Jobs with a Lightning Trainer that are killed and resumed: their curves are those of one that was not."""

from pathlib import Path

import pytest

from tests.frameworks import kit_hf
from tests.frameworks.kit_hf import Curve
from tests.frameworks.lightning_training import BATCHES, EPOCHS, STEPS
from tests.service import RunningService

HOOKS = ("batch_start", "batch_end")
SCRIPT = "lightning_training.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def told(found: dict[str, Curve]) -> dict[str, Curve]:
    """What a training says of the model, but for the means over epochs: Lightning does not save their sums."""
    means = ("train_loss_epoch", "epoch_only")
    return {tag: curve for tag, curve in found.items() if not tag.startswith("DeviceStats") and tag not in means}


@pytest.fixture(scope="module")
def whole(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve]:
    """The curves of a job that nobody kills."""
    return kit_hf.trained(SCRIPT, service, "test/lightning-whole", tmp_path_factory.mktemp("whole") / "job")


@pytest.mark.parametrize(
    "kills",
    [
        kit_hf.moments(1, HOOKS, BATCHES * EPOCHS),
        kit_hf.moments(2, HOOKS, BATCHES * EPOCHS),
        ["batch_start:3", "validation_end:11", "batch_end:17"],  # before the first checkpoint, too
        # After checkpoints, at their own steps. The last one at an epoch's end: what Lightning saves later, in a life
        # that was resumed from there, it can't resume from (it trains an epoch too many, with or without a logger).
        ["batch_start:12", "batch_start:20", "epoch_start:1"],
    ],
    ids=",".join,
)
def test_the_curves_of_a_killed_job_are_those_of_one_that_was_not(
    service: RunningService, tmp_path: Path, run_name: str, whole: dict[str, Curve], kills: list[str]
) -> None:
    killed = kit_hf.trained(SCRIPT, service, run_name, tmp_path / "job", kills)

    assert kit_hf.steps(killed) == kit_hf.steps(whole)
    assert told(killed) == told(whole)
    found = kit_hf.steps(killed)
    assert found["train_loss_step"] == found["lr-SGD"] == list(range(2, STEPS + 1, 2))
    assert found["train_loss_epoch"] == found["epoch_only"] == list(range(1, EPOCHS + 1))
    assert found["val_loss_epoch"] == list(range(1, 2 * EPOCHS + 2))
    assert found["test_loss"] == [2 * EPOCHS + 2]

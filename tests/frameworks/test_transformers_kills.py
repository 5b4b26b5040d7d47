"""Jobs with a Hugging Face Trainer that are killed and resumed: their curves are those of one that was not."""

from pathlib import Path

import pytest

from tests.frameworks import kit_hf
from tests.frameworks.kit_hf import Curve
from tests.frameworks.transformers_training import EPOCHS, STEPS, STEPS_PER_EPOCH
from tests.service import RunningService

HOOKS = ("step_begin", "step_end")
SCRIPT = "transformers_training.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def told(found: dict[str, Curve]) -> dict[str, Curve]:
    """What a training says of the model, and not of its own speed or of one life only."""
    timed = ("runtime", "_per_second")
    return {t: curve for t, curve in found.items() if not t.endswith(timed) and not t.startswith("train/train_")}


@pytest.fixture(scope="module")
def whole(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Curve]:
    """The curves of a job that nobody kills."""
    return kit_hf.trained(SCRIPT, service, "test/transformers-whole", tmp_path_factory.mktemp("whole") / "job")


@pytest.mark.parametrize(
    "kills",
    [
        kit_hf.moments(1, HOOKS, STEPS),
        kit_hf.moments(2, HOOKS, STEPS),
        ["evaluate:18", "save:20", "step_end:31"],  # after what is done again, and right after a checkpoint
    ],
    ids=",".join,
)
def test_the_curves_of_a_killed_job_are_those_of_one_that_was_not(
    service: RunningService, tmp_path: Path, run_name: str, whole: dict[str, Curve], kills: list[str]
) -> None:
    killed = kit_hf.trained(SCRIPT, service, run_name, tmp_path / "job", kills)

    assert kit_hf.steps(killed) == kit_hf.steps(whole)
    assert told(killed) == told(whole)  # the Trainer restores its generators: the same to the last bit
    found = kit_hf.steps(killed)
    assert found["train/loss"] == list(range(2, STEPS + 1, 2))
    assert found["eval/loss"] == found["eval/accuracy"] == list(range(1, EPOCHS + 2))


def test_an_evaluation_that_follows_a_checkpoint_at_its_own_step_stays(
    service: RunningService, tmp_path: Path, run_name: str, whole: dict[str, Curve]
) -> None:
    kills = ["step_end:3", "evaluate:36", "step_begin:36"]  # the first one before there is any checkpoint

    killed = kit_hf.trained(SCRIPT, service, run_name, tmp_path / "job", kills)

    assert kit_hf.steps(killed) == kit_hf.steps(whole)
    assert killed["eval/loss"][:2] == whole["eval/loss"][:2]
    # What follows has other batches: the evaluation, which is not done again, had drawn from the Trainer's generator.
    assert [point for point in killed["train/loss"] if point[0] <= 36] == whole["train/loss"][: 36 // 2]


def test_epoch_figures_of_a_killed_job_stand_at_each_epoch_once(
    service: RunningService, tmp_path: Path, run_name: str, whole: dict[str, Curve]
) -> None:
    kills = kit_hf.moments(3, HOOKS, STEPS)

    killed = kit_hf.trained(SCRIPT, service, run_name, tmp_path / "job", kills, LOGGING="epoch")

    found = kit_hf.steps(killed)
    assert found["train/loss"] == found["train/learning_rate"] == list(range(1, EPOCHS + 1))
    assert found["eval/loss"] == list(range(1, EPOCHS + 2))
    # The loss of an epoch that was resumed is its mean since the checkpoint: the Trainer does not save the rest.
    assert killed["eval/loss"] == whole["eval/loss"]
    assert dict(whole["train/learning_rate"])[STEPS_PER_EPOCH] == killed["train/learning_rate"][0][1]
    assert service.get(f"/runs/{run_name}").json()["counters"]["epoch"]["total"] == EPOCHS

"""JAX and Optax, by the example: a training that is killed and resumed, and how values wait on the device."""

from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

import tallyboard
from tests.frameworks import jobs
from tests.service import RunningService

EXAMPLE = jobs.ROOT / "client" / "examples" / "digits_optax.py"
EPOCHS, BATCHES = 60, 22
"""An epoch is 1,437 images, in whole batches of 64."""
STEPS = EPOCHS * BATCHES
LASTS = dict.fromkeys(["train/loss", "train/accuracy", "train/gradient_norm", "learning_rate"], STEPS) | dict.fromkeys(
    ["val/loss", "val/accuracy"], EPOCHS
)

pytestmark = pytest.mark.timeout(600)


def train(folder: Path, service: RunningService, run: str, *, kill_at: int | None = None) -> None:
    """One life of the training: to its end, or until it is killed."""
    folder.mkdir(exist_ok=True)
    command = [str(EXAMPLE), "--name", run, "--checkpoint", str(folder / "optax.npz"), "--epochs", str(EPOCHS)]
    with jobs.started(command, service, run, {}) as process:
        if kill_at is None:
            jobs.end(process)
        else:
            jobs.kill_at(kill_at, service, run, process)


@pytest.mark.slow
def test_killed_and_resumed_it_leaves_the_curves_of_an_uninterrupted_training(
    tmp_path: Path, service: RunningService, run_name: str
) -> None:
    train(tmp_path / "whole", service, f"{run_name}-whole")
    for step in (1, 600):
        train(tmp_path / "killed", service, run_name, kill_at=step)
    train(tmp_path / "killed", service, run_name)
    curves = jobs.assert_uninterrupted(service, run_name, f"{run_name}-whole", LASTS)
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.01, STEPS // 10, STEPS)
    wanted = [float(schedule(step - 1)) for step in range(1, STEPS + 1)]  # Optax counts from 0
    assert [rate for _, rate in curves["learning_rate"]] == pytest.approx(wanted, rel=1e-5, abs=1e-9)
    assert curves["val/accuracy"][-1][1] > 0.9
    assert service.get(f"/runs/{run_name}").json()["status"] == "finished"


def test_a_run_takes_arrays_of_jax_as_they_are(service: RunningService, run_name: str) -> None:
    run = tallyboard.init(
        run_name, url=service.url, strict=True, config={"scale": jnp.float32(0.5), "sizes": jnp.arange(3)}
    )
    run.log({"loss": jnp.float32(0.25), "half": jnp.bfloat16(1.5), "whole": jnp.int32(3), "one": jnp.ones((1, 1))})
    run.log({"loss": jax.jit(lambda x: x * 2)(0.5)}, jnp.int32(7))
    run.finish()
    curves = jobs.curves(service, run_name)
    assert curves == {"loss": [(1, 0.25), (7, 1.0)], "half": [(1, 1.5)], "whole": [(1, 3.0)], "one": [(1, 1.0)]}
    assert service.get(f"/runs/{run_name}").json()["config"] == {"scale": 0.5, "sizes": [0, 1, 2]}

"""PyTorch with DistributedDataParallel, by the example: two processes, killed and resumed, and what they report."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from tallyboard_server.cli.demo.process import free_port
from tests.frameworks import jobs
from tests.service import RunningService

EXAMPLE = jobs.ROOT / "client" / "examples" / "digits_ddp.py"
EPOCHS, BATCHES = 10, 23
"""An epoch is 719 images of each rank, in batches of 32."""
STEPS = EPOCHS * BATCHES
LASTS = dict.fromkeys(["train/loss", "train/gradient_norm", "learning_rate"], STEPS) | dict.fromkeys(
    ["val/loss", "val/accuracy"], EPOCHS
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def train(
    folder: Path, service: RunningService, run: str, *options: str, epochs: int = EPOCHS, kill_at: int | None = None
) -> None:
    """One life of the job: both ranks to their end, or until they are killed."""
    folder.mkdir(exist_ok=True)
    command = [str(EXAMPLE), "--name", run, "--checkpoint", str(folder / "ddp.pt"), "--epochs", str(epochs), *options]
    together = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port("127.0.0.1"))}
    with ExitStack() as stack:
        ranks = [
            stack.enter_context(
                jobs.started(command, service, run, together | {"RANK": str(rank), "OMP_NUM_THREADS": "1"})
            )
            for rank in range(2)
        ]
        if kill_at is not None:
            jobs.kill_at(kill_at, service, run, *ranks)
            return
        for rank in ranks:
            jobs.end(rank)


def test_killed_and_resumed_it_leaves_the_curves_of_an_uninterrupted_training(
    tmp_path: Path, service: RunningService, run_name: str
) -> None:
    train(tmp_path / "whole", service, f"{run_name}-whole")
    for step in (5, 100):  # before there is a checkpoint, and after
        train(tmp_path / "killed", service, run_name, kill_at=step)
    train(tmp_path / "killed", service, run_name)
    curves = jobs.assert_uninterrupted(service, run_name, f"{run_name}-whole", LASTS)
    assert curves["val/accuracy"][-1][1] > 0.9
    found = service.get(f"/runs/{run_name}").json()
    assert (found["status"], found["config"]["batch_size"]) == ("finished", 64)
    assert {name: found["counters"][name]["total"] for name in ("global_step", "epoch")} == {
        "global_step": STEPS, "epoch": EPOCHS,
    }  # fmt: skip


def test_each_rank_may_have_a_run_of_its_own(tmp_path: Path, service: RunningService, run_name: str) -> None:
    train(tmp_path, service, run_name, "--ranks", "all", epochs=2)
    both = [jobs.curves(service, f"{run_name}/rank{rank:02d}") for rank in range(2)]
    assert both[0] == both[1]  # figures are averaged over the ranks, so both report the same
    assert jobs.steps(both[0]["train/loss"]) == list(range(1, 2 * BATCHES + 1))
    assert service.get(f"/runs/{run_name}").status == 404


def test_it_runs_as_torchrun_starts_it(tmp_path: Path, service: RunningService, run_name: str) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(EXAMPLE)]
    options = ["--name", run_name, "--checkpoint", str(tmp_path / "ddp.pt"), "--epochs", "1"]
    jobs.train([*command, *options], service, run_name, {"OMP_NUM_THREADS": "1"})
    assert jobs.steps(jobs.curves(service, run_name)["train/loss"]) == list(range(1, BATCHES + 1))

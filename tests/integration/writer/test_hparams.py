"""add_hparams: config and summary, and runs for further trials."""

import numpy as np
import pytest

from tallyboard import SummaryWriter
from tests.service import RunningService
from tests.writer_kit import described


def test_hyperparameters_are_config_and_metrics_are_summary(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, config={"given": 1}, strict=True) as writer:
        hparams = {"lr": 0.1, "opt": "adam", "deep": True, "none": None, "fn": len, "n": np.int64(3)}
        writer.add_hparams(hparams, {"acc": 0.9, "loss": np.float32(0.5)}, name="trial")
        writer.add_hparams(hparams, {"acc": 0.95}, global_step=2)
    told = described(service, run_name)
    assert told["config"] == {"given": 1, "lr": 0.1, "opt": "adam", "deep": True, "fn": "len", "n": 3}
    assert told["summary"] == {"acc": 0.95, "loss": 0.5}
    assert service.get(f"/runs/{run_name}/trial").status == 404  # no run beside it


def test_further_trials_are_runs_below_it(service: RunningService, run_name: str) -> None:
    with SummaryWriter(run_name, strict=True) as writer:
        for i in range(3):
            writer.add_hparams({"lr": 0.1 * i}, {"acc": 10.0 * i}, {"lr": [0.1]}, "third" if i == 2 else None, i)
    configs = {name: described(service, f"{run_name}{name}") for name in ("", "/hparams-2", "/third")}
    assert [told["config"]["lr"] for told in configs.values()] == [0.0, 0.1, 0.2]
    assert [told["summary"]["acc"] for told in configs.values()] == [0.0, 10.0, 20.0]
    assert {told["status"] for told in configs.values()} == {"finished"}


def test_hyperparameters_that_are_none_are_told(run_name: str, caplog: pytest.LogCaptureFixture) -> None:
    with SummaryWriter(run_name) as writer:
        writer.add_hparams(["lr"], {})  # type: ignore[arg-type]
        writer.add_hparams({"lr": 1}, {"acc": "good"})
    assert caplog.text.count("add_hparams") == 2


def test_hyperparameters_by_hand_are_taken_over(service: RunningService, run_name: str) -> None:
    """The well-known way around tensorboardX's run in a run."""
    from tensorboardX.summary import hparams

    with SummaryWriter(run_name, strict=True) as writer:
        for proto in hparams({"lr": 0.1, "opt": "adam", "deep": False}, {"acc": 1.0}):
            writer.file_writer.add_summary(proto)
    told = described(service, run_name)
    assert told["config"] == {"lr": 0.1, "opt": "adam", "deep": False}
    assert told["kinds"] == {}

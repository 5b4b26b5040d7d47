"""A stock Lightning Trainer: what another logger is given is what the service holds, and nothing is refused."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger

import tallyboard
from tallyboard.integrations.lightning import TallyboardLogger
from tests.frameworks import kit_hf
from tests.frameworks.lightning_training import (
    BATCHES,
    STEPS_PER_EPOCH,
    Classifier,
    train_batches,
    trainer,
    validation_batches,
)
from tests.service import RunningService

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("named"),
    pytest.mark.filterwarnings("default"),  # the framework's own are its own
]


class Memory(Logger):
    """A logger that keeps what it is given."""

    name = "memory"
    version = ""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def steps(self, tag: str) -> list[int | None]:
        """Those at which a tag was logged."""
        return [step for step, metrics in self.rows if tag in metrics]


def finished(board: TallyboardLogger) -> str:
    """The name of its run, which is over and had nothing refused."""
    run = board.experiment
    run.finish()
    stats = run.stats()
    assert (stats.refused, stats.dropped_reports, stats.dropped_scalars, stats.waiting) == (0, 0, 0, 0)
    return str(run.name)


def fit(job: lightning.Trainer, **more: Any) -> Classifier:
    """Fit a new model."""
    model = Classifier()
    job.fit(model, train_batches(), validation_batches(), **more)
    return model


def missing(memory: Memory, curves: Mapping[str, kit_hf.Curve]) -> Counter[tuple[str, float]]:
    """What was logged and is not there, as the tag itself or below the name of a counter.

    A tag that is logged twice at a step with one value is there once: the learning rate, at both batches of an update.
    """
    logged: set[tuple[str, int | None, float]] = set()
    apart: list[tuple[str, float]] = []
    for step, metrics in memory.rows:
        for tag, value in metrics.items():
            if tag.startswith("lr-"):
                logged.add((tag, step, float(value)))
            else:
                apart.append((tag, float(value)))
    held: Counter[tuple[str, float]] = Counter()
    for (tag, value), count in kit_hf.values(curves).items():
        counter, _, below = tag.partition("/")
        held[below if below and counter in ("evaluation", "epoch", "tag") else tag, value] += count
    return Counter([*((tag, value) for tag, _, value in logged), *apart]) - held


def test_every_value_that_it_logs_is_there_and_none_is_refused(service: RunningService, tmp_path: Path) -> None:
    board, memory = TallyboardLogger(), Memory()
    job = trainer(tmp_path, [board, memory], [board], max_epochs=2)
    model = fit(job)
    job.validate(model, validation_batches(), verbose=False)
    job.test(model, validation_batches(), verbose=False)
    first = len(memory.rows)
    again = trainer(tmp_path, [board, memory], [board], max_epochs=2)
    again.fit(model, train_batches(), validation_batches())
    run = finished(board)

    curves = kit_hf.curves(service, run)
    assert missing(memory, curves) == Counter()
    found, steps = kit_hf.steps(curves), 2 * STEPS_PER_EPOCH
    lightnings = [step for step in memory.steps("train_loss_step") if step is not None]
    half = len(lightnings) // 2
    assert lightnings[:half] == lightnings[half:]
    assert found["train_loss_step"] == [offset + step + 1 for offset in (0, steps) for step in lightnings[:half]]
    assert found["train_loss_epoch"] == found["epoch_only"] == [1, 2, 3, 4]
    assert found["val_loss_epoch"] == [1, 2, 3, 4, 5, 7, 8, 9, 10]  # none of the sanity checks
    assert found["test_loss"] == [6]
    assert found["val_loss_step"] == list(range(1, 2 * 9 + 1))
    device = sorted(step for tag, each in found.items() if tag.endswith("cpu_percent") for step in each)
    assert device == list(range(1, len(device) + 1))
    assert len(device) == sum(any(tag.startswith("DeviceStats") for tag in row) for _, row in memory.rows)
    assert first < len(memory.rows)
    document = service.get(f"/runs/{run}").json()
    totals = {name: counter["total"] for name, counter in document["counters"].items() if counter["total"]}
    assert totals == {"global_step": 2 * steps, "epoch": 4}
    assert document["config"] == {"learning_rate": 0.1}
    last = {tag: value for tag, curve in curves.items() for _, value in curve[-1:]}
    results = ("train_loss_epoch", "epoch_only", "val_loss_epoch", "test_loss")
    assert document["summary"] == {tag: last[tag] for tag in results}
    assert kit_hf.stood(service, run, "val_loss_epoch", "global_step")[:5] == [6, 12, 18, 24, 24]
    assert kit_hf.stood(service, run, "val_loss_epoch", "epoch")[:5] == [0, 0, 1, 1, 2]


def test_the_trainer_that_fits_further_goes_on(service: RunningService, tmp_path: Path) -> None:
    board, memory = TallyboardLogger(), Memory()
    job = trainer(tmp_path, [board, memory], [board], max_epochs=1)
    model = fit(job)
    job.fit_loop.max_epochs = 2
    job.fit(model, train_batches(), validation_batches())
    run = finished(board)

    curves = kit_hf.curves(service, run)
    assert missing(memory, curves) == Counter()
    assert kit_hf.steps(curves)["train_loss_step"] == list(range(2, 2 * STEPS_PER_EPOCH + 1, 2))
    assert kit_hf.steps(curves)["train_loss_epoch"] == [1, 2]


class Talkative(Classifier):
    """Logs past Lightning, at steps of its own or none."""

    def training_step(self, batch: Any, number: int) -> Any:
        """Mean cross-entropy (nats) of a batch."""
        self.logger.log_metrics({"mine": float(number)}, step=None)
        self.logger.log_metrics({"tens": float(number)}, step=1000 + 10 * number)
        return super().training_step(batch, number)

    def validation_step(self, batch: Any, number: int) -> None:
        """Log the loss under a name that the training has, too."""
        self.log("train_loss_epoch", self._loss(batch))


@pytest.mark.parametrize("steps", ["own", "none"])
def test_what_is_logged_past_the_trainer_has_counters_of_its_own(
    service: RunningService, tmp_path: Path, steps: str
) -> None:
    board = TallyboardLogger()
    job = trainer(tmp_path, [board], [board], max_epochs=1, accumulate_grad_batches=1)
    model = Talkative()
    job.fit(model, train_batches(), validation_batches())
    board.log_metrics({"after": 1.0})
    board.log_metrics({"after": 2.0}, step=7 if steps == "own" else None)

    found = kit_hf.steps(kit_hf.curves(service, finished(board)))
    assert found["mine"] == list(range(BATCHES))  # those count as a SummaryWriter without steps does
    assert found["tens"] == list(range(1000, 1000 + 10 * BATCHES, 10))
    assert found["after"] == ([0, 7] if steps == "own" else [0, 1])
    assert found["train_loss_step"] == list(range(2, BATCHES + 1, 2))
    assert found["train_loss_epoch"] == [1, 2]  # the first to log it were the validations
    assert found["epoch/train_loss_epoch"] == [1]


def saving(folder: Path, steps: int = 3) -> ModelCheckpoint:
    """A checkpoint every so many steps."""
    return ModelCheckpoint(folder, every_n_train_steps=steps, save_top_k=-1)


def test_a_fit_that_is_resumed_goes_on_in_the_run_of_its_checkpoint(
    service: RunningService, tmp_path: Path, named: str
) -> None:
    service.report(named, {"scalars": {"x": 1.0}, "step": 1, "counter": "global_step"})  # the name is taken
    first = TallyboardLogger()
    fit(trainer(tmp_path, [first], [first, saving(tmp_path)], max_epochs=1))
    run = finished(first)
    assert run == f"{named}-2"

    second = TallyboardLogger()
    job = trainer(tmp_path, [second], [second], max_epochs=1)
    model = fit(job, ckpt_path=str(tmp_path / "epoch=0-step=6.ckpt"))
    job.validate(model, validation_batches(), ckpt_path=str(tmp_path / "epoch=0-step=3.ckpt"), verbose=False)

    assert finished(second) == run
    found = kit_hf.steps(kit_hf.curves(service, run))
    assert found["train_loss_step"] == [2, 4, 6, 8, 10, 12]
    assert found["train_loss_epoch"] == [1]
    assert found["val_loss_epoch"] == [1, 2, 3]  # what a validation loads is no resumption


def test_a_checkpoint_that_knows_nothing_of_us_is_resumed_where_it_stands(
    service: RunningService, tmp_path: Path
) -> None:
    fit(trainer(tmp_path, [Memory()], [saving(tmp_path)], max_epochs=1))
    board = TallyboardLogger()
    fit(trainer(tmp_path, [board], [board], max_epochs=1), ckpt_path=str(tmp_path / "epoch=0-step=6.ckpt"))

    assert kit_hf.steps(kit_hf.curves(service, finished(board)))["train_loss_step"] == [8, 10, 12]


def test_a_run_of_the_callers_own_is_found_and_left_to_them(service: RunningService, tmp_path: Path) -> None:
    run = tallyboard.init(config={"mine": 1})
    board = TallyboardLogger(run=run)
    assert board.experiment is run
    fit(trainer(tmp_path, [board], [board], max_epochs=1))
    found = TallyboardLogger()
    fit(trainer(tmp_path, [found], [found], max_epochs=1))

    assert found.experiment is run
    assert not run.finished
    finished(board)
    assert kit_hf.steps(kit_hf.curves(service, run.name))["train_loss_epoch"] == [1, 2]
    assert service.get(f"/runs/{run.name}").json()["config"] == {"mine": 1, "learning_rate": 0.1}


def test_a_run_that_is_not_begun_is_no_experiment_yet(named: str) -> None:
    board = TallyboardLogger()

    with pytest.raises(AttributeError, match=r"run=tallyboard\.init"):
        _ = board.experiment
    assert (board.name, board.version) == (named, "")  # the folder of checkpoints


def test_a_dry_run_reports_nothing(tmp_path: Path) -> None:
    board = TallyboardLogger()
    fit(trainer(tmp_path, [board], [board], fast_dev_run=True))

    assert not hasattr(board, "experiment")


@pytest.mark.parametrize(("loggers", "callbacks"), [(True, False), (False, True)])
def test_half_of_it_is_warned_about(tmp_path: Path, loggers: bool, callbacks: bool) -> None:
    board = TallyboardLogger()
    job = trainer(tmp_path, [board if loggers else Memory()], [board] * callbacks, max_epochs=1)

    with pytest.warns(UserWarning, match=r"logger=board, callbacks=\[board\]"):
        fit(job)
    if loggers:
        finished(board)


def test_fabric_says_its_steps_itself(service: RunningService) -> None:
    board = TallyboardLogger()
    fabric = lightning.Fabric(accelerator="cpu", devices=1, loggers=[board])
    for step in range(1, 4):
        fabric.log_dict({"loss": 1 / step}, step=step)

    assert kit_hf.steps(kit_hf.curves(service, finished(board))) == {"loss": [1, 2, 3]}


@pytest.mark.slow
def test_a_fit_that_fails_is_a_failed_run(service: RunningService, tmp_path: Path, named: str) -> None:
    said = kit_hf.failing("lightning_training.py", service, named, tmp_path, "batch_end:3")

    document = service.get(f"/runs/{named}").json()
    assert document["status"] == "failed"
    assert said in document["summary"]["exception"]

"""A job: a stock Lightning Trainer that goes on from its last checkpoint, if there is one."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, DeviceStatsMonitor, LearningRateMonitor, ModelCheckpoint
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tallyboard.integrations.lightning import TallyboardLogger
from tests.frameworks.kit_hf import die_at

EPOCHS = 4
BATCHES, ACCUMULATED = 24, 2
STEPS_PER_EPOCH = BATCHES // ACCUMULATED
STEPS = EPOCHS * STEPS_PER_EPOCH
SAVE_STEPS = 3
"""The checkpoints at 6, 12, … are saved before the validation at these steps, and the figures of the epoch."""


class Classifier(lightning.LightningModule):
    """64 pixels → 10 digits."""

    def __init__(self, learning_rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(1)
        self.layer = torch.nn.Linear(64, 10)

    def training_step(self, batch: Any, _: int) -> Any:
        """Mean cross-entropy (nats) of a batch."""
        loss = self._loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("epoch_only", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, _: int) -> None:
        """Log it, of each batch and of all."""
        self.log("val_loss", self._loss(batch), on_step=True, on_epoch=True)

    def test_step(self, batch: Any, number: int) -> None:
        """Log it, of all."""
        self.log("test_loss", self._loss(batch))

    def configure_optimizers(self) -> Any:
        """Plain gradient descent, with a learning rate that sinks."""
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"])
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, batch: Any) -> Any:
        pixels, labels = batch
        return cross_entropy(self.layer(pixels), labels)


class Resumable:
    """Batches of an epoch in order, which go on where a checkpoint was saved, as those of a StatefulDataLoader do."""

    def __init__(self, batches: Sequence[Any]) -> None:
        self._batches = batches
        self._next = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        first, self._next = self._next % len(self), 0
        for number in range(first, len(self)):
            self._next = number + 1
            yield self._batches[number]
        self._next = 0

    def state_dict(self) -> dict[str, int]:
        """Where it stands."""
        return {"next": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand there when it is next iterated."""
        self._next = state["next"]


class Killer(Callback):
    """Ends the job where the test says: at a batch, counted over epochs."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        die_at("batch_start", trainer.fit_loop.total_batch_idx)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        die_at("batch_end", trainer.fit_loop.total_batch_idx)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        die_at("validation_end", trainer.fit_loop.total_batch_idx)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        die_at("epoch_start", trainer.current_epoch)


def digits(first: int, count: int) -> TensorDataset:
    """Images as 64 pixels in 0…1, and what they show."""
    images, labels = load_digits(return_X_y=True)
    rows = slice(first, first + count)
    return TensorDataset(torch.tensor(images[rows] / 16, dtype=torch.float32), torch.tensor(labels[rows]))


def train_batches() -> Resumable:
    """24 batches of 12 images."""
    return Resumable(list(DataLoader(digits(0, BATCHES * 12), batch_size=12)))


def validation_batches() -> DataLoader[Any]:
    """2 batches of 48 images."""
    return DataLoader(digits(BATCHES * 12, 96), batch_size=48)


def trainer(folder: Path, loggers: Sequence[Any], callbacks: Sequence[Any], **changes: Any) -> lightning.Trainer:
    """Two batches to an update, two validations in an epoch, monitors of the learning rate and the device."""
    wanted: dict[str, Any] = {
        "max_epochs": EPOCHS, "accumulate_grad_batches": ACCUMULATED, "log_every_n_steps": 2,
        "val_check_interval": 0.5, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
        "default_root_dir": folder,
    }  # fmt: skip
    every = [LearningRateMonitor(), DeviceStatsMonitor(cpu_stats=True), *callbacks]
    return lightning.Trainer(logger=list(loggers), callbacks=every, **(wanted | changes))


def last_checkpoint(folder: Path) -> str | None:
    """The one of the largest step, of the life that saved it first.

    A resumed ModelCheckpoint saves its step once more, a batch later: in the middle of an accumulation, whose gradients
    no checkpoint holds. So each life has a folder of its own, or that would take the place of the good one.
    """
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*/*.ckpt")):
        found.setdefault(int(re.findall(r"step=(\d+)", path.name)[0]), path)
    return str(found[max(found)]) if found else None


def main() -> None:
    """Train, validate and test."""
    folder = Path(os.environ["FOLDER"], "checkpoints")
    board = TallyboardLogger(resume="continue")
    life = folder / str(len(list(folder.glob("*"))))
    saving = ModelCheckpoint(life, every_n_train_steps=SAVE_STEPS, save_top_k=-1)
    job = trainer(folder, [board], [board, saving, Killer()])
    model = Classifier()
    job.fit(model, train_batches(), validation_batches(), ckpt_path=last_checkpoint(folder))
    job.validate(model, validation_batches(), verbose=False)
    job.test(model, validation_batches(), verbose=False)


if __name__ == "__main__":
    main()

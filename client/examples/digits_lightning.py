"""Train a small network on scikit-learn's handwritten digits with PyTorch Lightning.

It goes on from its last checkpoint, if there is one: kill it and start it again, and each step is there once.

    pip install 'tallyboard[lightning,examples]'
    tallyboard serve                      # in one terminal
    python digits_lightning.py            # in another
"""

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tallyboard.integrations.lightning import TallyboardLogger

VALIDATION = 360
"""Of the 1,797 images, those that are kept for the validation."""
BATCH_SIZE = 64


class Classifier(lightning.LightningModule):
    """64 pixels → `hidden` rectified units → 10 classes."""

    def __init__(self, hidden: int = 64, learning_rate: float = 3e-3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, 10))

    def training_step(self, batch: Any, number: int) -> Any:
        """Mean cross-entropy (nats) of a batch."""
        pixels, labels = batch
        loss = cross_entropy(self.layers(pixels), labels)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, number: int) -> None:
        """Log loss and accuracy (0…1)."""
        pixels, labels = batch
        logits = self.layers(pixels)
        self.log("val/loss", cross_entropy(logits, labels))
        self.log("val/accuracy", (logits.argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self) -> Any:
        """Adam, with a learning rate that sinks to a tenth."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["learning_rate"])
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.8)]


def load() -> tuple[Any, Any]:
    """Batches of (training, validation): rows of 64 pixels in 0…1, and the digit each shows."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    digits = TensorDataset(torch.tensor(images / 16.0, dtype=torch.float32)[order], torch.tensor(labels)[order])
    training = torch.utils.data.Subset(digits, range(VALIDATION, len(digits)))
    validation = torch.utils.data.Subset(digits, range(VALIDATION))
    return DataLoader(training, BATCH_SIZE, shuffle=True), DataLoader(validation, VALIDATION)


def main() -> None:
    """Train, and validate once more."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output-dir", type=Path, default=Path("digits-lightning"))
    arguments = parser.parse_args()
    last = arguments.output_dir / "last.ckpt"
    training, validation = load()
    board = TallyboardLogger("digits/lightning", resume="continue")
    saving = ModelCheckpoint(arguments.output_dir, save_last=True, save_on_train_epoch_end=True)
    trainer = lightning.Trainer(
        max_epochs=arguments.epochs, logger=board, callbacks=[board, saving, LearningRateMonitor()],
        log_every_n_steps=5, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = Classifier()
    trainer.fit(model, training, validation, ckpt_path=last if last.exists() else None)
    found = trainer.validate(model, validation, verbose=False)[0]
    print(f"{board.experiment.name}: validation accuracy {found['val/accuracy']:.3f}")


if __name__ == "__main__":
    main()

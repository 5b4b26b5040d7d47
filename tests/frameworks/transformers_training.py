"""A job: a stock Hugging Face Trainer that goes on from its last checkpoint, if there is one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from tallyboard.integrations.transformers import TallyboardCallback
from tests.frameworks.kit_hf import die_at

EPOCHS = 4
STEPS_PER_EPOCH = 18
STEPS = EPOCHS * STEPS_PER_EPOCH
SAVE_STEPS = 4
"""The checkpoint at 36 is saved before the evaluation of the second epoch, which belongs to the same step."""


class Classifier(nn.Module):
    """64 pixels → 10 digits, with dropout: a resumed training must restore the generators to come to the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10))

    def forward(self, pixels: Any, labels: Any) -> dict[str, Any]:
        """Mean cross-entropy (nats), and logits [batch, 10]."""
        logits = self.layers(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def digits(first: int, count: int) -> list[dict[str, Any]]:
    """Images as 64 pixels in 0…1, and what they show."""
    images, labels = load_digits(return_X_y=True)
    rows = range(first, first + count)
    return [{"pixels": (images[row] / 16).astype(np.float32), "labels": int(labels[row])} for row in rows]


def accuracy(prediction: Any) -> dict[str, float]:
    """Share of digits that are recognised."""
    return {"accuracy": float((prediction.predictions.argmax(axis=1) == prediction.label_ids).mean())}


def trainer(folder: Path, callbacks: Sequence[Any], **changes: Any) -> Trainer:
    """Gradient accumulation, and an evaluation after each epoch of 18 updates (288 images, 8 in a batch, two each)."""
    wanted: dict[str, Any] = {
        "num_train_epochs": EPOCHS, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 2,
        "learning_rate": 3e-3, "logging_steps": 2, "eval_strategy": "epoch", "save_steps": SAVE_STEPS,
        "report_to": [], "disable_tqdm": True, "use_cpu": True, "seed": 3, "dataloader_num_workers": 0,
    }  # fmt: skip
    return Trainer(
        Classifier(), TrainingArguments(output_dir=str(folder), **(wanted | changes)), train_dataset=digits(0, 288),
        eval_dataset=digits(288, 96), compute_metrics=accuracy, callbacks=list(callbacks),
    )  # fmt: skip


class Killer(TrainerCallback):
    """Ends the job where the test says."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        die_at("step_begin", state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        die_at("step_end", state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        die_at("save", state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        die_at("log", state.global_step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        die_at("evaluate", state.global_step)


def main() -> None:
    """Train, and evaluate once more at the end."""
    folder = Path(os.environ["FOLDER"])
    logging = os.environ.get("LOGGING", "steps")
    job = trainer(folder, [TallyboardCallback(resume="continue"), Killer()], logging_strategy=logging)
    job.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
    job.evaluate()


if __name__ == "__main__":
    main()

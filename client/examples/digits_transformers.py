"""Train a small network on scikit-learn's handwritten digits with Hugging Face's Trainer.

It goes on from its last checkpoint, if there is one: kill it and start it again, and the curves have no seam.

    pip install 'tallyboard[transformers,examples]'
    tallyboard serve                      # in one terminal
    python digits_transformers.py         # in another
"""

import argparse
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from tallyboard.integrations.transformers import TallyboardCallback

VALIDATION = 360
"""Of the 1,797 images, those that are kept for the evaluation."""


def load() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(training, validation): images as 64 pixels in 0…1, and the digit each shows."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images / 16.0).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(labels))
    digits = [{"pixels": pixels[row], "labels": int(labels[row])} for row in order]
    return digits[VALIDATION:], digits[:VALIDATION]


class DigitsConfig(PretrainedConfig):
    """hidden: rectified units between the 64 pixels and the 10 classes."""

    model_type = "digits"

    def __init__(self, hidden: int = 64, **more: Any) -> None:
        self.hidden = hidden
        super().__init__(**more)


class Classifier(PreTrainedModel):
    """64 pixels → `hidden` rectified units → 10 classes."""

    config_class = DigitsConfig

    def __init__(self, config: DigitsConfig) -> None:
        super().__init__(config)
        self.layers = nn.Sequential(nn.Linear(64, config.hidden), nn.ReLU(), nn.Linear(config.hidden, 10))
        self.post_init()

    def forward(self, pixels: Any, labels: Any) -> dict[str, Any]:
        """Mean cross-entropy (nats), and logits [batch, 10]."""
        logits = self.layers(pixels)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def accuracy(prediction: Any) -> dict[str, float]:
    """Share of the digits that are recognised."""
    return {"accuracy": float((prediction.predictions.argmax(axis=1) == prediction.label_ids).mean())}


def main() -> None:
    """Train, and evaluate the best model once more."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--output-dir", default="digits-transformers")
    arguments = parser.parse_args()
    training, validation = load()
    settings = TrainingArguments(
        output_dir=arguments.output_dir, num_train_epochs=arguments.epochs, per_device_train_batch_size=64,
        learning_rate=1e-2, logging_steps=5, eval_strategy="epoch", save_strategy="epoch", save_total_limit=2,
        load_best_model_at_end=True, metric_for_best_model="accuracy", report_to="none", disable_tqdm=True,
    )  # fmt: skip
    board = TallyboardCallback(resume="continue")
    trainer = Trainer(
        Classifier(DigitsConfig()), settings, train_dataset=training, eval_dataset=validation, compute_metrics=accuracy,
        callbacks=[board],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=get_last_checkpoint(arguments.output_dir))
    found = trainer.evaluate()
    if board.run is not None:
        print(f"{board.run.name}: validation accuracy {found['eval_accuracy']:.3f}")


if __name__ == "__main__":
    main()

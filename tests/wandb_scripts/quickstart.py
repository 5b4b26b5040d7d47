"""A training with hyperparameters in wandb.config, one call of log an epoch, and a summary by hand."""

import argparse
import random

import wandb

parser = argparse.ArgumentParser()
parser.add_argument("--batch-size", type=int, default=64)
args = parser.parse_args()

wandb.login()
wandb.init(
    entity="my-team", project="pets", name="resnet baseline", notes="first try", tags=["baseline", "paper1"],
    group="resnets", job_type="train", config={"learning_rate": 0.02, "architecture": "CNN", "epochs": 10},
    save_code=True,
)  # fmt: skip
wandb.config.update(args)
wandb.config.dropout = 0.2
wandb.config.update({"epochs": 5}, allow_val_change=True)

random.seed(0)
offset = random.random() / 5
best_accuracy = 0.0
for epoch in range(wandb.config.epochs):
    acc = 1 - 2**-epoch - random.random() / (epoch + 1) - offset
    loss = 2**-epoch + random.random() / (epoch + 1) + offset
    wandb.log({"accuracy": acc, "loss": loss, "epoch": epoch, "lr": wandb.config["learning_rate"] / (epoch + 1)})
    if acc > best_accuracy:
        wandb.run.summary["best_accuracy"] = acc
        best_accuracy = acc
wandb.summary["done"] = True
print(wandb.summary["loss"] == loss, wandb.run.name, wandb.run.step, wandb.config.get("nothing", 3))
wandb.finish()

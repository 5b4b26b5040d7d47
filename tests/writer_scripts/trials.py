"""Hyperparameters of several trials in one writer, and those of a writer of its own."""

from tensorboardX import SummaryWriter

with SummaryWriter("runs/trials/sweep") as writer:
    for i in range(3):
        writer.add_hparams({"lr": 0.1 * i, "bsize": i, "opt": "adam"}, {"hparam/accuracy": 10 * i})

for trial in range(2):
    with SummaryWriter(f"runs/trials/single{trial}") as writer:
        for step in range(3):
            writer.add_scalar("loss", trial + step, step)
        writer.add_hparams({"lr": trial, "act": None, "fn": print}, {"loss": trial + 2.0}, "trial")

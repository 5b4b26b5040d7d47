"""Train on scikit-learn's handwritten digits with PyTorch's DistributedDataParallel, in as many processes as you like.

Rank 0 reports, figures that are averaged over all ranks. The checkpoint holds the run's counters beside the weights:
kill the job at any moment and start it again, and the curves are those of a training that was never killed.

    tallyboard serve                                                         # in one terminal
    torchrun --standalone --nproc-per-node 2 digits_ddp.py                   # in another
"""

import argparse
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import tallyboard

BATCH_SIZE = 32
"""Of each rank."""
VALIDATION = 360
"""Images that are kept back."""


class Job:
    """What a training consists of, and what its checkpoint holds."""

    def __init__(self, run: tallyboard.Run, learning_rate: float, epochs: int) -> None:
        images, labels = load_digits(return_X_y=True)
        inputs, targets = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
        training = TensorDataset(inputs[VALIDATION:], targets[VALIDATION:])
        self.validation = inputs[:VALIDATION], targets[:VALIDATION]
        self.sampler: DistributedSampler[Any] = DistributedSampler(training, seed=0)  # the same order after a resume
        self.batches = DataLoader(training, BATCH_SIZE, sampler=self.sampler)
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.parallel = DistributedDataParallel(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), learning_rate)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, epochs * len(self.batches))
        self.run = run
        self.global_step = run.counter("global_step", total=epochs * len(self.batches))
        self.epoch = run.counter("epoch", total=epochs)

    def train_step(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
        """One update; its figures, averaged over all ranks."""
        rate = self.optimizer.param_groups[0]["lr"]  # before the schedule moves on to the next step's
        loss = nn.functional.cross_entropy(self.parallel(images), labels)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)  # the same on all ranks: DDP has averaged them
        self.optimizer.step()
        self.schedule.step()
        return {"train/loss": mean_of_ranks(loss), "train/gradient_norm": norm.item(), "learning_rate": rate}

    def validate(self) -> dict[str, float]:
        """Loss and accuracy on this rank's share of the images kept back, averaged over all ranks."""
        images, labels = (part[dist.get_rank() :: dist.get_world_size()] for part in self.validation)
        with torch.no_grad():
            logits = self.model(images)
        loss, right = nn.functional.cross_entropy(logits, labels), (logits.argmax(1) == labels).float().mean()
        return {"val/loss": mean_of_ranks(loss), "val/accuracy": mean_of_ranks(right)}

    def rest_of_epoch(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The batches that this epoch still has: after a resume, not all."""
        self.sampler.set_epoch(self.epoch.value)
        return islice(iter(self.batches), self.global_step.value - self.epoch.value * len(self.batches), None)

    def save(self, path: Path) -> None:
        """Keep what was reported so far, then a checkpoint that goes on from here: in that order, and whole or not."""
        self.run.flush(kept=True)
        dist.barrier()  # with ranks="all", each has kept its own
        if dist.get_rank() == 0:
            parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "counters": self.run}
            new = path.with_suffix(".new")
            torch.save({name: part.state_dict() for name, part in parts.items()}, new)
            new.replace(path)

    def load(self, path: Path) -> None:
        """Go back to a checkpoint; so does the run, to the very step."""
        checkpoint = torch.load(path, weights_only=True)
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.schedule.load_state_dict(checkpoint["schedule"])
        self.run.load_state_dict(checkpoint["counters"])


def mean_of_ranks(value: torch.Tensor) -> float:
    """The mean over all ranks of one number that each has."""
    mean = value.detach() / dist.get_world_size()
    dist.all_reduce(mean)
    return float(mean)


def train(job: Job, epochs: int, checkpoint: Path, save_every: int) -> None:
    """Train to the end of the last epoch, with a checkpoint every so many steps."""
    while job.epoch.value < epochs:
        for images, labels in job.rest_of_epoch():
            figures = job.train_step(images, labels)
            job.global_step.increment()
            job.run.log(figures)
            if job.global_step.value % save_every == 0:
                job.save(checkpoint)
        figures = job.validate()
        job.epoch.increment()
        job.run.log(figures)  # val/* counts on epoch: see main()


def main() -> None:
    """Train, or go on from the checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--name", default="digits/ddp", help="of the run, by which it is found again after a kill")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--checkpoint", type=Path, default=Path("digits_ddp.pt"))
    parser.add_argument("--save-every", type=int, default=50, metavar="STEPS")
    parser.add_argument("--ranks", choices=("zero", "all"), default="zero", help="which ranks report")
    arguments = parser.parse_args()
    dist.init_process_group("gloo")
    resumed = arguments.checkpoint.exists()
    run = tallyboard.init(
        arguments.name,
        config={"learning_rate": arguments.learning_rate, "batch_size": BATCH_SIZE * dist.get_world_size()},
        counters={"val/*": "epoch"},
        ranks=arguments.ranks,
        resume="continue",
        next_steps=None if resumed else {"global_step": 1, "epoch": 1},  # killed before there was a checkpoint
    )
    job = Job(run, arguments.learning_rate, arguments.epochs)
    if resumed:
        job.load(arguments.checkpoint)
    train(job, arguments.epochs, arguments.checkpoint, arguments.save_every)
    run.finish()
    dist.barrier()  # gloo may abort a process that leaves while another still talks to it
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

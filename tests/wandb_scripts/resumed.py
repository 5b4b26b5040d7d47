"""A job that is begun twice with one id, as after a preemption."""

import sys

import wandb

wandb.init(project="resumed", id="job-7", resume="allow")
print(wandb.run.resumed)
for _ in range(3):
    wandb.log({"loss": 1.0})
wandb.run.log({"part": int(sys.argv[1])})

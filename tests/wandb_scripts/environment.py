"""A script that leaves project, name and mode to the environment."""

import wandb

run = wandb.init()
for i in range(3):
    run.log({"i": i})

"""Scalars, alone and in groups, of batches and of epochs, with and without steps and times."""

import math

from tensorboardX import SummaryWriter

with SummaryWriter("runs/scalars/try1", comment="unused", flush_secs=30) as writer:
    for epoch in range(3):
        for batch in range(10):
            n_iter = epoch * 10 + batch
            writer.add_scalar("data/loss", math.exp(-n_iter / 10), n_iter)
            writer.add_scalar("data/timed", n_iter, global_step=n_iter, walltime=1_700_000_000 + n_iter)
        writer.add_scalar("epoch/accuracy", 1 - 1 / (epoch + 2), epoch)
        writer.add_scalars("data/group", {"sin": math.sin(epoch), "cos": math.cos(epoch)}, epoch)
        writer.flush()
    writer.add_scalar("final", 0.5)
    with writer.use_metadata(global_step=7, walltime=1_700_000_000.5):
        writer.add_scalar("inside", 1.0)
    writer.add_scalar("not finite", float("nan"), 1)
    writer.add_scalar("float step", 1.0, 2.0)
    writer.export_scalars_to_json("scalars.json")

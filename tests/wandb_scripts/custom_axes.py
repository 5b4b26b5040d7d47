"""Batches on wandb's own steps, validation on epochs, and an environment's steps that do not begin at 0."""

import numpy as np
import wandb

with wandb.init(project="axes", name="custom", config=dict(epochs=4)) as run:  # noqa: C408 - as such scripts do
    run.define_metric("epoch")
    run.define_metric("val/*", step_metric="epoch", summary="min")
    run.define_metric("val/acc", step_metric="epoch", summary="max,last,mean")
    frames = run.define_metric("env/frames")
    run.define_metric("env/reward", step_metric=frames)
    for epoch in range(run.config.epochs):
        for batch in range(5):
            run.log({"train": {"loss": np.float32(1 / (1 + epoch * 5 + batch)), "time": {"fwd": 0.5}}})
        wandb.log({"epoch": epoch, "val/loss": 1 / (1 + epoch), "val/acc": epoch / 10})
        run.log({"env/frames": 4096 * (epoch + 1), "env/reward": float(epoch)})
    print(run.summary["val/acc"]["max"], run.summary["val/loss"], run.step)

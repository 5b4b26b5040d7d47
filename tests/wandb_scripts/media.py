"""Pictures, histograms, figures and tables, an alert,."""

import matplotlib as mpl
import numpy as np
import wandb
from PIL import Image as PILImage

mpl.use("Agg")
from matplotlib import pyplot as plt

rng = np.random.default_rng(0)
run = wandb.init(project="media", name="all kinds", config=None)
wandb.watch(None, log="all", log_freq=10)
for _ in range(2):
    pixels = rng.integers(0, 256, size=(8, 6, 3), dtype=np.uint8)
    examples = [wandb.Image(pixels, caption=f"random field {i}") for i in range(3)]
    counts = np.histogram(rng.normal(size=1000), bins=20)
    wandb.log(
        {
            "examples": examples,
            "gray": wandb.Image(rng.random((8, 6))),
            "pil": wandb.Image(PILImage.fromarray(pixels)),
            "gradients": wandb.Histogram(rng.normal(size=(10, 10))),
            "counted": wandb.Histogram(np_histogram=counts),
            "weights": rng.normal(size=100),
            "loss": rng.random(),
        }
    )
plt.plot([1, 2, 3])
table = wandb.Table(columns=["image", "label"])
table.add_data(wandb.Image(pixels), "cat")
wandb.log({"chart": plt, "predictions": table, "video": wandb.Video(np.zeros((2, 3, 8, 8)), fps=4)}, commit=False)
wandb.log({"pr": wandb.plot.pr_curve([0, 1], [[0.1, 0.9]], labels=["a", "b"])})
artifact = wandb.Artifact("model", type="model")
artifact.add_file("model.pt")
run.log_artifact(artifact)
wandb.unwatch()
run.finish(exit_code=1)

"""Every kind of summary that needs no model."""

import matplotlib as mpl
import numpy as np
from tensorboardX import SummaryWriter

mpl.use("Agg")
from matplotlib import pyplot as plt

rng = np.random.default_rng(0)
writer = SummaryWriter(log_dir="./logs/kinds/try1")
for step in range(3):
    writer.add_image("image", rng.random((3, 16, 16)), step)
    writer.add_image("image HWC", rng.integers(0, 255, (16, 16, 3), dtype=np.uint8), step, dataformats="HWC")
    writer.add_images("images", rng.random((4, 3, 8, 8)), step)
    writer.add_image_with_boxes("boxes", rng.random((3, 32, 32)), np.array([[2, 2, 20, 20]]), step, labels=["a"])
    writer.add_histogram("weights (all)", rng.normal(size=1000) + step, step)
    writer.add_histogram("weights/auto", rng.normal(size=100), step, bins="auto", max_bins=8)
    counts, limits = np.histogram(rng.normal(size=100), 5)
    writer.add_histogram_raw(
        "raw", min=-3, max=3, num=100, sum=1.5, sum_squares=90, bucket_limits=limits[1:].tolist(),
        bucket_counts=counts.tolist(), global_step=step,
    )  # fmt: skip
    writer.add_text("text", f"step **{step}**", step)
    writer.add_audio("sound", np.sin(np.linspace(0, 440 + step, 2000)), step, sample_rate=8000)
    writer.add_pr_curve("pr", rng.integers(0, 2, 100), rng.random(100), step)
    writer.add_mesh("mesh", rng.random((1, 4, 3)), colors=rng.integers(0, 255, (1, 4, 3)), global_step=step)
figure = plt.figure(figsize=(1, 1))
plt.plot([1, 2, 3])
writer.add_figure("figure", figure, 0)
counts = np.arange(5) + 1.0
writer.add_pr_curve_raw("pr raw", counts, counts, counts, counts, counts / 5, counts / 5, 0, num_thresholds=5)
writer.add_custom_scalars_multilinechart(["a", "b"], title="lines")
writer.file_writer.flush()
writer.close()
writer.close()

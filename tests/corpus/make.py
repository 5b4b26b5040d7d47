"""Makes the event files of this folder: `python make.py WRITER FOLDER` in an environment that has the writer.

Each writer gets the same small story as far as it can tell it: scalars of two tags, a picture, a histogram, a text,
hyperparameters. The files are renamed so that nothing in their names depends on the machine.
"""

import sys
from pathlib import Path

import numpy as np

STEPS = 12


def torch(folder: Path) -> str:
    """torch.utils.tensorboard: scalars in both forms, images, histograms, text, PR curves, hyperparameters, a graph."""
    import torch as library
    from torch.utils.tensorboard import SummaryWriter

    library.manual_seed(0)
    with SummaryWriter(str(folder / "train")) as writer:
        for step in range(STEPS):
            writer.add_scalar("loss", 1 / (step + 1), step)
            writer.add_scalar("new/loss", 2 / (step + 1), step, new_style=True)
            writer.add_scalar(
                "new/double", library.tensor(step / 3, dtype=library.float64), step, double_precision=True
            )
        writer.add_histogram("weights", library.linspace(-1, 1, 50), 3)
        writer.add_image("picture", library.linspace(0, 1, 3 * 4 * 5).reshape(3, 4, 5), 4)
        writer.add_text("note", "a **note**", 5)
        writer.add_pr_curve("pr", library.tensor([0, 1, 1, 0]), library.tensor([0.1, 0.8, 0.6, 0.3]), 6)
        writer.add_graph(library.nn.Linear(3, 2), library.zeros(1, 3))
    with SummaryWriter(str(folder / "search")) as writer:
        writer.add_hparams({"lr": 0.125, "layers": 3, "name": "wide", "bias": True}, {"metric": 0.5}, run_name="one")
    return str(library.__version__).partition("+")[0]


def tensorboardx(folder: Path) -> str:
    """tensorboardX: all that it writes without further packages."""
    import tensorboardX

    with tensorboardX.SummaryWriter(str(folder / "train")) as writer:
        for step in range(STEPS):
            writer.add_scalar("loss", 1 / (step + 1), step)
            writer.add_scalars("both", {"a": step, "b": -step}, step)
        writer.add_histogram("weights", np.linspace(-1, 1, 50), 3)
        writer.add_image("picture", np.linspace(0, 1, 3 * 4 * 5).reshape(3, 4, 5), 4)
        writer.add_text("note", "a **note**", 5)
        writer.add_pr_curve("pr", np.array([0, 1, 1, 0]), np.array([0.1, 0.8, 0.6, 0.3]), 6)
        writer.add_hparams({"lr": 0.125, "name": "wide", "bias": True}, {"metric": 0.5}, name="one")
    return str(tensorboardX.__version__)


def tensorflow(folder: Path) -> str:
    """tf.summary, eager and in a graph function, and Keras' TensorBoard callback."""
    import tensorflow as tf

    with tf.summary.create_file_writer(str(folder / "summary")).as_default():
        for step in range(STEPS):
            tf.summary.scalar("loss", 1 / (step + 1), step=step)
        tf.summary.histogram("weights", np.linspace(-1, 1, 50), step=3)
        tf.summary.image("picture", np.linspace(0, 1, 2 * 4 * 5 * 3).reshape(2, 4, 5, 3), step=4)
        tf.summary.text("note", "a **note**", step=5)
        tf.summary.audio("sound", np.zeros((1, 20, 1), np.float32), 8_000, step=6)
    random = np.random.default_rng(0)
    model = tf.keras.Sequential([tf.keras.Input((3,)), tf.keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    callback = tf.keras.callbacks.TensorBoard(str(folder / "keras"), histogram_freq=2, update_freq=2)
    x, y = random.normal(size=(40, 3)), random.normal(size=(40, 2))
    model.fit(x, y, batch_size=8, epochs=3, validation_split=0.2, callbacks=[callback], verbose=0)
    return str(tf.__version__)


def tensorflow_v1(folder: Path) -> str:
    """tf.compat.v1.summary: session starts, simple values, a graph definition, a restart from a checkpoint."""
    import tensorflow as tf

    v1 = tf.compat.v1
    for begin, end in ((0, 9), (6, STEPS)):
        with tf.Graph().as_default() as graph:
            writer = v1.summary.FileWriter(str(folder / "train"), graph, filename_suffix=f".{begin}")
            writer.add_session_log(v1.SessionLog(status=v1.SessionLog.START), begin)
            for step in range(begin, end):
                value = v1.Summary.Value(tag="loss", simple_value=step + begin / 8)
                writer.add_summary(v1.Summary(value=[value]), step)
            writer.close()
    return str(tf.__version__)


def flax(folder: Path) -> str:
    """flax.metrics.tensorboard."""
    import flax as library
    from flax.metrics.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "train"))
    for step in range(STEPS):
        writer.scalar("loss", 1 / (step + 1), step)
    writer.histogram("weights", np.linspace(-1, 1, 50), 3)
    writer.image("picture", np.linspace(0, 1, 4 * 5 * 3).reshape(4, 5, 3), 4)
    writer.text("note", "a **note**", 5)
    writer.hparams({"lr": 0.125, "layers": 3, "name": "wide"})
    writer.close()
    return str(library.__version__)


WRITERS = {
    "flax": flax,
    "tensorboardX": tensorboardx,
    "tensorflow": tensorflow,
    "tensorflow_v1": tensorflow_v1,
    "torch": torch,
}


def main() -> None:
    """Make one writer's files under FOLDER/<writer>/<version>."""
    writer, target = sys.argv[1], Path(sys.argv[2]) / sys.argv[1]
    raw = target / "new"
    version = WRITERS[writer](raw)
    for directory in sorted({path.parent for path in raw.rglob("*tfevents*")}):
        files = sorted(path for path in directory.iterdir() if "tfevents" in path.name)
        for number, path in enumerate(files):
            path.rename(path.with_name(f"events.out.tfevents.{1_700_000_000 + number}.host.{number}"))
    raw.rename(target / version)


if __name__ == "__main__":
    main()

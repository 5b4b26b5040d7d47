"""Event files of several writers: stock TensorBoard and, after an import, the service hold the same of them."""

from pathlib import Path

import pytest

from tests.logdir_kit import counts, import_from, imported, stock
from tests.service import RunningService
from tests.tensorboard_process import Curves as ShownCurves
from tests.tensorboard_process import TensorBoardProcess

CORPUS = Path(__file__).parents[1] / "corpus"
VERSIONS = sorted(path for path in CORPUS.glob("*/*") if path.is_dir() and path.parent.name != "__pycache__")
IDS = [f"{path.parent.name}-{path.name}" for path in VERSIONS]


def test_every_writer_has_files() -> None:
    writers = {path.parent.name for path in VERSIONS}
    assert writers == {"flax", "tensorboardX", "tensorflow", "tensorflow_v1", "torch"}


@pytest.mark.parametrize("logdir", VERSIONS, ids=IDS)
def test_same_runs_tags_steps_and_values_as_stock_tensorboard(
    service: RunningService, run_name: str, logdir: Path
) -> None:
    summary = import_from(logdir, service, run_name)
    shown, expected = imported(service, run_name), stock(logdir)
    assert shown.keys() == expected.keys()
    for run, tags in expected.items():
        assert shown[run] == tags, run
    assert summary.mends.lossless, counts(summary)
    again = import_from(logdir, service, run_name)
    assert (again.points_sent, again.runs_sent, counts(again)) == (0, 0, {})


@pytest.mark.slow
def test_same_scalars_as_the_default_reader(service: RunningService, run_name: str) -> None:
    import_from(CORPUS, service, run_name)

    def expected() -> ShownCurves:
        found: ShownCurves = {}
        for run, tags in imported(service, run_name).items():
            view = service.get(f"/runs/{run_name}/{run}").json()
            curves = {
                tag: [(step, float(value)) for step, value in points]
                for tag, points in tags.items()
                if tag not in view["kinds"]
            }
            found |= {run: curves} if curves else {}
        return found

    with TensorBoardProcess(CORPUS, "rust") as board:
        board.wait_for(expected)


def test_hyperparameters_become_config(service: RunningService, run_name: str) -> None:
    import_from(CORPUS, service, run_name)
    torch = service.get(f"/runs/{run_name}/torch/2.13.0/search/one").json()
    assert torch["config"] == {"lr": 0.125, "layers": 3, "name": "wide", "bias": True}
    flax = service.get(f"/runs/{run_name}/flax/0.12.8/train").json()
    assert flax["config"] == {"lr": 0.125, "layers": 3, "name": "wide"}
    assert torch["kinds"]["_hparams_/session_start_info"] == "hparams"

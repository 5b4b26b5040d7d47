"""Scripts written for tensorboardX, run as they are and with the import alone changed: TensorBoard reads the same."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.util import tensor_util

from tallyboard_server.settings import Settings
from tests.cli_process import clean
from tests.service import RunningService, serving, until

SCRIPTS = Path(__file__).parents[1] / "writer_scripts"
Points = dict[str, list[tuple[int, Any]]]
"""By tag: (step, value) as plain lists."""


@dataclass
class Ran:
    """A script's folders: as it was, and with our import; `errors` is what the latter said."""

    theirs: Path
    ours: Path
    errors: str


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"), port=0, export_interval_s=0.05)


@pytest.fixture(scope="module")
def service(settings: Settings) -> Iterator[RunningService]:
    with serving(settings) as running:
        yield running


@pytest.fixture
def ran(request: pytest.FixtureRequest, service: RunningService, tmp_path: Path) -> Ran:
    """The script named by the parameter, run both ways."""
    source = (SCRIPTS / f"{request.param}.py").read_text()
    assert source.count("from tensorboardX import SummaryWriter") == 1
    environment = clean({"TALLYBOARD_URL": service.url, "MPLCONFIGDIR": str(tmp_path)})
    errors = ""
    for name, package in (("theirs", "tensorboardX"), ("ours", "tallyboard")):
        folder = tmp_path / name
        folder.mkdir()
        script = source.replace("from tensorboardX import", f"from {package} import")
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=100, env=environment
        )
        assert done.returncode == 0, done.stderr
        errors = done.stderr
    return Ran(tmp_path / "theirs", tmp_path / "ours", errors)


def read(folder: Path) -> Points:
    """All that TensorBoard's loader finds in a folder's event files, in its newest form."""
    found: Points = {}
    for path in sorted(folder.glob("*tfevents*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                points = found.setdefault(value.tag, [])
                points.append((event.step, tensor_util.make_ndarray(value.tensor).tolist()))
    return found


def served(settings: Settings, run: str, tags: int) -> Points:
    """The same of a run's event file, once it holds so many tags."""
    assert settings.logdir is None
    folder = settings.data_dir / "logdir" / run
    assert until(lambda: len(read(folder)) >= tags), read(folder).keys()
    return read(folder)


def cleaned(points: Points) -> Points:
    """With the tags that tensorboardX makes of them."""
    return {tag.translate({ord(c): "_" for c in " ()"}): values for tag, values in points.items()}


@pytest.mark.parametrize("ran", ["scalars"], indirect=True)
def test_scalars(ran: Ran, service: RunningService, settings: Settings) -> None:
    theirs = read(ran.theirs / "runs/scalars/try1")
    for line in ("sin", "cos"):  # which tensorboardX puts into runs of their own
        (values,) = read(ran.theirs / f"runs/scalars/try1/data/group/{line}").values()
        theirs[f"data/group/{line}"] = values
    ours = served(settings, "scalars/try1", len(theirs))
    assert np.isnan(ours["not finite"].pop()[1])
    assert np.isnan(theirs["not_finite"].pop()[1])
    assert cleaned(ours) == theirs
    assert service.get("/refused/scalars/try1").json()["refused"] == []
    exported = json.loads((ran.ours / "scalars.json").read_text())
    expected = json.loads((ran.theirs / "scalars.json").read_text())
    assert [[p[1:] for p in line] for line in exported.values()] == [
        [p[1:] for p in line] for line in expected.values()
    ]
    assert exported.keys() == expected.keys()
    assert " 0 refused, 0 dropped" in ran.errors


@pytest.mark.parametrize("ran", ["kinds"], indirect=True)
def test_every_kind(ran: Ran, service: RunningService, settings: Settings) -> None:
    theirs = read(ran.theirs / "logs/kinds/try1")
    ours = served(settings, "kinds/try1", len(theirs))
    assert len(theirs) == 15
    assert cleaned(ours) == cleaned(theirs)
    assert list(ran.ours.rglob("*tfevents*")) == []
    told = service.get("/runs/kinds/try1").json()
    assert set(told["kinds"].values()) == {
        "images", "histograms", "text", "audio", "pr_curves", "mesh", "custom_scalars",
    }  # fmt: skip
    assert " 0 refused, 0 dropped" in ran.errors


@pytest.mark.parametrize("ran", ["graph"], indirect=True)
def test_a_graph_and_an_embedding(ran: Ran, service: RunningService, settings: Settings) -> None:
    theirs, ours = read(ran.theirs / "runs/graph/try1"), served(settings, "graph/try1", 2)
    ((_, (their_graph,)),), ((_, (our_graph,)),) = theirs.pop("__run_graph__"), ours.pop("__run_graph__")
    assert GraphDef.FromString(our_graph) == GraphDef.FromString(their_graph)  # whose maps have no order
    assert ours == theirs == {"loss": [(0, 1.0)]}
    assert service.get("/runs/graph/try1").json()["kinds"] == {"__run_graph__": "graphs"}
    for name in ("checkpoint.txt", "projector_config.pbtxt", "00001/points/tensors.tsv", "00001/points/metadata.tsv"):
        one, other = (folder / "runs/graph/try1" / name for folder in (ran.ours, ran.theirs))
        assert one.read_text() == other.read_text()
    assert "embeddings are written to runs/graph/try1" in ran.errors


@pytest.mark.parametrize("ran", ["trials"], indirect=True)
def test_hyperparameters(ran: Ran, service: RunningService) -> None:
    runs = {f"trials/sweep{name}": i for i, name in enumerate(("", "/hparams-2", "/hparams-3"))}
    for run, i in runs.items():
        told = service.get(f"/runs/{run}").json()
        assert told["config"] == {"lr": pytest.approx(0.1 * i), "bsize": i, "opt": "adam"}
        assert told["summary"] == {"hparam/accuracy": 10 * i}
    for trial in range(2):
        told = service.get(f"/runs/trials/single{trial}").json()
        assert (told["config"], told["summary"]) == ({"lr": trial, "fn": "print"}, {"loss": trial + 2.0})
        assert service.points(f"trials/single{trial}", "loss") == [(step, trial + step) for step in range(3)]
    listed = {row["run"] for row in service.get("/runs").json()["runs"] if row["run"].startswith("trials/")}
    assert listed == {*runs, "trials/single0", "trials/single1"}
    assert " 0 dropped" in ran.errors

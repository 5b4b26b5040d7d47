"""The pages about Keras, PyTorch and JAX: their snippets run as they stand, and report what the pages say."""

import re
from pathlib import Path

import pytest

from tests.frameworks import jobs
from tests.service import RunningService

DOCS = jobs.ROOT / "docs"


def snippets(page: str) -> list[str]:
    """Its blocks of Python."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def reported(request: pytest.FixtureRequest, service: RunningService, tmp_path: Path) -> RunningService:
    """The service after each snippet of the page was run against it, strict."""
    page: str = request.param
    assert snippets(page)
    for number, code in enumerate(snippets(page)):
        script = tmp_path / f"{page}{number}.py"
        script.write_text(code, encoding="utf-8")
        variables = {"TALLYBOARD_STRICT": "1", "KERAS_BACKEND": "jax"}
        jobs.train([str(script)], service, "", variables, cwd=tmp_path)
    return service


@pytest.mark.parametrize("reported", ["keras"], indirect=True)
def test_keras(reported: RunningService) -> None:
    curves = [jobs.curves(reported, f"mnist/keras{number}") for number in (1, 2, 3)]
    assert {tag: len(curve) for tag, curve in curves[0].items()} == {
        "train/loss": 18, "train/accuracy": 18, "learning_rate": 18, "epoch/loss": 3, "epoch/accuracy": 3,
        "val/loss": 3, "val/accuracy": 3, "evaluation/loss": 1, "evaluation/accuracy": 1,
    }  # fmt: skip
    assert [jobs.steps(curve["train/loss"]) for curve in curves[1:]] == [list(range(1, 25))] * 2
    superseded = jobs.curves(reported, "mnist/keras3", superseded=True)
    assert jobs.steps(superseded["epoch/loss"]) == [3]
    assert jobs.steps(superseded["train/loss"]) == list(range(17, 25))


@pytest.mark.parametrize("reported", ["pytorch"], indirect=True)
def test_pytorch(reported: RunningService) -> None:
    curves = jobs.curves(reported, "mnist/torch1")
    assert [rate for _, rate in curves["learning_rate"]] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert jobs.steps(curves["train/loss"]) == jobs.steps(curves["train/gradient_norm"]) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("reported", ["jax"], indirect=True)
def test_jax(reported: RunningService) -> None:
    curves = jobs.curves(reported, "mnist/jax1")
    assert jobs.steps(curves["train/loss"]) == jobs.steps(curves["learning_rate"]) == list(range(1, 101))
    assert curves["learning_rate"][0][1] == pytest.approx(0.1)

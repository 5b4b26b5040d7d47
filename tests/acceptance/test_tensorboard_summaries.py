"""Images, text, histograms, … : both readers show of our event files what they show of tensorboardX's own."""

import hashlib
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tallyboard.wire import Rewind
from tests.acceptance.test_tensorboard_conformance import exporting, wait_for_removal
from tests.eventfiles_kit import Service
from tests.summary_kit import (
    columns_of,
    event,
    histogram_value,
    image_value,
    scalar_value,
    text_value,
    write_every_kind,
)
from tests.tensorboard_process import READERS, Reader, TensorBoardProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STOCK, OURS = "stock/try1", "ours/try1"
TIMEOUT_S = 40.0


def shown(board: TensorBoardProcess, run: str) -> dict[str, Any]:
    """All that the pages of the plugins would show of a run: (plugin, tag) → points."""
    found: dict[str, Any] = {}
    for plugin, route in (("histograms", "histograms"), ("text", "text"), ("pr_curves", "pr_curves")):
        for tag in board.get(f"{plugin}/tags").get(run, ()):
            answer = board.get(f"{plugin}/{route}", run=run, tag=tag)
            found[f"{plugin} {tag}"] = answer.get(run, answer) if isinstance(answer, dict) else answer
    for tag, said in board.get("images/tags").get(run, {}).items():
        for sample in range(said["samples"]):
            points = board.get("images/images", run=run, tag=tag, sample=str(sample))
            found[f"images {tag} {sample}"] = [
                (p["wall_time"], p["step"], hashlib.sha256(board.fetch("images/individualImage", p["query"])).digest())
                for p in points
            ]
    found["mesh"] = board.get("mesh/tags").get(run)
    found["scalars"] = board.curves().get(run)
    return {key: value for key, value in found.items() if value}


def steps_shown(board: TensorBoardProcess, run: str) -> dict[str, list[int]]:
    """The steps of each tag that is shown, whichever its kind; tags without points left out."""
    found: dict[str, list[int]] = {}
    for tag in board.get("histograms/tags").get(run, ()):
        found[tag] = [step for _, step, _ in board.get("histograms/histograms", run=run, tag=tag)]
    for tag in board.get("text/tags").get(run, ()):
        found[tag] = [point["step"] for point in board.get("text/text", run=run, tag=tag)]
    for tag in board.get("images/tags").get(run, {}):
        found[tag] = [point["step"] for point in board.get("images/images", run=run, tag=tag, sample="0")]
    found |= {tag: [step for step, _ in curve] for tag, curve in board.curves().get(run, {}).items()}
    return {tag: steps for tag, steps in found.items() if steps}


def eventually(ask: Callable[[], Any], expected: Any) -> None:
    until = time.monotonic() + TIMEOUT_S
    while True:
        try:
            found = ask()
        except urllib.error.HTTPError as error:  # while a reader is between a file and the one that replaces it
            found = f"HTTP {error.code} of {error.url}"
        if found == expected:
            return
        assert time.monotonic() < until, (found, expected)
        time.sleep(0.3)


@pytest.mark.parametrize("reader", READERS)
def test_what_tensorboardx_wrote_looks_the_same_from_our_files(tmp_path: Path, reader: Reader) -> None:
    with Service(tmp_path) as service, exporting(service) as exporter:
        events = write_every_kind(service.logdir / STOCK)
        receipt = service.batch(OURS, columns=columns_of(*events))
        assert (receipt.refused_count, receipt.stored) == (0, 29)
        assert exporter.drain(20)
        with TensorBoardProcess(service.logdir, reader) as board:
            eventually(lambda: set(board.get("scalars/tags")), {STOCK, OURS})
            stock = shown(board, STOCK)
            assert len(stock) == 7, stock.keys()
            assert {len(points) for key, points in stock.items() if key not in ("scalars", "mesh")} == {4}
            assert shown(board, OURS) == stock
            assert board.get("custom_scalars/layout")["category"][0]["title"] == "losses"


@pytest.mark.parametrize("reader", READERS)
def test_what_a_rewind_hides_leaves_running_readers(tmp_path: Path, reader: Reader) -> None:
    def step_of(step: int) -> bytes:
        values = [image_value("image", step), text_value("text", str(step)), scalar_value("loss", step)]
        return event(step, *values, histogram_value("histogram", [1.0, 2.0], [step + 1.0, 1.0]))

    late = image_value("late/image", 9), text_value("late/text", "x"), histogram_value("late/histogram", [1.0], [1.0])
    tags = ("image", "text", "loss", "histogram")
    with (
        Service(tmp_path) as service,
        exporting(service) as exporter,
        TensorBoardProcess(service.logdir, reader) as board,
    ):

        def agree(expected: dict[str, list[int]]) -> None:
            assert exporter.drain(20)
            eventually(lambda: steps_shown(board, OURS), expected)

        service.batch(OURS, columns=columns_of(*map(step_of, range(6)), event(5, *late)))
        agree({tag: list(range(6)) for tag in tags} | {value.tag: [5] for value in late})
        service.batch(OURS, rewind=Rewind(next_steps={"tag:*": 3}))
        agree({tag: [0, 1, 2] for tag in tags})  # the late ones have no point any more
        service.batch(OURS, columns=columns_of(*map(step_of, range(3, 5))))
        agree({tag: [0, 1, 2, 3, 4] for tag in tags})
        wait_for_removal(service, [OURS])
        service.batch(OURS, columns=columns_of(step_of(7)))
        agree({tag: [0, 1, 2, 3, 4, 7] for tag in tags})

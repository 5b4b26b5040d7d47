"""The TensorBoard inside shows of the store what a stock one shows of the event files: runs, tags, steps, values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard_server.settings import Settings
from tests.acceptance.test_tensorboard_summaries import shown
from tests.eventfiles_kit import Service, settle
from tests.histories import sample
from tests.service import serving
from tests.summary_kit import columns_of, write_every_kind
from tests.tensorboard_process import READERS, Curves, Pages, Reader, TensorBoardProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HISTORIES = 60
STOCK, OURS = "stock/try1", "ours/try1"


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Pages]]:
    """A logdir, and the mounted TensorBoard of the service whose it is.

    Its runs have rewinds, late writers and merges, and one has summaries of every kind; tensorboardX's own file of
    them stands beside it.
    """
    folder = tmp_path_factory.mktemp("mounted")
    with Service(folder) as service:
        for number, history in enumerate(sample(HISTORIES)):
            for action in history:
                action(service, f"p{number % 7}/h{number:03}")
        receipt = service.batch(OURS, columns=columns_of(*write_every_kind(folder / "tensorboardx")))
        assert receipt.refused_count == 0
        engine = service.engine()
        settle(engine)
        engine.close()
    (service.logdir / STOCK).parent.mkdir()
    (folder / "tensorboardx").rename(service.logdir / STOCK)
    settings = Settings(data_dir=folder / "data", logdir=service.logdir, port=0, take_in_spools=False)
    with serving(settings) as running:
        yield service.logdir, Pages(f"{running.url}/tensorboard")


@pytest.mark.parametrize("reader", READERS)
def test_scalars(mounted: tuple[Path, Pages], reader: Reader) -> None:
    logdir, pages = mounted
    inside = as_float32(pages.curves())
    assert len(inside) > HISTORIES // 2
    with TensorBoardProcess(logdir, reader) as board:
        board.wait_for(lambda: inside | {STOCK: inside[OURS]})


@pytest.mark.parametrize("reader", READERS)
def test_every_other_kind(mounted: tuple[Path, Pages], reader: Reader) -> None:
    logdir, pages = mounted
    inside = shown(pages, OURS)
    assert len(inside) == 7, inside.keys()
    with TensorBoardProcess(logdir, reader) as board:
        board.wait_for(lambda: as_float32(pages.curves()) | {STOCK: as_float32(pages.curves())[OURS]})
        for run in (STOCK, OURS):
            assert comparable(inside, reader) == comparable(shown(board, run), reader)
        assert pages.get("custom_scalars/layout") == board.get("custom_scalars/layout")
        for route in ("images/tags", "histograms/tags", "mesh/tags", "pr_curves/tags", "text/tags"):
            assert listed(pages.get(route)[OURS], reader) == listed(board.get(route)[STOCK], reader), route


def listed(tags: Any, reader: Reader) -> Any:
    """A list of tags as it comes, but that the Rust reader does without display names."""
    if isinstance(tags, dict) and reader == "rust":
        return {tag: about | {"displayName": ""} if isinstance(about, dict) else about for tag, about in tags.items()}
    return sorted(tags) if isinstance(tags, list) else tags


def comparable(found: dict[str, Any], reader: Reader) -> dict[str, Any]:
    """The same with scalars as float32, and of histograms, if the reader is Rust's, each step's number of values.

    The Rust reader leaves empty outer buckets in, so that the first one ends before it begins.
    """
    same = found | {"scalars": as_float32({"": found["scalars"]})[""]}
    if reader == "rust":
        steps = found["histograms weights"]
        same["histograms weights"] = [
            (wall, step, sum(bucket[2] for bucket in buckets)) for wall, step, buckets in steps
        ]
    return same


def as_float32(curves: Curves) -> Curves:
    """The same with the precision that event files have."""
    with np.errstate(all="ignore"):
        return {
            run: {tag: [(step, float(np.float32(value))) for step, value in curve] for tag, curve in tags.items()}
            for run, tags in curves.items()
        }

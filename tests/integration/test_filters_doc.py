"""docs/filters.md: every filter on it finds some runs, every column it names is one, every limit is the real one."""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from tallyboard_server.api.search import LIMIT_MAX
from tallyboard_server.runtable import parse, parse_columns, table
from tallyboard_server.runtable.columns import (
    FIGURES,
    INCIDENTS,
    LIVE_COLUMNS,
    OF_ALERTS,
    OF_COUNTERS,
    REFUSED,
    RUN_COLUMNS,
)
from tests.service import RunningService

PAGE: Final = (Path(__file__).parents[2] / "docs" / "filters.md").read_text(encoding="utf-8")
FILTERS: Final = [line for block in re.findall(r"```filter\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def library(service: RunningService) -> RunningService:
    """Runs that differ in all that the page's filters ask for."""
    runs: dict[str, dict[str, Any]] = {
        "mnist/try1": {"config": {"lr": 0.001, "opt": "adam", "amp": True, "net": {"depth": 2}}, "tags": ["baseline"]},
        "mnist/try2": {"config": {"lr": 0.1, "opt": "sgd", "amp": False, "net": {"depth": 4}}, "group": "a"},
        "cifar/one": {"config": {"lr": 0.001, "opt": "lion", "net": {"depth": 4}}, "group": "b"},
        "cifar/two": {},
    }
    losses: dict[str, list[Any]] = {"mnist/try1": [1.0, 0.1], "mnist/try2": [1.0, 2.0], "cifar/one": [1.0, "NaN"]}
    for name, opening in runs.items():
        service.send("PUT", f"/runs/{name}", opening)
        for step, loss in enumerate(losses.get(name, [])):
            assert service.report(name, {"step": step, "scalars": {"loss": loss}}).status == 200
    service.send("PATCH", "/runs/cifar/two", {"archived": True, "status": "failed"})
    return service


@pytest.mark.parametrize("where", FILTERS)
def test_every_filter_of_the_page_finds_some_runs(library: RunningService, where: str) -> None:
    answer = library.get(f"/runs?{urlencode({'filter': where, 'columns': 'name'})}")
    assert answer.status == 200, answer.body
    assert 1 <= len(answer.json()["rows"]) <= 3


def test_the_page_has_all_columns_and_no_others() -> None:
    shown = re.findall(r"^\| (`[^|]+`) \|", PAGE, re.MULTILINE)
    named = [column for cell in shown for column in re.findall(r"`([^`…]+)`", cell)]
    kinds = {parse_columns(column)[0][1].kind for column in named}
    assert kinds >= {*RUN_COLUMNS, *LIVE_COLUMNS, *FIGURES, *OF_COUNTERS, *OF_ALERTS, REFUSED, INCIDENTS,
                      "config", "summary", "provenance", "at_min"}  # fmt: skip
    assert len(FILTERS) > 10


def test_the_limits_of_the_page_are_the_real_ones() -> None:
    text = " ".join(PAGE.split())
    for told in (
        f"at most {parse.FILTER_CHARS_MAX:,} characters, {parse.FILTER_COLUMNS_MAX} different columns and "
        f"{parse.DEPTH_MAX} levels",
        f"several columns, at most {parse.SORT_MAX};",
        f"At most {parse.COLUMNS_MAX} columns and {LIMIT_MAX:,} runs",
        f"Up to {table.SORTED_MAX:,} runs can be put in order",
    ):
        assert told in text
    assert (table.PAGE_S_MAX, "longer than ten seconds" in text) == (10.0, True)

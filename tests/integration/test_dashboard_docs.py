"""docs/dashboard.md: what it shows works, and its numbers are those that hold."""

import re
from pathlib import Path

import msgspec

from tallyboard.wire import JSON
from tallyboard_server.access import SESSION_S, TRIES_MAX, TRIES_S
from tallyboard_server.api import changes, listeners, overviews
from tallyboard_server.api.overviewmessages import ColumnsAnswer, KeyColumn, TagRow, TagsAnswer
from tallyboard_server.runtable import facets, overview
from tallyboard_server.settings import Settings
from tests.service import RunningService

PAGE = (Path(__file__).parents[2] / "docs" / "dashboard.md").read_text(encoding="utf-8")
TEXT = " ".join(PAGE.split())


def test_the_question_it_shows_works(service: RunningService) -> None:
    service.report("mnist/try1", {"step": 1, "scalars": {"loss": 0.5}})
    ((path, question),) = re.findall(r"localhost:6007(\S+) --json '(\{.*?\})'", PAGE)
    answer = service.request("POST", path, question.encode(), {"Content-Type": JSON})
    assert [row["tag"] for row in answer.json()["tags"]] == ["loss"]


def test_its_numbers_are_those_that_hold() -> None:
    for told in (
        f"within {listeners.PAUSE_S:g} s after that together. At most {changes.KEPT_MAX:,} runs are named",
        f"Every {listeners.KEEP_ALIVE_S:g} seconds without an event",
        f"`TALLYBOARD_LIVE_CLIENTS_MAX` streams ({Settings.model_fields['live_clients_max'].default}) are open",
        f"Up to {overviews.RUNS_MAX:,} runs are looked at, {facets.KEYS_PER_RUN_MAX} keys of each document",
        f"if they are at most {overview.VALUES_SHOWN_MAX}",
        f"good for {SESSION_S / 86_400:g} days",
    ):
        assert told in TEXT, told
    assert (TRIES_MAX, TRIES_S) == (10, 60.0)
    assert "After ten wrong tokens from an address in a minute" in TEXT


def test_what_the_answers_hold_is_named() -> None:
    for kind in (TagsAnswer, TagRow, ColumnsAnswer, KeyColumn):
        for field in msgspec.structs.fields(kind):
            assert f"`{field.name}`" in PAGE or field.name in ("tag", "tags", "column"), field.name

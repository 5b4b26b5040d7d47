"""The page about charts is true: its question works, and its table names every field there is."""

import re
from pathlib import Path
from typing import get_args

import msgspec

from tallyboard.wire import JSON
from tallyboard_server.api.chartmessages import Field, QueryBody
from tallyboard_server.api.query import BUCKETS_MAX, SERIES_MAX
from tallyboard_server.settings import Settings
from tests.service import RunningService

PAGE = (Path(__file__).parents[2] / "docs" / "charts.md").read_text(encoding="utf-8")


def test_the_question_it_shows_works(service: RunningService) -> None:
    service.report("mnist/try1", {"step": 1, "scalars": {"loss": 0.5, "val/acc": 0.9}})
    (question,) = re.findall(r"--json '(\{.*?\})'", PAGE, re.DOTALL)
    answer = service.request("POST", "/api/v1/query", question.encode(), {"Content-Type": JSON})
    assert answer.status == 200, answer.body
    assert [series["tag"] for series in answer.json()["series"]] == ["loss", "val/acc"]


def test_its_table_names_every_field() -> None:
    table = "".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `"))
    fields = {field.encode_name for field in msgspec.structs.fields(QueryBody)}
    assert set(re.findall(r"`(\w+)`", table)) == fields
    (told,) = re.findall(r"^\| `fields` \|(.*)", PAGE, re.MULTILINE)
    assert re.findall(r"`(\w+)`", told) == list(get_args(Field))


def test_its_limits_are_those_that_hold() -> None:
    limits = PAGE.partition("## Limits")[2]
    assert f"{SERIES_MAX:,} series, {BUCKETS_MAX:,} buckets" in limits
    assert f"({Settings.model_fields['points_per_answer_max'].default:,})" in limits

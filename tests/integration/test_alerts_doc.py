"""The page about alerts is true: its snippets work, its table names every field, its limits are those that hold."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec

from tallyboard.collect import alerts, sections
from tallyboard.delivery.sender import TICK_S
from tallyboard.wire import Alert, limits
from tallyboard_server.contract.texts import HINT_FROM
from tallyboard_server.model import STALLED_FROM
from tests.cli_process import clean, curl, tallyboard
from tests.service import RunningService

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")
RUN = "digits/try9"


def test_its_snippets_say_what_they_say(service: RunningService, tmp_path: Path) -> None:
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60, cwd=tmp_path,
        env=clean({"TALLYBOARD_URL": service.url, "TALLYBOARD_STRICT": "1"}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "alert (error): loss is not a number · the last good checkpoint is ckpt-2" in done.stderr
    (line,) = re.findall(r"^curl .*$", PAGE, re.MULTILINE)
    curl(shlex.split(line.replace("localhost:6007", service.url)))
    newest, first = service.get(f"/alerts/{RUN}").json()["alerts"]
    assert (newest["title"], newest["level"]) == ("the disk is nearly full", "info")
    assert (first["title"], first["level"], first["at"]) == ("loss is not a number", "error", {"global_step": 3})
    assert f"`tallyboard alerts {RUN}`" in PAGE
    listed = tallyboard("alerts", RUN, TALLYBOARD_URL=service.url)
    assert re.findall(r"^\S+ \S+  (\w+) +(.*?)(?:  \(|$)", listed.stdout, re.MULTILINE) == [
        ("info", "the disk is nearly full"), ("error", "loss is not a number"),
    ]  # fmt: skip


def test_its_table_names_every_field() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert named == [field.encode_name for field in msgspec.structs.fields(Alert)]


def test_its_figures_are_those_that_hold() -> None:
    text = " ".join(PAGE.split())
    for said in (
        f"one line, at most {limits.ALERT_TITLE_BYTES_MAX} bytes",
        f"the rest, at most {limits.ALERT_TEXT_BYTES_MAX:,} bytes",
        f"at most {limits.ALERT_COUNTERS_MAX}. The client",
        f"(`alerts`, at most {limits.ALERTS_PER_BATCH_MAX})",
        f"The newest {limits.ALERTS_KEPT_PER_RUN_MAX:,} of a run are kept",
        f"keeps the first {sections.SECTION_ALERTS_MAX} of what is raised",
        f"shows the first {alerts.TOLD_MAX} of a run",
        f"From {STALLED_FROM} on the counter is `stalled`",
    ):
        assert said in text, said
    assert (TICK_S, HINT_FROM) == (0.5, 3)  # half a second; the third report

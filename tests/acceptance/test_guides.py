"""The guides: every snippet is run as it stands against a real service, and does what the text around it says."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tallyboard import schedules
from tallyboard_server.cli.commands import app
from tests.cli_process import clean
from tests.service import RunningService

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = sorted(path.stem for path in GUIDES.glob("*.md") if path.stem != "README")
ADDRESS = "localhost:6007"
STARTED_BY_HAND = frozenset({"pip", "serve"})
"""What a test has no need to run: the package is installed, and a service runs."""


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """(language, text) of each fenced block of a guide, in order."""
    text = (GUIDES / f"{page}.md").read_text(encoding="utf-8")
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def followed(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> RunningService:
    """The service after somebody followed every guide, line by line; what curl got is in `ANSWERS`."""
    for page in PAGES:
        folder = tmp_path_factory.mktemp(page)
        for language, text in blocks(page):
            match language:
                case "python":
                    _python(text, service, folder)
                case "sh":
                    _shell(page, text, service)
                case "js":
                    _javascript(text, service, folder)
                case other:
                    pytest.fail(f"{page}: nobody runs blocks of {other}")
    return service


ANSWERS: dict[str, list[Any]] = {}


def _python(text: str, service: RunningService, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=60, cwd=folder,
        env=clean({"TALLYBOARD_URL": service.url, "TALLYBOARD_SPOOL_DIR": str(folder / "spool")}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert " 0 refused, 0 dropped" in done.stderr or ("tallyboard.init" not in text and "Writer" not in text), (
        done.stderr
    )


def _shell(page: str, text: str, service: RunningService) -> None:
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if not words or STARTED_BY_HAND & set(words[:2]):
            continue
        if words[0] == "curl":
            ANSWERS.setdefault(page, []).append(_curl(words, service))
        elif words[0] == "tallyboard":
            outcome = CliRunner().invoke(app, words[1:], env={"TALLYBOARD_URL": service.url})
            assert outcome.exit_code == 0, outcome.output
        else:
            pytest.fail(f"{page}: nobody runs {line!r}")


def _curl(words: list[str], service: RunningService) -> Any:
    assert ADDRESS in words[1]
    path = words[1].partition(ADDRESS)[2]
    document = words[words.index("--json") + 1].encode() if "--json" in words else None
    method = "GET" if document is None else "POST"
    answer = service.request(method, path, document, {"Content-Type": "application/json"} if document else None)
    assert answer.status == 200, answer.body
    return answer.json()


def _javascript(text: str, service: RunningService, folder: Path) -> None:
    if (node := shutil.which("node")) is None:
        return
    (folder / "report.mjs").write_text(text, encoding="utf-8")
    done = subprocess.run(
        [node, "report.mjs"], capture_output=True, text=True, timeout=60, cwd=folder,
        env=clean({"TALLYBOARD_URL": service.url}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [step for step, _ in service.points("http/node", "loss")] == [1, 2, 3]


def test_the_first_five_minutes_end_with_a_curve(followed: RunningService) -> None:
    assert followed.points("hello/curl", "loss") == [(1, 0.5)]
    assert followed.points("hello/python", "loss") == [(step, 1 / (1 + step)) for step in range(1, 6)]
    assert followed.get("/runs/hello/python").json()["counters"]["global_step"]["total"] == 5
    assert followed.points("hello/strict", "loss") == [(2, 0.5)]


def test_a_killed_job_leaves_one_curve(followed: RunningService) -> None:
    loss = followed.points("preempted/job", "loss")
    assert [step for step, _ in loss] == list(range(1, 52))
    assert [value for _, value in loss[:50]] == pytest.approx([0.9**step for step in range(1, 51)])
    assert loss[50] == (51, 0.01)
    assert [step for step, _ in followed.points("preempted/job", "val/loss")] == [1, 2, 3, 4, 5]
    attempts = followed.get("/runs/preempted/job").json()["counters"]["global_step"]["attempts"]
    assert [attempt["start"] for attempt in attempts] == [0, 31, 51]


def test_late_evaluations_stand_where_the_training_stood(followed: RunningService) -> None:
    (chart,) = ANSWERS["late-evaluations"]
    (series,) = chart["series"]
    assert series["points"]["x"] == [10, 20, 30]
    assert "x_source" not in series or series["x_source"] != "as_of_time"
    assert followed.points("late/run", "test/accuracy") == [(1, 0.9), (2, 0.97)]
    assert len(followed.points("late/run", "loss")) == 30


def test_each_of_three_counters_is_an_axis(followed: RunningService) -> None:
    over_env, over_updates, losses = (chart["series"][0] for chart in ANSWERS["reinforcement-learning"])
    lengths = over_env["points"]["value"]
    ends = [sum(lengths[: i + 1]) for i in range(20)]
    assert over_env["points"]["x"] == ends
    assert over_updates["points"]["x"] == [end // 8 for end in ends]
    began = [
        next(i for i, end in enumerate(ends) if end >= 8 * (update + 1)) for update in range(len(losses["points"]["x"]))
    ]
    assert losses["points"]["x"] == began
    assert followed.get("/runs/rl/cartpole").json()["counters"].keys() >= {"env_step", "update", "episode"}


def test_a_sweep_has_a_curve_for_each_value(followed: RunningService) -> None:
    (chart,) = ANSWERS["sweeps"]
    groups = chart["groups"]
    assert len(groups) == 2
    assert all((group["runs"], max(group["points"]["count"])) == (3, 3) for group in groups)
    assert all(followed.points(f"sweep/lr0.1-seed{seed}", "val/loss") for seed in range(3))


def test_what_is_sent_again_is_stored_once(followed: RunningService) -> None:
    receipts = [answer for answer in ANSWERS["http"] if answer["run"] == "http/careful"]
    assert [receipt["replayed"] for receipt in receipts] == [False, False, True]
    assert receipts[1] | {"replayed": True} == receipts[2]
    assert followed.points("http/careful", "loss") == [(1, 0.5), (2, 0.4)]


def test_one_batch_may_rewind_report_and_end(followed: RunningService) -> None:
    assert followed.points("http/whole", "loss") == [(1, 0.5), (2, 0.3)]
    run = followed.get("/runs/http/whole").json()
    assert (run["status"], run["summary"], run["config"]) == ("finished", {"best": 0.3}, {"lr": 0.1})


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"seq": 2, "reports": [{"step": 2, "scalars": {"loss": 0.1}}]}, 409, "seq_reused"),
        ({"seq": 9, "reports": [{"step": 9, "scalars": {"loss": 0.1}}]}, 409, "seq_gap"),
    ],
)
def test_the_table_of_seqs_is_true(followed: RunningService, sent: dict[str, Any], status: int, code: str) -> None:
    answer = followed.report("http/careful", {"producer": "trainer-5e1f", "partial": True, **sent})
    assert answer.status == status
    problem = json.loads(answer.body)
    assert problem["code"] == code
    assert code != "seq_gap" or problem["expected_seq"] == 3


def test_from_tensorboard_both_ways_report(followed: RunningService) -> None:
    assert [step for step, _ in followed.points("mnist/unchanged", "loss")] == list(range(10))
    assert [step for step, _ in followed.points("mnist/named", "loss")] == list(range(1, 11))
    assert [step for step, _ in followed.points("mnist/named", "val/loss")] == [1, 2]


@pytest.mark.parametrize("page", [*PAGES, "README"])
def test_every_page_linked_exists(page: str) -> None:
    text = (GUIDES / f"{page}.md").read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([^)#:]+)\)", text)
    assert not [name for name in linked if not (GUIDES / name).exists()]


def test_the_index_lists_every_guide() -> None:
    index = (GUIDES / "README.md").read_text(encoding="utf-8")
    assert len(PAGES) >= 7
    assert not [page for page in PAGES if f"({page}.md)" not in index]


def test_the_kit_reports_what_its_page_says(followed: RunningService) -> None:
    assert [step for step, _ in followed.points("kit/counters", "loss")] == [1, 101, 201]
    rates = followed.points("kit/schedule", "learning_rate")
    assert rates == [(step, schedules.cosine_decay(0.1, 20)(step)) for step in range(1, 21)]
    assert [step for step, _ in followed.points("kit/statistics", "gradients/w/norm")] == list(range(1, 13))
    assert [step for step, _ in followed.points("kit/statistics", "epoch/loss")] == [1, 2, 3]

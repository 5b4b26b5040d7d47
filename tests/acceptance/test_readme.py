"""The README's snippets, run as they stand against a real service, and what it promises beside them."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tallyboard_server.cli.commands import app
from tallyboard_server.settings import Settings
from tallyboard_server.store.sqlite import SqliteStore
from tests.cli_process import clean, curl
from tests.conftest import StartService
from tests.service import RunningService

if TYPE_CHECKING:
    from tests.postgres import Postgres

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "localhost:6007"


def blocks(language: str) -> list[str]:
    """The README's fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def shell_lines() -> Iterator[list[str]]:
    """Each line of the shell blocks as words."""
    for block in blocks("sh"):
        for line in block.splitlines():
            if words := shlex.split(line, comments=True):
                yield words


@pytest.fixture(scope="module")
def reported(service: RunningService) -> RunningService:
    """The service after every Python block and the curl line were run against it, in the README's order."""
    environment = clean({"TALLYBOARD_URL": service.url, "TALLYBOARD_STRICT": "1"})
    line = next(words for words in shell_lines() if words[0] == "curl")
    addressed = [word.replace(ADDRESS, f"127.0.0.1:{service.port}") for word in line]
    assert addressed != line
    curl(addressed)
    for block in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", block], capture_output=True, text=True, timeout=60, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert " 0 refused, 0 dropped" in done.stderr or "tallyboard.init" not in block
    return service


def test_the_curl_line_reports(reported: RunningService) -> None:
    assert reported.points("mnist/try1", "loss") == [(1, 0.5)]


def test_the_python_lines_report_on_two_counters_and_resume_with_a_rewind(reported: RunningService) -> None:
    assert reported.points("mnist/try2", "train/loss") == [(1, 0.9), (2, 0.5), (3, 0.3), (4, 0.8)]
    assert reported.points("mnist/try2", "val/accuracy") == [(1, 0.93)]
    run = reported.get("/runs/mnist/try2").json()
    assert run["counters"]["global_step"]["attempt"] == 2


OF_OTHERS = ("token", "audit", "watchdogs")
"""Commands of a service that others use, too."""


def test_the_lines_of_a_service_for_others_work(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start_service(token="an-admins", tensorboard=False)
    monkeypatch.setenv("TALLYBOARD_URL", service.url)
    monkeypatch.setenv("TALLYBOARD_TOKEN", "an-admins")
    lines = [words[1:] for words in shell_lines() if words[0] == "tallyboard" and words[1] in OF_OTHERS]
    assert {words[0] for words in lines} == set(OF_OTHERS)
    for words in lines:
        outcome = CliRunner().invoke(app, words)
        assert outcome.exit_code == 0, outcome.output


@pytest.mark.parametrize(
    "words", [w for w in shell_lines() if w[0] == "tallyboard" and w[1] not in ("serve", "migrate", *OF_OTHERS)]
)
def test_the_terminal_lines_work(
    words: list[str], reported: RunningService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TALLYBOARD_URL", reported.url)
    monkeypatch.chdir(tmp_path)  # some write files
    outcome = CliRunner().invoke(app, words[1:])
    assert outcome.exit_code == 0, outcome.output


def test_the_line_that_moves_a_store_works(
    postgres: "Postgres", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (words,) = [words for words in shell_lines() if words[:2] == ["tallyboard", "migrate"]]
    monkeypatch.chdir(tmp_path)
    SqliteStore.open(tmp_path / "tallyboard-data").close()
    monkeypatch.setenv("TALLYBOARD_DATABASE_URL", postgres.url(postgres.create_database()))
    outcome = CliRunner().invoke(app, words[1:])
    assert outcome.exit_code == 0, outcome.output


def test_the_logdir_is_the_service_s_own() -> None:
    named = next(words[2] for words in shell_lines() if words[0] == "tensorboard")
    assert Path(named) == Settings().event_file_dir


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)", README))
    assert {"demo", "test", "bench"} <= named <= targets


def test_every_file_named_exists() -> None:
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    copied = [word for words in shell_lines() for word in words if word.startswith("docker/") and word != "docker/.env"]
    assert linked
    assert copied
    assert not [name for name in (*linked, *copied) if not (ROOT / name).exists()]


def test_every_command_and_option_named_exists() -> None:
    runner = CliRunner()
    named = set(re.findall(r"tallyboard ([a-z]+)", " ".join(re.findall(r"`[^`\n]+`", README))))
    named |= {words[1] for words in shell_lines() if words[0] == "tallyboard"}
    assert {"serve", "runs", "counters", "tail", "doctor", "rewind"} <= named
    for command in named:
        assert runner.invoke(app, [command, "--help"]).exit_code == 0


def test_every_command_is_named() -> None:
    commands = {
        command.name or command.callback.__name__.replace("_", "-")
        for command in app.registered_commands
        if command.callback is not None
    }
    assert commands
    assert not [name for name in commands if f"tallyboard {name}" not in README and f"make {name}" not in README]


def test_a_late_step_is_refused_and_the_others_shown(service: RunningService) -> None:
    reports = [{"step": step, "scalars": {"loss": 0.5}} for step in (*range(10), 3, 10, 11)]
    receipt = service.report("readme/late", {"reports": reports, "partial": True}).json()
    assert [(refusal["step"], refusal["reason"]) for refusal in receipt["refused"]] == [(3, "step_decreased")]
    assert [step for step, _ in service.points("readme/late", "loss")] == list(range(12))


def test_a_second_writer_is_refused_and_told_the_first(service: RunningService) -> None:
    for producer, step, status in (("first", 0, 200), ("second", 1, 409)):
        body = {"producer": producer, "seq": 1, "reports": [{"step": step, "scalars": {"loss": 0.5}}]}
        answer = service.report("readme/two", body)
        assert answer.status == status
    refusal = answer.json()["refused"][0]
    assert refusal["reason"] == "counter_taken"
    assert "first" in refusal["detail"]


def test_a_wall_time_that_is_no_time_is_refused(service: RunningService) -> None:
    body = b'{"step": 1, "scalars": {"loss": 0.5}, "wall_time": 1e999}'
    assert service.report_bytes("readme/nan", body, "application/json").status == 422

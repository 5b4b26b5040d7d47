"""The commands that ask a service, each carried out in this process against a real one."""

import http.server
import signal
import subprocess
import threading

import pytest

from tallyboard_server.cli import rewinding
from tests.cli_process import TALLYBOARD, Cli, clean, report
from tests.service import RunningService


def test_runs_lists_what_matches(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, f"{run_name}/a", range(1, 4))
    report(service, f"{run_name}/b", range(1, 2))
    outcome = cli("runs", f"{run_name}/[a]")
    assert outcome.code == 0
    assert f"{run_name}/a" in outcome.out
    assert "global_step 3" in outcome.out
    assert f"{run_name}/b" not in outcome.out


def test_runs_says_so_if_nothing_matches(cli: Cli) -> None:
    assert cli("runs", "no/such*").err == "no run matches 'no/such*'\n"


def test_runs_stops_at_its_limit(cli: Cli, service: RunningService, run_name: str) -> None:
    for number in range(3):
        report(service, f"{run_name}/{number}", range(1, 2))
    outcome = cli("runs", f"{run_name}/*", "--limit", "2")
    assert outcome.out.count(run_name) == 2
    assert "--limit 2" in outcome.err


def test_counters_shows_values_tags_and_attempts(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 6), "G_global_step", "G/loss")
    report(service, run_name, range(1, 16), "D_global_step", "D/loss")
    outcome = cli("counters", run_name)
    rows = {line.split()[0]: line.split()[1:] for line in outcome.out.splitlines()[1:]}
    assert rows == {
        "G_global_step": ["5", "5", "1", "anonymous", "G/loss"],
        "D_global_step": ["15", "15", "1", "anonymous", "D/loss"],
    }


def test_an_unknown_run_is_exit_code_4(cli: Cli) -> None:
    outcome = cli("counters", "no/such")
    assert outcome.code == 4
    assert outcome.err.startswith("tallyboard: there is no run 'no/such'")


def test_no_service_is_exit_code_3(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYBOARD_URL", "http://127.0.0.1:9")
    outcome = cli("runs")
    assert outcome.code == 3
    assert "no service answers at http://127.0.0.1:9" in outcome.err
    assert outcome.err.count("\n") == 1


def test_what_is_no_tallyboard_is_told_apart(
    cli: Cli, service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLYBOARD_URL", f"{service.url}/elsewhere")
    outcome = cli("runs")
    assert outcome.code == 4
    assert "route" in outcome.err


def test_another_web_server_is_named_as_one(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its page of HTML would tell nobody that the port is wrong."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        monkeypatch.setenv("TALLYBOARD_URL", f"http://127.0.0.1:{other.server_port}")
        outcome = cli("runs")
        other.shutdown()
    assert outcome.code == 3
    assert "not as Tallyboard does; is TALLYBOARD_URL right?" in outcome.err
    assert "<" not in outcome.err


def test_a_url_without_scheme_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYBOARD_URL", "127.0.0.1:6007")
    outcome = cli("runs")
    assert outcome.code == 3
    assert "use for example http://127.0.0.1:6007" in outcome.err


def test_tail_prints_the_newest_points_of_sparse_steps(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(0, 100_000, 1_000))
    outcome = cli("tail", run_name, "-n", "3")
    fields = [line.split()[2:] for line in outcome.out.splitlines()]
    assert fields == [["global_step", str(step), "loss", f"{step / 8:.6g}"] for step in (97_000, 98_000, 99_000)]


def test_tail_puts_its_columns_under_each_other(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(99, 101), "D_global_step", "D/loss")
    report(service, run_name, range(9, 11), "epoch", "val/accuracy")
    assert [line[21:] for line in cli("tail", run_name, "-n", "2").out.splitlines()] == [
        "D_global_step  99  D/loss        12.375",
        "D_global_step 100  D/loss        12.5",
        "epoch           9  val/accuracy  1.125",
        "epoch          10  val/accuracy  1.25",
    ]
    assert cli("tail", run_name, "-n", "1", "--tag", "D/loss").out[21:] == "D_global_step 100  D/loss  12.5\n"


def test_tail_shows_non_finite_values(cli: Cli, service: RunningService, run_name: str) -> None:
    assert service.report(run_name, {"step": 1, "scalars": {"loss": "NaN"}}).status == 200
    assert cli("tail", run_name).out.split()[-1] == "nan"


def test_tail_of_an_unknown_tag_names_those_there_are(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 2))
    outcome = cli("tail", run_name, "--tag", "los")
    assert outcome.code == 4
    assert "it has loss" in outcome.err


def test_rewind_shows_what_goes_and_goes_back(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 11))
    report(service, run_name, range(1, 3), "epoch", "val/loss")
    outcome = cli("rewind", run_name, "global_step=6", "--reason", "preempted", "--yes")
    assert outcome.code == 0
    assert "6 … 10 (5 steps)" in outcome.out
    assert "not rewound: epoch, at 2" in outcome.out
    assert [step for step, _ in service.points(run_name, "loss")] == [1, 2, 3, 4, 5]
    report(service, run_name, range(6, 8))
    assert [step for step, _ in service.points(run_name, "loss")] == [1, 2, 3, 4, 5, 6, 7]


def test_rewind_without_steps_shows_how(cli: Cli) -> None:
    outcome = cli("rewind", "mnist/try1")
    assert outcome.code == 2
    said = " ".join(outcome.err.replace("│", " ").split())
    assert "for example: tallyboard rewind mnist/try1 global_step=1000 epoch=4" in said


def test_rewind_of_an_unknown_counter_changes_nothing(cli: Cli, service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 4))
    outcome = cli("rewind", run_name, "global_step=2", "epok=1", "--yes")
    assert outcome.code == 4
    assert "has no counter epok; it has global_step" in outcome.err
    assert len(service.points(run_name, "loss")) == 3


@pytest.mark.parametrize(
    "argument", ["global_step", "global_step=-1", "global_step=1.5", "=3", f"a={2**63}", "wall_time=1"]
)
def test_rewind_refuses_what_is_no_step(cli: Cli, argument: str) -> None:
    assert cli("rewind", "a/run", argument).code == 2


def test_a_counter_can_not_be_named_twice() -> None:
    assert rewinding.parse_next_steps(["a=1", "b=2"]) == {"a": 1, "b": 2}
    with pytest.raises(Exception, match="named twice"):
        rewinding.parse_next_steps(["a=1", "a=2"])


def test_tail_follows_what_comes_and_tells_a_rewind(service: RunningService, run_name: str) -> None:
    report(service, run_name, range(1, 4))
    command = [*TALLYBOARD, "tail", run_name, "-n", "1", "--follow"]
    variables = clean({"TALLYBOARD_URL": service.url, "PYTHONUNBUFFERED": "1"})
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=variables
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().split()[3:] == ["3", "loss", "0.375"]
        report(service, run_name, range(4, 6))
        assert [process.stdout.readline().split()[3] for _ in range(2)] == ["4", "5"]
        assert service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 3}}).status == 200
        report(service, run_name, range(3, 4))
        assert process.stdout.readline() == "loss was rewound to 3\n"
        report(service, run_name, range(4, 5))
        assert process.stdout.readline().split()[3] == "4"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
        assert (process.returncode, rest) == (0, "")

"""`tallyboard serve` as a process: what it says, what it refuses, how it ends."""

import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import urllib3

from tallyboard_server.settings import Settings
from tests.cli_process import TALLYBOARD, clean, curl, served, tallyboard
from tests.service import until


def test_it_says_where_to_look_and_its_own_line_reports(tmp_path: Path) -> None:
    with served(tmp_path) as service:
        said = (tmp_path / "serve.log").read_text()
        assert said.startswith(f"Tallyboard {_version()} at {service.url}\n")
        assert f"{service.url}/docs" in said
        assert f"tensorboard --logdir {tmp_path / 'data/logdir'}" in said
        line = re.search(r"^  report +(curl .*)$", said, re.MULTILINE)
        assert line is not None
        curl(shlex.split(line[1]))
        assert "global_step 1" in tallyboard("runs", service=service).stdout


def test_with_a_token_the_cli_needs_it(tmp_path: Path) -> None:
    with served(tmp_path, token="open-sesame") as service:
        assert 'Authorization: Bearer $TALLYBOARD_TOKEN"' in (tmp_path / "serve.log").read_text()
        refused = tallyboard("runs", service=service)
        assert (refused.returncode, refused.stderr.count("\n")) == (5, 1)
        expected = f"{service.url} is protected by a token; set TALLYBOARD_TOKEN to one of the service's\n"
        assert refused.stderr == f"tallyboard: {expected}"
        assert tallyboard("runs", service=service, TALLYBOARD_TOKEN="open-sesame").returncode == 0
        doctor = tallyboard("doctor", service=service, TALLYBOARD_TOKEN="wrong")
        assert doctor.returncode == 1
        assert "✗ the service does not let us in: the token is wrong; set TALLYBOARD_TOKEN" in doctor.stdout


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = tallyboard("serve", "--port", str(port), "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith(f"tallyboard: can't listen on 127.0.0.1:{port}: it is in use")
    assert done.stderr.count("\n") == 1


def test_a_data_dir_in_use_is_no_traceback(tmp_path: Path) -> None:
    with served(tmp_path):
        done = tallyboard("serve", "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1
    assert "in use by process" in done.stderr
    assert "Traceback" not in done.stderr


def test_off_loopback_a_first_start_makes_a_token_and_a_link_to_log_in(tmp_path: Path) -> None:
    def said() -> str:
        return (tmp_path / "serve.log").read_text()

    with served(tmp_path, "--host", "0.0.0.0") as service:
        assert until(lambda: "log in" in said())
        (token,) = re.findall(r"^  token +(tb_\S+)$", said(), re.MULTILINE)
        (link,) = re.findall(r"^  log in +http://localhost:\d+(/login\?code=\S+)$", said(), re.MULTILINE)
        assert urllib3.request("GET", f"{service.url}/api/v1/runs").status == 401
        made = tallyboard("token", "create", "--scope", "write", "--project", "mnist", "--expires", "12h",
                          service=service, TALLYBOARD_TOKEN=token)  # fmt: skip
        job = made.stdout.removesuffix("\n")
        assert (made.returncode, job.count("\n"), job[:3]) == (0, 0, "tb_")
        assert "it is shown this once" in made.stderr
        entered = urllib3.request("GET", service.url + link, redirect=False, retries=False)
        assert (entered.status, entered.headers["location"]) == (303, "./")
        cookie = {"Cookie": entered.headers["set-cookie"].partition(";")[0]}
        assert urllib3.request("GET", f"{service.url}/api/v1/runs", headers=cookie).status == 200
        again = urllib3.request("GET", service.url + link, redirect=False, retries=False)
        assert (again.status, b"used before" in again.data, b"<form" in again.data) == (401, True, True)
    with served(tmp_path, "--host", "0.0.0.0") as service:
        assert until(lambda: "tokens       are needed" in said())
        assert "tb_" not in said()
        assert urllib3.request("GET", f"{service.url}/api/v1/runs", headers=cookie).status == 200
        sent = urllib3.request(
            "POST", f"{service.url}/api/v1/scalars/mnist/x", json={"step": 1, "scalars": {"loss": 1}},
            headers={"Authorization": f"Bearer {job}"},
        )  # fmt: skip
        assert sent.status == 200


@pytest.mark.parametrize("options", [("--port", "99999"), ("--host", "no-such-host.invalid", "--insecure")])
def test_an_option_that_can_not_be_is_one_line(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = tallyboard("serve", "--data-dir", str(tmp_path), *options)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_and_what_was_acknowledged_is_there_after_the_next_start(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = [*TALLYBOARD, "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean({}), text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        curl(["curl", f"{url}/api/v1/scalars/a/run", "--json", '{"step": 7, "scalars": {"loss": 0.5}}'])
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode in {0, -number, 128 + number}
        assert "Traceback" not in err
    with served(tmp_path) as service:
        assert "global_step 7" in tallyboard("runs", service=service).stdout


def test_help_names_every_command() -> None:
    said = tallyboard("--help").stdout
    assert all(name in said for name in ("serve", "runs", "counters", "tail", "rewind", "demo", "doctor"))


def test_its_help_names_every_setting() -> None:
    said = tallyboard("serve", "--help", COLUMNS="200").stdout
    assert all(f"TALLYBOARD_{name.upper()}:" in said for name in Settings.model_fields)


def _version() -> str:
    return tallyboard("--version").stdout.split()[1]

"""The command line as tests use it: in a process of its own, or carried out in this one against a service."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import urllib3

from tallyboard_server.cli.demo.process import child, free_port
from tallyboard_server.cli.http import Service

if TYPE_CHECKING:  # processes of the benchmark load this module, too: the whole service would cost each a second
    from tests.service import RunningService


class Outcome(NamedTuple):
    """How a command carried out in this process ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]

TALLYBOARD = (sys.executable, "-m", "tallyboard_server.cli")


@contextmanager
def served(folder: Path, *options: str, token: str | None = None, **variables: str) -> Iterator[Service]:
    """Serve from a data dir in `folder` on a free port until the block ends; its output goes to folder/serve.log."""
    port = free_port("127.0.0.1")
    service = Service(f"http://127.0.0.1:{port}", token)
    command = [*TALLYBOARD, "serve", "--port", str(port), "--data-dir", str(folder / "data"), *options]
    environment = variables | ({"TALLYBOARD_TOKEN": token} if token else {})
    with (folder / "serve.log").open("wb") as log, child(command, service.is_alive, log, clean(environment)):
        yield service


def tallyboard(*arguments: str, service: Service | None = None, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of the CLI as a user would, against a service, and wait for it (at most a minute)."""
    environment = dict(variables)
    if service is not None:
        environment.setdefault("TALLYBOARD_URL", service.url)
    return subprocess.run([*TALLYBOARD, *arguments], capture_output=True, text=True, timeout=60, env=clean(environment))


def curl(line: list[str]) -> None:
    """Run a curl line that sends a document with --json; where there is no curl, send what it would have sent."""
    if shutil.which(line[0]) is not None:
        subprocess.run([*line, "--fail", "--silent"], check=True, capture_output=True, timeout=30)
        return
    _, url, option, document = line
    assert option == "--json"
    url = url if "://" in url else f"http://{url}"
    headers = {"Content-Type": "application/json"}
    assert urllib3.request("POST", url, body=document.encode(), headers=headers, retries=False).status == 200


def clean(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment without the developer's own TALLYBOARD_* variables, and with these; no machine is sampled."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TALLYBOARD_") and name != "RANK"}
    return kept | {"TALLYBOARD_SYSTEM_METRICS": "0"} | dict(variables)


def report(service: "RunningService", run: str, steps: range, counter: str = "global_step", tag: str = "loss") -> None:
    """A report of value step / 8 at each step."""
    reports = [{"counter": counter, "step": step, "scalars": {tag: step / 8}} for step in steps]
    assert service.report(run, {"reports": reports}).status == 200

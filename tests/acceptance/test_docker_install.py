"""The Dockerfile's own install and start commands, carried out in a folder that stands in for the image.

No engine is needed: paths of the image become paths below the folder, everything else is as the Dockerfile has it.
Users are not created; that is left to an engine.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest
import urllib3
import yaml
from dockerfile_parse import DockerfileParser

from tallyboard_server.cli.demo.process import child, free_port
from tests.cli_process import clean

ROOT = Path(__file__).parents[2]
TOKEN = "open-sesame"
INSTALL_TIMEOUT_S = 600

pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALL_TIMEOUT_S + 120)]


@dataclass
class Image:
    """What the Dockerfile makes, below `root`."""

    root: Path
    env: dict[str, str]
    command: list[str]
    healthcheck: list[str]

    def inside(self, text: str) -> str:
        """A command's text with the image's paths as paths of this machine."""
        return re.sub(r"(?<![\w.])/(opt/tallyboard|data|src)\b", rf"{self.root}/\1", text)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built by the Dockerfile's own COPY and RUN lines of its first stage."""
    made = Image(tmp_path_factory.mktemp("image"), {}, [], [])
    parser = DockerfileParser(fileobj=BytesIO((ROOT / "docker/Dockerfile").read_bytes()))
    stage, folder = 0, made.root
    for instruction in parser.structure:
        name, value = instruction["instruction"], instruction["value"]
        if name == "FROM":
            stage += 1
        elif name == "WORKDIR":
            folder = Path(made.inside(value))
            folder.mkdir(parents=True)
        elif name == "COPY" and "--from" not in value:
            copy(value.split(), folder)
        elif name == "RUN" and stage == 1:
            install(made.inside(value), folder)
        elif name == "ENV":
            made.env |= dict(pair.split("=", 1) for pair in shlex.split(made.inside(value)))
        elif name == "CMD":
            made.command = json.loads(value)
        elif name == "HEALTHCHECK":
            made.healthcheck = json.loads(value.partition("CMD ")[2])
    (made.root / "data").mkdir()
    made.env["PATH"] = made.env["PATH"].replace("$PATH", os.environ["PATH"])
    return made


def copy(words: list[str], folder: Path) -> None:
    """COPY sources… target, as Docker does it: a folder's content, or files into a folder."""
    *sources, target = words
    for source in sources:
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source, folder / target, ignore=shutil.ignore_patterns("__pycache__", "node_modules")
            )
        else:
            shutil.copy(ROOT / source, folder / target)


def install(command: str, folder: Path) -> None:
    """A RUN line, with the Python that runs the tests as the base image's."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S,
        env=clean({"PATH": path}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def succeeds(image: Image, command: list[str], port: int, inner_port: int) -> Callable[[], bool]:
    """Whether a healthcheck passes, asked at the port that stands in for the container's."""
    here = [word.replace(f":{inner_port}/", f":{port}/") for word in command]
    assert here != command
    return lambda: subprocess.run(here, env=clean(image.env), capture_output=True, timeout=30).returncode == 0


@contextmanager
def running(image: Image, token: str | None = TOKEN) -> Iterator[int]:
    """The image's CMD as a process, healthy by its own HEALTHCHECK; gives its port."""
    port = free_port("127.0.0.1")
    given = {} if token is None else {"TALLYBOARD_TOKEN": token}
    environment = clean(image.env | {"TALLYBOARD_PORT": str(port)} | given)
    executable = shutil.which(image.command[0], path=image.env["PATH"])
    assert executable == str(image.root / "opt/tallyboard/bin/tallyboard")
    healthy = succeeds(image, image.healthcheck, port, 6007)
    with (
        (image.root / "serve.log").open("wb") as log,
        child([executable, *image.command[1:]], healthy, log, environment),
    ):
        yield port


def test_without_a_token_the_image_makes_one_at_its_first_start(image: Image) -> None:
    with running(image, token=None) as port:
        wait_for(lambda: "log in" in (image.root / "serve.log").read_text())
        (token,) = re.findall(r"^  token +(tb_\S+)$", (image.root / "serve.log").read_text(), re.MULTILINE)
        assert report(port, "mnist/try0", TOKEN) == 401
        assert report(port, "mnist/try0", token) == 200


def test_its_command_serves_passes_its_healthcheck_and_keeps_reports_in_the_volume(image: Image) -> None:
    with running(image) as port:
        assert report(port, "mnist/try1", TOKEN) == 200
        assert report(port, "mnist/try1", "guessed") == 401
        wait_for(lambda: any((image.root / "data/logdir/mnist/try1").glob("*tfevents*")))
    assert any((image.root / "data").glob("*.sqlite*")) or any((image.root / "data").glob("*.db*"))


def test_the_compose_file_s_tensorboard_starts_on_the_same_volume(image: Image) -> None:
    with running(image) as port:
        assert report(port, "mnist/try2", TOKEN) == 200
        wait_for(lambda: any((image.root / "data/logdir/mnist/try2").glob("*tfevents*")))
    service = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())["services"]["tensorboard"]
    port = free_port("127.0.0.1")
    command = [str(port) if word == "6006" else image.inside(word) for word in service["command"]]
    healthy = succeeds(image, service["healthcheck"]["test"][1:], port, 6006)
    with (image.root / "tb.log").open("wb") as log, child(command, healthy, log, clean(image.env)):
        wait_for(lambda: "mnist/try2" in urllib3.request("GET", f"http://127.0.0.1:{port}/data/runs").json())


def test_what_is_shipped_holds_no_tests_and_no_pip(image: Image) -> None:
    shipped = image.root / "opt/tallyboard"
    assert not list(shipped.glob("lib/*/site-packages/pip"))
    assert not list(shipped.glob("lib/*/site-packages/pytest"))
    assert list(shipped.glob("lib/*/site-packages/tallyboard_server/py.typed"))


def test_it_can_be_one_of_several_on_postgresql_with_event_files_in_object_storage(image: Image) -> None:
    python = image.root / "opt/tallyboard/bin/python"
    imports = "import importlib.util, psycopg.pq, psycopg_pool, s3fs"
    look = f"{imports}; print(psycopg.pq.__impl__, importlib.util.find_spec('boto3'))"
    done = subprocess.run([python, "-c", look], capture_output=True, text=True, timeout=60, env=clean(image.env))
    assert done.stdout == "binary None\n", done.stderr  # TensorBoard follows deletions only without boto3


def report(port: int, run: str, token: str) -> int:
    """Send one report; the HTTP status."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}/api/v1/scalars/{run}"
    return urllib3.request("POST", url, body=b'{"step": 1, "scalars": {"loss": 0.5}}', headers=headers).status


def wait_for(is_so: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Ask again until it is so; fails the test when time is up."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.2)

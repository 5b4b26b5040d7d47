"""The client by itself, as `pip install` puts it into an empty environment: light, and without the server."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

HEAVY = {
    "asyncio", "email", "fastapi", "http.client", "multiprocessing", "pydantic", "ssl", "starlette", "subprocess",
    "tensorboard", "tqdm", "typer", "urllib3", "uvicorn",
}  # fmt: skip
"""What a training job must not have to load to log a number."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment's interpreter, with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("client")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("tallyboard-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=60)
    python = folder / "venv/bin/python"
    install = [*pip[:3], "--python", str(python), *pip[3:], "install", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return python


def run(python: Path, program: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in that environment, away from the checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return subprocess.run(
        [python, "-c", program], capture_output=True, text=True, timeout=60, env=kept, cwd=python.parent
    )


def test_the_import_works_and_loads_nothing_heavy(python: Path) -> None:
    done = run(python, "import json, sys, tallyboard; print(json.dumps([tallyboard.__version__, *sys.modules]))")
    assert done.returncode == 0, done.stderr
    version, *loaded = json.loads(done.stdout)
    assert version
    assert "tallyboard_server" not in loaded
    assert not HEAVY & set(loaded)


def test_only_what_the_client_needs_was_installed(python: Path) -> None:
    program = "from importlib.metadata import distributions; print(*(d.name for d in distributions()))"
    assert set(run(python, program).stdout.split()) == {"msgspec", "numpy", "tallyboard", "tqdm", "urllib3"}


def test_the_types_and_the_examples_come_along(python: Path) -> None:
    (package,) = python.parent.parent.glob("lib/*/site-packages/tallyboard")
    assert (package / "py.typed").exists()
    assert (package / "examples/digits_classifier.py").exists()


def test_the_command_says_what_is_missing(python: Path) -> None:
    done = subprocess.run([python.parent / "tallyboard", "serve"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.endswith("is not installed; pip install 'tallyboard[server]'\n")
    assert done.stderr.count("\n") == 1

"""The venv of the frameworks lane: made once, by one at a time, and taken for whole only when it is."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.frameworks import venv as lane


def checkout(folder: Path, *, frameworks: str = "keras==3.15.1\n", server: str = "fastapi>=0.115") -> Path:
    """A folder with the two files that say what is to be installed."""
    (folder / "tests" / "frameworks").mkdir(parents=True)
    (folder / "tests" / "frameworks" / "requirements.txt").write_text(f"# pins\n\n{frameworks}")
    (folder / "pyproject.toml").write_text(
        f'[project]\ndependencies = ["numpy>=1.26"]\n[project.optional-dependencies]\n'
        f'server = ["{server}"]\nexamples = ["scikit-learn>=1.5"]\n'
    )
    return folder


def made(built: Path) -> None:
    """What a build leaves, as far as these tests look: a script that knows its own path."""
    (built / "bin").mkdir(parents=True)
    (built / "bin" / "python").symlink_to(sys.executable)
    (built / "bin" / "pytest").write_text(f"#!{built}/bin/python\nprint('pytest')\n")
    (built / "bin" / "pytest").chmod(0o755)
    (built / "bin" / "compiled").write_bytes(b"\x7fELF\0" + bytes(built))


def never(_built: Path) -> None:
    pytest.fail("it was made again")


def test_checkouts_that_ask_for_the_same_share_one(tmp_path: Path) -> None:
    one, two = (lane.requirements(checkout(tmp_path / name)) for name in ("one", "two"))
    assert one == ["fastapi>=0.115", "keras==3.15.1", "numpy>=1.26", "scikit-learn>=1.5"]
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    assert lane.place(cache, one) == lane.place(cache, two)
    assert lane.place(cache, one).parent == tmp_path / "tallyboard"
    others = [
        lane.requirements(checkout(tmp_path / "three", frameworks="keras==3.15.0\n")),
        lane.requirements(checkout(tmp_path / "four", server="fastapi>=0.120")),
    ]
    assert len({lane.place(cache, wanted) for wanted in (one, *others)}) == 3
    assert lane.place(cache | {"FRAMEWORKS_VENV": str(tmp_path / "mine")}, one) == tmp_path / "mine"


def test_this_checkout_names_the_frameworks_by_their_version() -> None:
    wanted = lane.requirements(lane.ROOT)
    for framework in ("torch", "keras", "jax", "optax", "lightning", "transformers", "accelerate"):
        assert [line for line in wanted if line.startswith(f"{framework}==")], framework
    assert not [line for line in wanted if line.startswith("tallyboard")]


def test_it_is_made_once_and_its_scripts_start_where_it_stands(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "frameworks"
    lane.ensure(place, made)
    lane.ensure(place, never)
    done = subprocess.run([place / "bin" / "pytest"], capture_output=True, text=True, check=True)
    assert done.stdout == "pytest\n"
    assert b"building-" in (place / "bin" / "compiled").read_bytes()  # no text: left alone


def test_a_build_that_fails_or_is_killed_is_not_taken_for_whole(tmp_path: Path) -> None:
    place = tmp_path / "frameworks"

    def broken(built: Path) -> None:
        made(built)
        raise subprocess.CalledProcessError(1, ["pip"])

    with pytest.raises(subprocess.CalledProcessError):
        lane.ensure(place, broken)
    assert not place.exists()
    assert list(tmp_path.glob("frameworks.building-*"))  # as after a kill, too
    lane.ensure(place, made)
    assert (place / "bin" / "pytest").exists()
    assert not list(tmp_path.glob("frameworks.building-*"))


def test_who_comes_second_waits_and_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "LOOK_EVERY_S", 0.005)
    place, begun, finish = tmp_path / "frameworks", threading.Event(), threading.Event()

    def slow(built: Path) -> None:
        begun.set()
        assert finish.wait(10)
        made(built)

    first = threading.Thread(target=lane.ensure, args=(place, slow))
    first.start()
    assert begun.wait(10)
    with pytest.raises(TimeoutError, match=r"another process has held .*frameworks\.lock for 0\.01 s"):
        lane.ensure(place, never, wait_s=0.01)
    second = threading.Thread(target=lane.ensure, args=(place, never))
    second.start()
    finish.set()
    first.join(10)
    second.join(10)
    assert (place / "bin" / "pytest").exists()

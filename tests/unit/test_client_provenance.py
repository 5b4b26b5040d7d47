"""Where a run comes from: hardware, libraries and the repository, found out without starting or importing anything."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from tallyboard.provenance import git_remote, gpu_names, library_versions, provenance, without_credentials
from tallyboard.wire import check_document


def test_it_tells_what_the_training_runs_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = set(sys.modules)
    found = provenance(["src/../train.py", "--lr=0.1"], {"CUDA_VISIBLE_DEVICES": "0,3", "HOME": "/home/ada"}, tmp_path)
    assert set(sys.modules) == before
    assert found["script"] == f"{tmp_path}/train.py"
    assert found["executable"] == sys.executable
    assert found["venv"] == sys.prefix
    assert found["cpu_count"] == os.cpu_count()
    assert found["memory_bytes"] == psutil.virtual_memory().total
    assert found["environment"] == {"CUDA_VISIBLE_DEVICES": "0,3"}
    assert found["libraries"]["numpy"] == sys.modules["numpy"].__version__
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert "venv" not in provenance([], {}, tmp_path)
    check_document(found, "provenance")


@pytest.mark.parametrize("argv", [[], [""], ["-c"]])
def test_without_a_script_there_is_none(argv: list[str], tmp_path: Path) -> None:
    assert "script" not in provenance(argv, {}, tmp_path)


def test_versions_are_those_of_what_is_imported_already() -> None:
    torch, keras, odd = ModuleType("torch"), ModuleType("keras"), ModuleType("jax")
    torch.__dict__["__version__"] = "2.13.0+cu130"
    odd.__dict__["__version__"] = (1, 2)
    lazy = ModuleType("transformers")
    lazy.__dict__["_objects"] = {"__version__": "5.1"}
    modules = {"torch": torch, "keras": keras, "jax": odd, "transformers": lazy, "requests": torch}
    assert library_versions(modules) == {"torch": "2.13.0+cu130", "transformers": "5.1"}


def test_a_lazy_module_is_not_loaded_by_being_asked(tmp_path: Path) -> None:
    path = tmp_path / "tensorflow.py"
    path.write_text("raise AssertionError('loaded')")
    spec = importlib.util.spec_from_file_location("tensorflow", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert library_versions({"tensorflow": module}) == {}


def test_gpus_are_named_by_the_drivers_own_files(tmp_path: Path) -> None:
    for index, model in enumerate(["NVIDIA A100-SXM4-80GB", "NVIDIA H100"]):
        folder = tmp_path / f"driver/nvidia/gpus/0000:0{index}:00.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 4{index}\nGPU UUID: \t GPU-1\n")
    assert gpu_names(tmp_path) == ["NVIDIA A100-SXM4-80GB", "NVIDIA H100"]
    assert gpu_names(tmp_path / "none") == []
    (folder / "information").write_bytes(b"\xff\xfe")
    assert gpu_names(tmp_path) == ["NVIDIA A100-SXM4-80GB"]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://github.com/ada/nets.git", "https://github.com/ada/nets.git"),
        ("https://ada:s3cret@github.com/ada/nets.git", "https://github.com/ada/nets.git"),
        ("https://s3cret@github.com:8443/nets?private_token=s3cret#s3cret", "https://github.com:8443/nets"),
        ("ssh://git:s3cret@host:22/nets", "ssh://host:22/nets"),
        ("git@github.com:ada/nets.git", "git@github.com:ada/nets.git"),
        ("ada:s3cret@host:nets", "host:nets"),
        ("/srv/git/ada@home/nets", "/srv/git/ada@home/nets"),
        ("../nets", "../nets"),
        ("https://[bad/nets", ""),
    ],
)
def test_an_address_is_shown_without_what_it_lets_in_with(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


def config(*remotes: tuple[str, str]) -> str:
    """As git writes it, with sections around that are no remotes."""
    found = "".join(f'[remote "{name}"]\n\turl = {url}\n\tfetch = +refs/heads/*\n' for name, url in remotes)
    return f'[core]\n\tbare = false\n\turl = nonsense\n{found}[branch "main"]\n\tremote = origin\n\turl = nonsense\n'


def test_the_remote_is_origin_or_the_first(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    git.mkdir()
    assert git_remote(tmp_path) == {}
    (git / "config").write_text(config())
    assert git_remote(tmp_path) == {}
    (git / "config").write_text(config(("fork", "https://me:pw@fork/nets"), ("origin", "https://me:pw@host/nets")))
    assert git_remote(tmp_path / "src") == {"git_remote": "https://host/nets"}
    (git / "config").write_text(config(("fork", "https://me:pw@fork/nets")))
    assert provenance(["train.py"], {}, tmp_path)["git_remote"] == "https://fork/nets"
    (git / "config").write_bytes(b"\xff" * 10)
    assert git_remote(tmp_path) == {}


def test_a_worktree_has_the_remote_of_the_main_one(tmp_path: Path) -> None:
    main, tree = tmp_path / "main/.git", tmp_path / "tree"
    (main / "worktrees/tree").mkdir(parents=True)
    (main / "config").write_text(config(("origin", "git@host:nets")))
    (main / "worktrees/tree/commondir").write_text("../..")
    tree.mkdir()
    (tree / ".git").write_text(f"gitdir: {main / 'worktrees/tree'}")
    assert git_remote(tree) == {"git_remote": "git@host:nets"}


def test_all_of_it_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git/config").write_text(config(("origin", "https://host/" + "n" * 100_000)))
    monkeypatch.setattr(sys, "executable", "/x" * 10_000)
    monkeypatch.setattr(sys, "prefix", "/\udcff" * 10_000)
    found = provenance(["ü" * 10_000] * 100, {"CUDA_VISIBLE_DEVICES": "GPU-1," * 10_000}, tmp_path)
    check_document(found, "provenance")
    assert len(found["git_remote"]) == len(found["executable"]) == len(found["venv"]) == 500

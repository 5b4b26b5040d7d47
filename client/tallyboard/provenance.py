"""Where a run comes from: command line, host and its hardware, user, git commit, libraries, scheduler ids.

Whether the work tree has changes that are in no commit is not among it. Git's index alone can't tell: what was staged
shows only against the objects of the last commit, and what filters and line endings make of a file only to git, which
is not started (see git_head).
"""

import getpass
import os
import platform
import re
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from tallyboard.system.proc import PROC, memory_kib

_SECRET: Final = re.compile(r"(?i)(token|secret|passw|api[-_]?key|credential)")
_SCHEDULER_IDS: Final = (
    "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "PBS_JOBID", "LSB_JOBID",
    "JOB_ID", "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE",
)  # fmt: skip
_LIBRARIES: Final = (
    "torch", "tensorflow", "jax", "keras", "lightning", "pytorch_lightning", "transformers", "numpy",
)  # fmt: skip
_ENVIRONMENT: Final = ("CUDA_VISIBLE_DEVICES", "CONDA_DEFAULT_ENV")
_GPUS_MAX: Final = 16
_ARGV_CHARS_MAX: Final = 8_192
"""Of the command line; at most four bytes each, so that all of it stays below wire.limits.TEXT_BYTES_MAX."""
_TEXT_CHARS_MAX: Final = 500
_GIT_FILE_BYTES_MAX: Final = 4 * 1024 * 1024


def provenance(argv: Sequence[str], environ: Mapping[str, str], cwd: Path | None = None) -> dict[str, Any]:
    """A small JSON document; what can't be found out is left out. Values of arguments named like secrets are masked."""
    where = cwd or _cwd()
    found: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "user": _user(),
        "argv": _masked(argv),
        "cwd": None if where is None else _text(str(where)),
        "script": _script(argv, where),
        "python": platform.python_version(),
        "executable": _text(sys.executable or ""),
        "venv": _text(sys.prefix) if sys.prefix != sys.base_prefix else None,
        "libraries": library_versions(sys.modules),
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "gpus": gpu_names(),
        "environment": {name: _text(environ[name]) for name in _ENVIRONMENT if name in environ},
        "scheduler": {name: _text(environ[name]) for name in _SCHEDULER_IDS if name in environ},
    }
    git = {} if where is None else git_head(where) | git_remote(where)
    return {name: value for name, value in (found | git).items() if value}


def library_versions(modules: Mapping[str, ModuleType]) -> dict[str, str]:
    """Versions of the libraries for machine learning that are imported already; nothing is imported for it.

    Read past the modules' own ways to give attributes, which a lazy one would take as the wish to be loaded.
    """
    versions: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            inside = object.__getattribute__(modules[name], "__dict__")
            version = inside.get("__version__") or inside.get("_objects", {}).get("__version__")  # transformers' way
        except (KeyError, AttributeError):
            continue
        if isinstance(version, str):
            versions[name] = _text(version)
    return versions


def gpu_names(proc: Path = PROC) -> list[str]:
    """Models of the machine's NVIDIA GPUs, from the driver's files: its library is not loaded for it."""
    names: list[str] = []
    try:
        for folder in sorted((proc / "driver" / "nvidia" / "gpus").iterdir())[:_GPUS_MAX]:
            told = dict(line.split(":", 1) for line in _read(folder / "information").splitlines() if ":" in line)
            names.append(_text(told.get("Model", "").strip()))
    except (OSError, UnicodeDecodeError):
        pass
    return [name for name in names if name]


def git_remote(start: Path) -> dict[str, str]:
    """`git_remote`: where the repository around `start` comes from, without user and password; of several, origin."""
    try:
        git_dir = _git_dir(start)
        if git_dir is None:
            return {}
        common = git_dir / "commondir"
        lines = _read((git_dir / _read(common) if common.is_file() else git_dir) / "config").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    urls: dict[str, str] = {}
    section = ""
    for line in map(str.strip, lines):
        if line.startswith("["):
            section = line
        key, equals, value = line.partition("=")
        if section.startswith('[remote "') and equals and key.strip().lower() == "url":
            urls.setdefault(section, value.strip().strip('"'))
    url = urls.get('[remote "origin"]') or next(iter(urls.values()), "")
    shown = without_credentials(url)
    return {"git_remote": _text(shown)} if shown else {}


def without_credentials(url: str) -> str:
    """A repository's address without user, password, query and fragment; as it is if it is a path."""
    if "://" not in url:  # user@host:path, or a path
        before, _, after = url.rpartition("@")
        return url if before in ("", "git") or "/" in before else after
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def git_head(start: Path) -> dict[str, str]:
    """`git_commit` and `git_branch` of the work tree around `start`, read from its files; empty if there is none.

    No git process is started: a fork can hurt a process that already holds a GPU.
    """
    try:
        git_dir = _git_dir(start)
        if git_dir is None:
            return {}
        head = _read(git_dir / "HEAD")
        if not head.startswith("ref: "):
            return {"git_commit": head}
        ref = head.removeprefix("ref: ")
        commit = _resolve(git_dir, ref)
        branch = {"git_branch": ref.removeprefix("refs/heads/")}
        return branch | ({"git_commit": commit} if commit else {})
    except (OSError, UnicodeDecodeError):
        return {}


def _git_dir(start: Path) -> Path | None:
    for folder in (start, *start.parents):
        candidate = folder / ".git"
        if candidate.is_dir():
            return candidate
        if candidate.is_file():  # a worktree or submodule: "gitdir: <where>"
            return folder / _read(candidate).removeprefix("gitdir: ")
    return None


def _resolve(git_dir: Path, ref: str) -> str | None:
    common = git_dir / "commondir"  # a worktree keeps its branches in the main one
    roots = [git_dir, git_dir / _read(common)] if common.is_file() else [git_dir]
    for root in roots:
        if (root / ref).is_file():
            return _read(root / ref)
        packed = root / "packed-refs"
        if packed.is_file():
            for line in _read(packed).splitlines():
                if line.endswith(f" {ref}"):
                    return line.split(" ", 1)[0]
    return None


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_GIT_FILE_BYTES_MAX).decode().strip()


def _script(argv: Sequence[str], where: Path | None) -> str | None:
    if where is None or not argv or argv[0] in ("", "-c", "-m"):
        return None
    return _text(os.path.normpath(where / argv[0]))


def _memory_bytes() -> int | None:
    try:
        return memory_kib()[b"MemTotal"] * 1024
    except (OSError, ValueError, IndexError, KeyError):
        return None


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user id without a name
        return None


def _cwd() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return None


def _masked(argv: Sequence[str]) -> list[str]:
    shown: list[str] = []
    mask_next = False
    for arg in argv:
        text = _text(arg)
        name, equals, _ = text.partition("=")
        secret = _SECRET.search(name) is not None
        if mask_next:
            text = "***"
        elif secret and equals:
            text = f"{name}=***"
        if sum(map(len, shown)) + len(text) > _ARGV_CHARS_MAX:
            return [*shown, "…"]
        mask_next = secret and not equals and name.startswith("-") and not mask_next
        shown.append(text)
    return shown


def _text(text: str) -> str:
    """As UTF-8 can hold it, and not too long."""
    return text.encode("utf-8", "replace").decode()[:_TEXT_CHARS_MAX]

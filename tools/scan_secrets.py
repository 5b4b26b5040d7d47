"""Whether a secret is in the source: detect-secrets on every file that git knows, against a baseline of what is none.

Ends with 1 if something looks like a secret and is not in .secrets.baseline. `--update` writes the baseline anew: then
look at what is in it that was not before. Files that were clean are not scanned again until they change.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

ROOT: Final = Path(__file__).parents[1]
BASELINE: Final = ".secrets.baseline"
LEFT_OUT: Final = re.compile(
    r"package-lock\.json$|\.secrets\.baseline$|\.(png|gz|br|tfevents\S*|npz|pb)$"
    r"|^server/dashboard/tests/fixtures/|^tests/(corpus|references)/"
)
"""Hashes of packages, recorded answers and binary files: random by their nature."""
CHUNK: Final = 16
_CLEAN_MAX: Final = 20_000

Found = dict[str, list[dict[str, Any]]]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Scan, say what was found, and return the exit code."""
    if arguments not in ([], ["--update"]):
        print("usage: python -m tools.scan_secrets [--update]")
        return 2
    found = scan(root)
    path = root / BASELINE
    if arguments:
        path.write_text(json.dumps({"results": found}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"secrets: {sum(map(len, found.values()))} places are in {BASELINE} now; look at those that are new")
        return 0
    known = json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else {}
    new = unknown(found, known)
    for line in new:
        print(f"secrets: {line}")
    if new:
        print(
            "secrets: take them out, and revoke what was ever pushed; if they are none, mark the line with "
            "`pragma: allowlist secret`, or write the baseline anew: python -m tools.scan_secrets --update"
        )
    return 1 if new else 0


def unknown(found: Found, known: Found) -> list[str]:
    """What was found and is not in a baseline, in words; never the secret itself."""
    seen = {(name, one["hashed_secret"]) for name, places in known.items() for one in places}
    return [
        f"{name}:{one['line_number']}: looks like a secret ({one['type']})"
        for name, places in sorted(found.items())
        for one in places
        if (name, one["hashed_secret"]) not in seen
    ]


def scan(root: Path) -> Found:
    """What looks like a secret in the files that git knows below a folder, by file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name and not LEFT_OUT.search(name) and (root / name).is_file()]
    hashes = {
        name: hashlib.blake2b(name.encode() + b"\0" + (root / name).read_bytes(), digest_size=16).hexdigest()
        for name in names
    }
    memory = _Memory()
    waiting = [name for name in names if hashes[name] not in memory.clean]
    found: Found = {}
    chunks = [(root, waiting[first : first + CHUNK]) for first in range(0, len(waiting), CHUNK)]
    if len(chunks) <= 1:
        results = map(_scan, chunks)
        found = {name: places for part in results for name, places in part.items()}
    else:
        with ProcessPoolExecutor() as pool:
            found = {name: places for part in pool.map(_scan, chunks) for name, places in part.items()}
    memory.keep({hashes[name] for name in names if name not in found})
    return found


def _scan(chunk: tuple[Path, list[str]]) -> Found:
    root, names = chunk
    found: Found = {}
    with default_settings():
        for name in names:
            places = [
                {"hashed_secret": one.secret_hash, "line_number": one.line_number, "type": one.type}
                for one in scan_file(str(root / name))
            ]
            if places:
                found[name] = sorted(places, key=lambda place: (place["line_number"], place["type"]))
    return found


class _Memory:
    """Hashes of names and contents of files in which this version of detect-secrets found nothing."""

    def __init__(self) -> None:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tallyboard"
        self._path = folder / f"no-secrets-{version('detect-secrets')}.json"
        try:
            self.clean: set[str] = set(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            self.clean = set()

    def keep(self, clean: set[str]) -> None:
        """Remember more of them, bounded."""
        together = list(clean) + [one for one in self.clean if one not in clean]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(together[:_CLEAN_MAX]), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

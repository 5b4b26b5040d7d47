"""Whether anything that Tallyboard depends on is known to be vulnerable: `pip-audit` and `npm audit`, kept for a day.

Ends with 1 if something is, and is not in known_vulnerabilities.toml with a reason and a date that is to come. What
could not be looked up is said, and fails nothing: whoever is offline can work.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[1]
IGNORED: Final = ROOT / "tools" / "known_vulnerabilities.toml"
DASHBOARD: Final = ROOT / "server" / "dashboard"
KEPT_S: Final = 24 * 3600.0
UNKNOWN_KEPT_S: Final = 3600.0
"""How long an answer is kept, and how long that there was none."""
TIMEOUT_S: Final = 60.0
EXTRAS: Final = ("server", "parquet", "tensorboard", "examples", "dev")
"""Of pyproject.toml: what `make setup` installs. Frameworks have their own lane and their own pins."""


@dataclass(slots=True)
class Findings:
    """What came of looking.

    vulnerable: what, with its advisory → what is said of it. unknown: what could not be looked up; looked_at: how many
    packages could be.
    """

    vulnerable: dict[str, str] = field(default_factory=dict)
    looked_at: int = 0
    unknown: str = ""


def main() -> int:
    """Look at both, say what was found, and return the exit code."""
    ignored, overdue = read_ignored(IGNORED.read_text(encoding="utf-8"), datetime.now(UTC).date())
    failed = bool(overdue)
    for advisory in overdue:
        print(f"audit: {IGNORED.name}: the date of {advisory} is over; look at it again")
    pins = "\n".join(sorted(resolved(EXTRAS)))
    lock = (DASHBOARD / "package-lock.json").read_text(encoding="utf-8")
    for name, key, look in (("Python", pins, lambda: python(pins)), ("npm", lock, npm)):
        found = kept(f"{name}\n{key}", look)
        failed |= told(name, found, ignored)
    return 1 if failed else 0


def told(name: str, found: Findings, ignored: Mapping[str, str]) -> bool:
    """Say what was found of packages of one kind; whether that is a failure."""
    failed = False
    if found.unknown:
        print(f"audit: NOT CHECKED ({name}): {found.unknown}")
    for what, said in sorted(found.vulnerable.items()):
        advisory = what.rpartition(" ")[2]
        if advisory in ignored:
            print(f"audit: {what} is known and left: {ignored[advisory]}")
        else:
            failed = True
            print(f"audit: {what}: {said}; upgrade it, or say in {IGNORED.name} why not")
    if found.looked_at:
        print(f"audit: {found.looked_at} {name} packages looked up, {len(found.vulnerable)} known to be vulnerable")
    return failed


def resolved(extras: tuple[str, ...]) -> set[str]:
    """name==version of everything that is installed here and that pyproject.toml leads to."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(text for extra in extras for text in project["optional-dependencies"][extra])]
    waiting = [Requirement(text) for text in asked]
    seen: set[tuple[str, frozenset[str]]] = set()
    found: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            installed = distribution(wanted.name)
        except PackageNotFoundError:
            continue
        found.add(f"{canonicalize_name(wanted.name)}=={installed.version}")
        waiting += _needs(installed.requires or [], wanted.extras)
    return found


def _needs(texts: list[str], extras: set[str]) -> Iterator[Requirement]:
    """Of a package's requirements those that hold here, with these extras."""
    for text in texts:
        needed = Requirement(text)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield needed


def python(pins: str) -> Findings:
    """What pip-audit knows of pinned packages."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "requirements.txt"
        path.write_text(pins, encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off",
                   "--format", "json", "--requirement", str(path)]  # fmt: skip
        return of_pip_audit(*_output(command, ROOT))


def of_pip_audit(out: str, err: str) -> Findings:
    """What pip-audit's answer says; it has none if its service did not answer."""
    try:
        dependencies = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return Findings(unknown=f"pip-audit gave no answer ({_telling_line(err)})")
    found = Findings()
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    if skipped:
        found.unknown = f"nothing is to be had of {len(skipped)} of {len(dependencies)} packages ({skipped[0]}, …)"
    for one in dependencies:
        if "skip_reason" in one:
            continue
        found.looked_at += 1
        for vulnerability in one["vulns"]:
            fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version"
            found.vulnerable[f"{one['name']} {one['version']} {vulnerability['id']}"] = f"fixed in {fixed}"
    return found


def npm() -> Findings:
    """What the npm registry knows of the dashboard's locked packages."""
    return of_npm_audit(*_output(["npm", "audit", "--json", "--package-lock-only"], DASHBOARD))


def of_npm_audit(out: str, err: str) -> Findings:
    """What npm's answer says; it has none if the registry did not answer."""
    try:
        answer: Any = json.loads(out)
        packages = answer["vulnerabilities"]
    except (ValueError, KeyError, TypeError):
        return Findings(unknown=f"npm audit gave no answer ({_telling_line(err)})")
    found = Findings(looked_at=answer.get("metadata", {}).get("dependencies", {}).get("total", 0))
    for name, package in packages.items():
        for via in package["via"]:
            if isinstance(via, dict):  # else the name of the package that is, which is listed itself
                advisory = str(via.get("url", via.get("source"))).rpartition("/")[2]
                found.vulnerable[f"{name} {via.get('range', '')} {advisory}"] = str(via.get("title", ""))
    return found


def kept(key: str, look: Callable[[], Findings]) -> Findings:
    """What was found for the same question lately, else what `look` finds now."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tallyboard"
    path = folder / f"audit-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    try:
        found = Findings(**json.loads(path.read_text(encoding="utf-8")))
        if time.time() - path.stat().st_mtime < (UNKNOWN_KEPT_S if found.unknown else KEPT_S):
            return found
    except (OSError, ValueError, TypeError):
        pass  # there is none, or of another version of this
    found = look()
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def read_ignored(text: str, today: date) -> tuple[dict[str, str], list[str]]:
    """(reason by advisory, advisories whose date is over). Raises KeyError if one lacks a reason or a date."""
    entries = tomllib.loads(text).get("ignored", [])
    reasons = {entry["id"]: entry["reason"] for entry in entries if entry["until"] > today}
    return reasons, [entry["id"] for entry in entries if entry["until"] <= today]


def _output(command: list[str], folder: Path) -> tuple[str, str]:
    """(stdout, stderr) of a command; why it gave none on the second, if it could not be run or took too long."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    return done.stdout, done.stderr


def _telling_line(text: str) -> str:
    """The first line of what a command said that tells of a failure; if none does, the first that says anything."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w", line)]
    telling = [line for line in lines if re.search(r"error|fail|refus|not allowed|timed? ?out|unreachable", line, re.I)]
    return (telling or lines or ["it said nothing"])[0][:200]


if __name__ == "__main__":
    sys.exit(main())

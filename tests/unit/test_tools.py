"""The checks of dependencies and secrets can fail, and say what they could not look at."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from tools import audit_dependencies as audit
from tools import scan_secrets
from tools.audit_dependencies import Findings

PIP: str = json.dumps({"dependencies": [
    {"name": "good", "version": "1", "vulns": []},
    {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-2026-1", "fix_versions": ["3"], "aliases": []}]},
]})  # fmt: skip
NPM: str = json.dumps({
    "vulnerabilities": {
        "bad": {"via": [{"url": "https://x/GHSA-1", "title": "runs code", "range": "<3"}]}, "user": {"via": ["bad"]},
    },
    "metadata": {"dependencies": {"total": 7}},
})  # fmt: skip


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(("found", "what", "looked_at"), [
    (audit.of_pip_audit(PIP, ""), "bad 2 PYSEC-2026-1", 2), (audit.of_npm_audit(NPM, ""), "bad <3 GHSA-1", 7),
])  # fmt: skip
def test_a_vulnerable_package_is_a_failure_unless_there_is_a_reason(
    found: Findings, what: str, looked_at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (set(found.vulnerable), found.looked_at, found.unknown) == ({what}, looked_at, "")
    assert audit.told("x", found, {})
    assert f"audit: {what}: " in capsys.readouterr().out
    assert not audit.told("x", found, {what.split()[-1]: "never called"})
    assert f"{what} is known and left: never called" in capsys.readouterr().out


@pytest.mark.parametrize("found", [
    audit.of_pip_audit("", "ERROR: connection refused"), audit.of_pip_audit("null", "connection refused"),
    audit.of_npm_audit("", "connection refused"), audit.of_npm_audit('{"message": "405"}', "connection refused"),
])  # fmt: skip
def test_what_could_not_be_looked_up_is_said_and_fails_nothing(
    found: Findings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not audit.told("npm", found, {})
    out = capsys.readouterr().out
    assert out.startswith("audit: NOT CHECKED (npm): ")
    assert "connection refused" in out
    assert "looked up" not in out


def test_packages_of_which_nothing_is_known_are_said() -> None:
    answer = {"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}]}
    found = audit.of_pip_audit(json.dumps(answer), "")
    assert (found.looked_at, found.unknown) == (1, "nothing is to be had of 1 of 2 packages (b, …)")


def test_a_reason_has_a_date_and_holds_until_then() -> None:
    text = '[[ignored]]\nid = "GHSA-1"\nreason = "never called"\nuntil = 2026-06-01\n'
    assert audit.read_ignored(text, date(2026, 5, 31)) == ({"GHSA-1": "never called"}, [])
    assert audit.read_ignored(text, date(2026, 6, 1)) == ({}, ["GHSA-1"])
    with pytest.raises(KeyError):
        audit.read_ignored('[[ignored]]\nid = "GHSA-1"\nuntil = 2026-06-01\n', date(2026, 5, 31))
    _, overdue = audit.read_ignored(audit.IGNORED.read_text(encoding="utf-8"), date(1970, 1, 1))
    assert overdue == []


def test_what_is_looked_at_is_what_is_installed() -> None:
    pins = audit.resolved(audit.EXTRAS)
    names = {pin.partition("==")[0] for pin in pins}
    assert {"numpy", "fastapi", "starlette", "uvicorn", "httptools", "tensorboard", "werkzeug", "pytest"} <= names
    assert all(version for _, _, version in (pin.partition("==") for pin in pins))


def test_an_answer_is_kept_for_a_day_and_none_for_an_hour(tmp_path: Path) -> None:
    def asked(key: str, age_s: float, found: Findings) -> int:
        times = []

        def look() -> Findings:
            times.append(1)
            return found

        assert audit.kept(key, look) == found
        (path,) = (tmp_path / "cache" / "tallyboard").glob("audit-*.json")
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age_s))
        assert audit.kept(key, look) == found
        path.unlink()
        return len(times)

    good, none = Findings(looked_at=3), Findings(unknown="offline")
    assert [asked("a", 23 * 3600, good), asked("a", 25 * 3600, good)] == [1, 2]
    assert [asked("b", 1800, none), asked("b", 2 * 3600, none)] == [1, 2]


Repository = Callable[[str, str], Path]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Puts a file into a git repository of its own."""
    root = tmp_path / "repository"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)

    def put(name: str, text: str) -> Path:
        (root / name).write_text(text)
        subprocess.run(["git", "add", "--all"], cwd=root, check=True)
        return root

    return put


@pytest.mark.parametrize(("line", "kind"), [
    ("aws = '" + "AKIA" + "QYLPMN5HHHFPZAM2'", "AWS Access Key"),
    ("-----BEGIN " + "RSA PRIVATE KEY-----", "Private Key"),
    ("url = 'https://me:" + "Tr0ub4dor" + "3xyz@intern.corp/'", "Basic Auth Credentials"),
])  # fmt: skip
def test_a_planted_key_fails_until_it_is_known_to_be_none(
    repository: Repository, line: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = repository("clean.py", "x = 1\n")
    assert scan_secrets.main([], root) == 0
    repository("settings.py", f"x = 1\n{line}\n")
    assert scan_secrets.main([], root) == 1
    out = capsys.readouterr().out
    assert f"secrets: settings.py:2: looks like a secret ({kind})" in out
    assert line not in out
    assert scan_secrets.main(["--update"], root) == 0
    assert scan_secrets.main([], root) == 0
    repository("other.py", f"{line}\n")  # the same one elsewhere is another thing
    assert scan_secrets.main([], root) == 1


def test_a_clean_file_is_scanned_again_when_it_changes(repository: Repository) -> None:
    root = repository("settings.py", "x = 1\n")
    assert [scan_secrets.main([], root) for _ in range(2)] == [0, 0]
    repository("settings.py", "key = '" + "AKIA" + "QYLPMN5HHHFPZAM2'\n")
    assert scan_secrets.main([], root) == 1


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    """Ruff refuses it everywhere; here it is shown to."""
    bad = tmp_path / "bad.py"
    bad.write_text("import pickle\nimport shelve\n\nx = pickle.loads(b'')\n")
    config = Path(__file__).parents[2] / "pyproject.toml"
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise", "--config", str(config),
         str(bad)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    said = [line.split(": ")[1].split()[0] for line in done.stdout.splitlines() if "bad.py" in line]
    assert said.count("TID251") == 2, done.stdout
    assert "S301" in said

"""docker/tallyboard.service: what it promises to systemd holds of the service, and systemd itself finds no fault."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from tallyboard_server.cli.server import FILES_MAX, SHUTDOWN_TIMEOUT_S
from tallyboard_server.settings import Settings

UNIT = Path(__file__).parents[2] / "docker" / "tallyboard.service"


def parsed() -> dict[str, dict[str, list[str]]]:
    """Values by section and name, in order: a unit may say a name more than once."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            found[section] = defaultdict(list)
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            found[section][name].append(value)
    return found


def test_it_says_what_the_service_does() -> None:
    service = parsed()["Service"]
    assert service["Type"] == ["notify"]
    assert service["LimitNOFILE"] == [str(FILES_MAX)]
    assert int(service["TimeoutStopSec"][0]) >= SHUTDOWN_TIMEOUT_S + 60  # then the writer and the views have to end
    assert float(service["WatchdogSec"][0]) >= 30  # one long turn of the event loop must not end the service
    variables = dict(re.findall(r"TALLYBOARD_(\w+)=(\S*)", service["Environment"][0]))
    Settings(**{name.lower(): value for name, value in variables.items()})
    assert variables["DATA_DIR"] == f"/var/lib/{service['StateDirectory'][0]}"


@pytest.mark.parametrize(("name", "value"), [
    ("DynamicUser", "yes"), ("ProtectSystem", "strict"), ("ProtectHome", "yes"), ("PrivateTmp", "yes"),
    ("PrivateDevices", "yes"), ("NoNewPrivileges", "yes"), ("CapabilityBoundingSet", ""),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"), ("UMask", "0077"), ("StateDirectoryMode", "0700"),
])  # fmt: skip
def test_it_is_shut_in(name: str, value: str) -> None:
    assert parsed()["Service"][name] == [value]


def test_systemd_finds_no_fault(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here, so systemd's own view of the unit is not known")
    program = tmp_path / "tallyboard"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "tallyboard.service"
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/tallyboard/bin/tallyboard", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    about_it = [line for line in done.stderr.splitlines() if "tallyboard" in line]
    assert (done.returncode, about_it) == (0, []), done.stderr
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert rated.returncode == 0, f"exposed more than 2.0: {rated.stdout.splitlines()[-1:]} {rated.stderr}"

"""Full and read-only disks, no descriptors, a directory in use, torn files: told, survived, nothing lost."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import urllib3

from tallyboard_server.cli.http import UnreachableError
from tallyboard_server.cli.sources import Online
from tests.cli_process import clean, tallyboard
from tests.kill.server import QUICK, Server
from tests.service import until

MIB = 1024 * 1024


@contextmanager
def small_disk(path: Path, size: int, *options: str) -> Iterator[Path]:
    """A file system of its own in memory; skips the test where none may be mounted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "tmpfs", str(path)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.stop()


def report(server: Server, run: str, steps: range, tags: int = 50) -> int:
    """The status of a request with a report of many tags at each step."""
    reports = [{"step": s, "scalars": {f"t{i}": s + i / 64 for i in range(tags)}} for s in steps]
    answer = urllib3.request(
        "POST", f"{server.url}/api/v1/scalars/{run}", body=msgspec.json.encode({"reports": reports}),
        headers={"Content-Type": "application/json"}, retries=False, timeout=30.0,
    )  # fmt: skip
    return answer.status


def readiness(server: Server) -> Any:
    return server.service.readiness()


def verified(server: Server, run: str) -> bool:
    return Online(server.service).verify(run, lambda _scalars: None).ok


def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(tmp_path: Path, server: Server) -> None:
    with small_disk(tmp_path / "disk", 24 * MIB) as disk:
        server.data_dir = disk / "data"
        server.start()
        assert report(server, "a/b", range(100)) == 200
        (disk / "ballast").write_bytes(b"x" * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize - 2 * MIB))
        acknowledged, statuses = 100, []
        for first in range(100, 10_100, 500):
            statuses.append(report(server, "a/b", range(first, first + 500)))
            if statuses[-1] != 200:
                break
            acknowledged += 500
        assert statuses[-1] in (503, 507), statuses
        ready = readiness(server)
        assert not ready.ready
        assert any("make room" in reason or "free" in reason for reason in ready.reasons)
        assert server.returncode() is None
        (disk / "ballast").unlink()
        assert until(lambda: report(server, "a/b", range(acknowledged, acknowledged + 10)) == 200)
        view = server.service.points("a/b", "t7")
        assert view is not None
        assert view.points.step == list(range(acknowledged + 10))
        assert verified(server, "a/b")
        assert until(lambda: [r for r in readiness(server).reasons if "are free in" not in r] == [])
        server.stop()


def test_a_full_disk_of_event_files_is_told_and_caught_up_with(tmp_path: Path, server: Server) -> None:
    with small_disk(tmp_path / "disk", 2 * MIB) as disk:
        (disk / "ballast").write_bytes(b"x" * (2 * MIB - 16 * 1024))
        server.start(variables={"TALLYBOARD_LOGDIR": str(disk)})
        assert report(server, "a/b", range(200)) == 200
        assert until(lambda: not readiness(server).ready)
        assert "No space left" in readiness(server).reasons[0]
        assert report(server, "a/b", range(200, 300)) == 200
        (disk / "ballast").unlink()
        assert verified(server, "a/b")
        assert until(lambda: readiness(server).ready)
        server.stop()


def test_a_read_only_logdir_is_told_and_caught_up_with(tmp_path: Path, server: Server) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB, "ro") as disk:
        server.start(variables={"TALLYBOARD_LOGDIR": str(disk)})
        assert report(server, "a/b", range(10)) == 200
        assert until(lambda: not readiness(server).ready)
        assert "Read-only file system" in readiness(server).reasons[0]
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        assert verified(server, "a/b")
        assert until(lambda: readiness(server).ready)
        server.stop()


def test_a_read_only_data_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB, "ro") as disk:
        outcome = tallyboard("serve", "--port", "0", "--data-dir", str(disk / "data"))
    assert outcome.returncode == 1
    assert "make it writable" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_data_directory_that_became_read_only_is_refused_in_one_line(tmp_path: Path, server: Server) -> None:
    with small_disk(tmp_path / "disk", 24 * MIB) as disk:
        server.data_dir = disk / "data"
        server.start()
        assert report(server, "a/b", range(10)) == 200
        server.stop()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        outcome = tallyboard("serve", "--port", "0", "--data-dir", str(disk / "data"))
        assert outcome.returncode == 1
        assert "Traceback" not in outcome.stderr
        assert "Read-only file system" in outcome.stderr
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        server.start()
        assert verified(server, "a/b")
        server.stop()


FILES_MAX = 48


def test_descriptors_that_run_out_cost_nothing_acknowledged(tmp_path: Path, server: Server) -> None:
    """Many connections and many event files with few descriptors: some are turned away, and all is well after."""

    server.start(files_max=FILES_MAX)
    runs = [f"a/run{i}" for i in range(20)]
    assert report(server, runs[0], range(5), tags=1) == 200
    acknowledged = {runs[0]: 5}
    with ExitStack() as stack:
        for _ in range(3 * FILES_MAX):
            connection = stack.enter_context(socket.socket())
            connection.settimeout(5)
            with suppress(OSError):
                connection.connect(("127.0.0.1", server.port))
        for run in runs:
            with suppress(urllib3.exceptions.HTTPError):
                if report(server, run, range(10, 20), tags=1) == 200:
                    acknowledged[run] = acknowledged.get(run, 0) + 10
        assert server.returncode() is None
    assert until(lambda: answers(server))
    for run in runs:
        assert report(server, run, range(20, 25), tags=1) == 200
        acknowledged[run] = acknowledged.get(run, 0) + 5
    assert until(lambda: readiness(server).ready, timeout_s=30.0), readiness(server)
    for run in runs:
        report_of_run = Online(server.service).verify(run, lambda _scalars: None)
        assert report_of_run.ok, report_of_run.differences
        assert report_of_run.attempts[0].stored >= acknowledged[run]


def answers(server: Server) -> bool:
    """Whether a whole request comes through."""
    try:
        return bool(server.service.readiness().checks["free_bytes"] > 0)
    except UnreachableError:
        return False


def test_a_second_process_is_kept_off_and_the_first_goes_on(server: Server) -> None:
    server.start()
    assert report(server, "a/b", range(10)) == 200
    command = [
        sys.executable,
        "-m",
        "tallyboard_server.cli",
        "serve",
        "--port",
        "0",
        "--data-dir",
        str(server.data_dir),
    ]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean(QUICK))
    assert second.returncode == 1
    assert "is in use by process" in second.stderr
    assert report(server, "a/b", range(10, 20)) == 200
    assert verified(server, "a/b")


def test_event_files_that_were_torn_removed_or_added_are_found_and_written_anew(server: Server) -> None:
    """What another program does to the logdir while the service runs, or while it is down."""
    logdir = server.data_dir / "logdir"
    damage: list[Callable[[Path], object]] = [
        lambda path: path.write_bytes(path.read_bytes()[:-7]),
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b"something else" * 1000),
    ]
    server.start()
    for number in range(len(damage)):
        assert report(server, f"a/run{number}", range(50), tags=3) == 200
        assert verified(server, f"a/run{number}")
    server.stop()
    for number, harm in enumerate(damage):
        harm(newest(logdir / "a" / f"run{number}"))
    foreign = logdir / "a" / "run0" / "events.out.tfevents.1.foreign"
    foreign.write_bytes(b"not ours")
    server.start()
    assert until(lambda: readiness(server).checks["export_repairs_total"] == len(damage))
    for number in range(len(damage)):
        assert verified(server, f"a/run{number}")
    ready = readiness(server)
    assert (ready.ready, [str(foreign) in warning for warning in ready.warnings]) == (True, [True])
    assert foreign.read_bytes() == b"not ours"
    log = server.log()
    for said in ("it is missing", "bytes of at least", "another header", "is not one of ours"):
        assert said in log


def newest(directory: Path) -> Path:
    return sorted(directory.glob("events.out.tfevents.*"))[-1]

"""`tallyboard watch`: new runs and files are found, a service may go and come back, and the command ends when told."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tallyboard.delivery.transport import HttpTransport
from tallyboard.logdir import watching
from tallyboard.logdir.shipping import Service
from tallyboard.logdir.tags import CounterRule
from tallyboard.logdir.watching import Watch
from tallyboard_server.cli.demo.process import free_port
from tallyboard_server.settings import Settings
from tests.cli_process import clean
from tests.logdir_kit import counts_of, curve, event, write
from tests.service import RunningService, serving, until


class Clock:
    """Time passes when the test says so, and when somebody waits."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def wait(self, seconds: float) -> bool:
        self.seconds += seconds
        return True


class Watched:
    """A watch over a logdir, polled by hand."""

    def __init__(self, url: str, logdir: Path, project: str, *rules: CounterRule) -> None:
        logdir.mkdir(exist_ok=True)
        self.clock = Clock()
        self.said: list[str] = []
        service = Service(HttpTransport(url, None, "test"), patience_s=1.0, clock=self.clock)
        self.watch = Watch(logdir, service, project, rules, self.said.append, self.clock)

    def settle(self) -> None:
        """Poll until what was there is sent: the second look sees that nothing grows."""
        for _ in range(3):
            self.watch.poll()


def steps(service: RunningService, run: str, tag: str = "loss") -> list[int]:
    if service.get(f"/runs/{run}").status != 200:
        return []
    return [step for step, _ in service.points(run, tag)]


def test_runs_and_files_that_appear_and_grow(service: RunningService, run_name: str, tmp_path: Path) -> None:
    watched = Watched(service.url, tmp_path / "log", run_name)
    watched.settle()
    write(tmp_path / "log" / "a", 0, curve("loss", range(5)))
    watched.settle()
    assert steps(service, f"{run_name}/a") == list(range(5))
    write(tmp_path / "log" / "a", 0, curve("loss", range(9)))
    write(tmp_path / "log" / "b" / "c", 0, curve("loss", range(3)))
    watched.settle()
    write(tmp_path / "log" / "a", 1, curve("loss", range(7, 12), 0.5))
    watched.settle()
    assert steps(service, f"{run_name}/a") == list(range(12))
    assert steps(service, f"{run_name}/b/c") == list(range(3))
    watched.watch.end()
    assert counts_of(watched.watch.mends) == {"restarted": 1}
    assert watched.watch.points == 5 + 4 + 3 + 5


def test_jitter_between_two_looks_is_put_in_order(service: RunningService, run_name: str, tmp_path: Path) -> None:
    watched = Watched(service.url, tmp_path / "log", run_name)
    records = curve("loss", [1, 0, 3, 2, 5, 4, 7, 6])
    for count in range(1, 9):
        write(tmp_path / "log", 0, records[:count])
        watched.watch.poll()
    watched.settle()
    assert steps(service, f"{run_name}/log") == list(range(8))


def test_a_quiet_run_is_finished_until_it_grows_again(service: RunningService, run_name: str, tmp_path: Path) -> None:
    def status() -> object:
        return service.get(f"/runs/{run_name}/log").json()["status"]

    watched = Watched(service.url, tmp_path / "log", run_name)
    write(tmp_path / "log", 0, curve("loss", range(3)))
    watched.settle()
    assert status() == "running"
    watched.clock.seconds += watching.QUIET_S
    watched.settle()
    assert status() == "finished"
    write(tmp_path / "log", 0, curve("loss", range(4)))
    watched.settle()
    assert (status(), steps(service, f"{run_name}/log")) == ("running", [0, 1, 2, 3])


def test_a_zero_filled_end_is_waited_for(service: RunningService, run_name: str, tmp_path: Path) -> None:
    watched = Watched(service.url, tmp_path / "log", run_name)
    path = write(tmp_path / "log", 0, curve("loss", range(3)))
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(100))
    watched.settle()
    path.write_bytes(whole + b"".join(curve("loss", range(3, 9))))
    watched.settle()
    watched.watch.end()
    assert (steps(service, f"{run_name}/log"), counts_of(watched.watch.mends)) == (list(range(9)), {})


def test_a_service_that_goes_and_comes_back(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    settings = Settings(data_dir=tmp_path / "data", port=port)
    watched = Watched(f"http://127.0.0.1:{port}", tmp_path / "log", "p")
    write(tmp_path / "log", 0, curve("loss", range(3)))
    watched.settle()
    with serving(settings) as service:
        watched.settle()
        assert steps(service, "p/log") == [0, 1, 2]
    write(tmp_path / "log", 0, curve("loss", range(6)))
    watched.settle()
    write(tmp_path / "log", 0, curve("loss", range(9)))
    watched.settle()
    with serving(settings) as service:
        watched.settle()
        assert steps(service, "p/log") == list(range(9))
    assert [line.split(" (")[0] for line in watched.said] == [
        "the service takes nothing",
        "watching p/log",
        "the service is back",
        "the service takes nothing",
        "the service is back",
    ]


def test_a_service_that_was_put_back_gets_again_what_it_misses(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    watched = Watched(f"http://127.0.0.1:{port}", tmp_path / "log", "p")
    write(tmp_path / "log", 0, curve("loss", range(3)))
    with serving(Settings(data_dir=tmp_path / "one", port=port)) as service:
        watched.settle()
        assert steps(service, "p/log") == [0, 1, 2]
    write(tmp_path / "log", 0, curve("loss", range(6)))
    with serving(Settings(data_dir=tmp_path / "two", port=port)) as service:
        watched.settle()
        watched.clock.seconds += watching.AGAIN_S
        watched.settle()
        assert steps(service, "p/log") == list(range(6))


def test_a_run_deleted_meanwhile_stays_deleted(service: RunningService, run_name: str, tmp_path: Path) -> None:
    watched = Watched(service.url, tmp_path / "log", run_name)
    write(tmp_path / "log", 0, curve("loss", range(3)))
    watched.settle()
    assert service.request("DELETE", f"/api/v1/runs/{run_name}/log").status == 204
    write(tmp_path / "log", 0, curve("loss", range(6)))
    watched.settle()
    assert service.get(f"/runs/{run_name}/log").status == 410
    assert counts_of(watched.watch.mends) == {"failed": 1}


def test_hundreds_of_files_without_holding_any_open(service: RunningService, run_name: str, tmp_path: Path) -> None:
    for number in range(150):
        write(tmp_path / "log" / f"r{number}", 0, [event(step, {"a": step, "b": step}) for step in range(5)])
    watched = Watched(service.url, tmp_path / "log", run_name)
    watched.settle()
    held = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert not [path for path in held if path.is_relative_to(tmp_path / "log")]
    assert steps(service, f"{run_name}/r149", "b") == list(range(5))
    assert watched.watch.points == 150 * 10


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_watches_until_it_is_told_to_stop(
    service: RunningService, run_name: str, tmp_path: Path, number: signal.Signals
) -> None:
    path = write(tmp_path / "log", 0, curve("loss", range(5)))
    command = [sys.executable, "-m", "tallyboard", "watch", str(tmp_path / "log"), "--project", run_name]
    environment = clean({"TALLYBOARD_URL": service.url})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert until(lambda: steps(service, f"{run_name}/log") == list(range(5)), 30)
            path.write_bytes(path.read_bytes() + b"".join(curve("loss", range(5, 7))))
            assert until(lambda: steps(service, f"{run_name}/log") == list(range(7)), 30)
            process.send_signal(number)
            out, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, out) == (0, "7 points sent\n")


def test_the_client_alone_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "log", 0, curve("loss", range(5)))
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['tallyboard_server', 'crc32c', 'tensorboardX', 'tensorboard', "
        "'google.protobuf', 'typer'])); from tallyboard.__main__ import main; "
        f"sys.exit(main(['import', {str(tmp_path / 'log')!r}, '--dry-run']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "5 points read" in done.stdout

"""The demo from outside: it learns, on two step counters, and TensorBoard shows the very points that were sent."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallyboard_server.cli.demo import compare, running
from tallyboard_server.cli.demo.process import free_port
from tallyboard_server.cli.demo.recorder import RecordedRun
from tallyboard_server.cli.demo.trainings import Training
from tallyboard_server.cli.http import Service
from tests.cli_process import TALLYBOARD, clean, served
from tests.conftest import StartService

Ended = tuple[Path, "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]
CLASSIFIERS = ("classifier-lr0.02", "classifier-lr0.05", "classifier-lr0.1", "classifier-lr0.3")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A folder, and how `tallyboard demo --once` ended in it."""
    folder = tmp_path_factory.mktemp("demo")
    command = [*TALLYBOARD, "demo", "--once", "--port", str(free_port("127.0.0.1")), "--data-dir", str(folder / "data")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=clean({}), cwd=folder)
    return folder, done


@pytest.fixture(scope="module")
def service(demo: Ended) -> Iterator[Service]:
    """A new service on what the demo left behind."""
    with served(demo[0]) as served_again:
        yield served_again


def values(service: Service, run: str, tag: str) -> list[float]:
    """A curve's values in the order of their steps."""
    curve = service.points(run, tag)
    assert curve is not None
    return [float(value) for value in curve.points.value]


def steps(service: Service, run: str, tag: str) -> list[int]:
    """A curve's steps."""
    curve = service.points(run, tag)
    assert curve is not None
    return curve.points.step


def test_what_was_sent_is_stored_and_shown(demo: Ended) -> None:
    done = demo[1]
    assert done.returncode == 0, done.stderr
    row = re.compile(r"^digits/(\S+) +(\w+) +([\d,]+) +([\d,]+) +([\d,]+) +(\S)", re.MULTILINE)
    rows = row.findall(done.stdout)
    expected = [(name, counter) for name in CLASSIFIERS for counter in ("global_step", "epoch")]
    assert [found[:2] for found in rows] == [*expected, ("gan", "D_global_step"), ("gan", "G_global_step")]
    for _, _, sent, stored, shown, verdict in rows:
        assert sent == stored == shown != "0"
        assert verdict == "✓"


def test_the_classifiers_learn(service: Service) -> None:
    for name in CLASSIFIERS:
        losses = values(service, f"digits/{name}", "train/loss")
        assert sum(losses[-45:]) < 0.5 * sum(losses[:45])
        assert values(service, f"digits/{name}", "val/accuracy")[-1] > 0.9


def test_validation_counts_on_epochs(service: Service) -> None:
    assert steps(service, "digits/classifier-lr0.1", "val/loss") == list(range(1, 21))
    assert steps(service, "digits/classifier-lr0.1", "train/loss") == list(range(1, 901))


def test_the_discriminator_takes_three_steps_for_each_of_the_generator_s(service: Service) -> None:
    generator = steps(service, "digits/gan", "G/loss")
    assert steps(service, "digits/gan", "D/loss") == list(range(1, 3 * len(generator) + 1))


def test_the_generator_learns(service: Service) -> None:
    distances = values(service, "digits/gan", "G/frechet_distance")
    assert distances[-1] < 0.2 * distances[0]


def quick(run: RecordedRun) -> None:
    """A training of two reports."""
    step = run.counter("global_step")
    for value in (0.5, 0.25):
        step.increment()
        run.log({"loss": value})


def test_a_second_demo_takes_names_of_its_own(start_service: StartService) -> None:
    at = Service(start_service().url)
    names = [running.train(Training("quick", quick, {}), at)[0] for _ in range(2)]
    assert names == ["digits/quick", "digits/quick-2"]


def test_points_that_tensorboard_does_not_show_are_found_out(
    tmp_path: Path, start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "rounds", lambda: iter([[Training("quick", quick, {})]]))
    monkeypatch.setattr(compare, "CATCH_UP_TIMEOUT_S", 0.5)
    (tmp_path / "elsewhere").mkdir()
    (line,) = running.train_once_and_compare(Service(start_service().url), tmp_path / "elsewhere")
    assert (line.run, line.sent, line.stored, line.shown) == ("digits/quick", 2, 2, 0)
    assert line.difference == "loss at step 1: sent 0.5, TensorBoard None"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_endless_demo_ends_with_its_service(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port("127.0.0.1")
    command = [*TALLYBOARD, "demo", "--port", str(port), "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean({}), cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        said = iter(process.stdout.readline, "")
        assert any("run digits/classifier-lr0.02" in line for line in said)
        time.sleep(0.3)  # in the midst of a training
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert rest.splitlines()[-1] == "stopped"
    assert "Traceback" not in rest
    with socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        ("digits_classifier.py", ("--epochs", "12", "--learning-rates", "0.1"), r"validation accuracy 0\.9\d\d"),
        ("digits_gan.py", ("--generator-steps", "200"), r"Fréchet distance \d+\.\d\d → [0-4]\.\d\d"),
        ("digits_wgan.py", ("--generator-steps", "200"), r"Wasserstein distance 0\.3\d\d → 0\.0\d\d"),
        ("digits_schedule.py", ("--epochs", "8"), r"averaged weights 0\.9\d\d"),
    ],
)
def test_the_examples_run_on_their_own(
    tmp_path: Path, start_service: StartService, script: str, options: tuple[str, ...], said: str
) -> None:
    environment = clean({"TALLYBOARD_URL": start_service().url, "TALLYBOARD_STRICT": "1"})
    command = [sys.executable, str(ROOT / "client/examples" / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(said, done.stdout)
    assert " 0 refused, 0 dropped" in done.stderr

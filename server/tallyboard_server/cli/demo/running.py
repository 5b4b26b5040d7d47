"""The demo's two halves: a service in a process of its own, and trainings that report to it."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import tallyboard
from tallyboard_server.cli.demo.compare import Curve, Line, compare, read_until_equal
from tallyboard_server.cli.demo.process import StartError, child, free_port
from tallyboard_server.cli.demo.recorder import Points, RecordedRun
from tallyboard_server.cli.demo.tensorboard import tensorboard
from tallyboard_server.cli.demo.trainings import Training, rounds
from tallyboard_server.cli.http import Service, service_from

HOST: Final = "127.0.0.1"
_PROJECT: Final = "digits"
_FINISH_TIMEOUT_S: Final = 30.0


@contextmanager
def service(port: int, data_dir: Path, settings: Mapping[str, str] | None = None) -> Iterator[Service]:
    """Run `tallyboard serve` on the port, or another if it is in use, until the block ends. Raises StartError.

    settings: variables that it gets besides ours.
    """
    port = free_port(HOST, port)
    command = serve_command(port, data_dir)
    running = service_from(url=f"http://{HOST}:{port}")
    try:
        with child(command, running.is_alive, environment={**os.environ, **(settings or {})}):
            yield running
    except StartError as error:
        raise StartError(f"the service: {error}") from error


def serve_command(port: int, data_dir: Path) -> list[str]:
    """The service as a command line."""
    command = [sys.executable, "-m", "tallyboard_server.cli", "serve", "--host", HOST, "--port", str(port)]
    return [*command, "--data-dir", str(data_dir), "--logdir", str(logdir_of(data_dir))]


def logdir_of(data_dir: Path) -> Path:
    """Where the demo's event files go."""
    return data_dir / "logdir"


def train(training: Training, at: Service, pause_s: float = 0.0) -> tuple[str, RecordedRun]:
    """Carry out one training with a run of its own. Returns the run's name and the record of what was sent."""
    run = tallyboard.init(
        training.name,
        project=_PROJECT,
        config=dict(training.config),
        counters=dict(training.counters),
        mode="online",
        url=at.url,
        strict=True,
        exit_timeout_s=_FINISH_TIMEOUT_S,
    )
    recorded = RecordedRun(run, training.counters, pause_s)
    try:
        training.train(recorded)
    finally:
        run.finish()
    return run.name, recorded


def train_for_ever(at: Service, pause_s: float) -> Iterator[str]:
    """Round after round of trainings; yields the name of each run that ended."""
    for trainings in rounds():
        for training in trainings:
            yield train(training, at, pause_s)[0]


def train_once_and_compare(at: Service, logdir: Path) -> list[Line]:
    """One round of trainings; then what was sent beside what is stored and what a real TensorBoard shows."""
    sent: dict[Curve, Points] = {}
    for training in next(rounds()):
        name, recorded = train(training, at)
        sent |= {(name, counter, tag): points for (counter, tag), points in recorded.sent.points.items()}
    stored = {curve: _stored(at, curve) for curve in sent}
    with tensorboard(logdir) as board:
        shown = read_until_equal(sent, lambda curve: board.scalars(curve[0], curve[2]))
    return compare(sent, stored, shown)


def _stored(at: Service, curve: Curve) -> Points:
    run, counter, tag = curve
    found = at.points(run, tag)
    if found is None or found.counter != counter:
        return {}
    return {step: float(value) for step, value in zip(found.points.step, found.points.value, strict=True)}

"""A real store and writer with an exporter engine whose clock stands still, and what both sides hold, to compare."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from tallyboard.wire import Batch, Columns, Open, Receipt, Rewind
from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.eventfiles.files.exporter import file_engine
from tallyboard_server.eventfiles.files.storage import DiskFiles, FileTools
from tallyboard_server.eventfiles.layout import LogDirectory, is_event_file
from tallyboard_server.eventfiles.reader import EventFile, read_event_file
from tallyboard_server.eventfiles.tools import ExportSettings
from tallyboard_server.ingest import Append, Delete, Ingest
from tallyboard_server.series import read_points
from tallyboard_server.store.protocol import Generation, Record
from tallyboard_server.store.sqlite import SqliteStore
from tests.stores import SQLITE, Stores

Curve = list[tuple[int, float]]
"""(step, value as float32) in order."""


def columns(
    steps: Sequence[int],
    values: Mapping[str, Sequence[float]],
    *,
    counter: str = "global_step",
    block: int = 0,
    wall_time: float = 1.7e9,
) -> Columns:
    """Reports of one counter as a batch carries them; wall times tell the rows apart."""
    n = len(steps)
    return Columns(
        counter,
        tuple(values),
        np.array(steps, np.int64),
        wall_time + np.arange(n) / 8,
        np.stack([np.array(values[tag], np.float64) for tag in values], axis=1).reshape(n, len(values)),
        block=block,
    )


@dataclass
class Clock:
    """Seconds that pass when the test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Service:
    """A store and its writer in a directory; `engine()` adds an exporter without a thread."""

    directory: Path
    settings: ExportSettings = field(default_factory=lambda: ExportSettings(grace_s=30.0))
    clock: Clock = field(default_factory=Clock)
    wall: Clock = field(default_factory=lambda: Clock(1.75e9))
    stores: Stores = SQLITE

    def __post_init__(self) -> None:
        self.logdir = self.directory / "logdir"
        self.logdir.mkdir(parents=True, exist_ok=True)
        self.store = self.stores.open(self.directory / "data")
        self.ingest = Ingest(self.store)
        self.ingest.start()
        self._seq: dict[tuple[str, str], int] = {}

    @property
    def sqlite(self) -> SqliteStore:
        """The store, for tests that damage what is in it."""
        assert isinstance(self.store, SqliteStore)
        return self.store

    def close(self) -> None:
        """Stop writer and store."""
        self.ingest.close()
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def batch(self, run: str, producer: str | None = None, *, explicit: bool = False, **parts: Any) -> Receipt:
        """Send one batch and return its receipt; a producer's batches are numbered by themselves."""
        seq = None
        if producer is not None:
            seq = self._seq.get((run, producer), 0) + 1
        batch = Batch(producer=producer, seq=seq, partial=True, checksum=seq or 0, **parts)
        receipt = self.ingest.submit_blocking(Append(run, batch, explicit=explicit)).receipt
        if producer is not None and seq is not None:
            self._seq[run, producer] = seq
        return receipt

    def report(
        self,
        run: str,
        steps: Sequence[int],
        values: Mapping[str, Sequence[float]],
        *,
        counter: str = "global_step",
        producer: str | None = None,
    ) -> Receipt:
        """Report a few rows."""
        return self.batch(run, producer, columns=(columns(steps, values, counter=counter),))

    def rewind(self, run: str, producer: str | None = None, **next_steps: int) -> Receipt:
        """Go back."""
        return self.batch(run, producer, rewind=Rewind(next_steps=next_steps))

    def hand_over(self, run: str, producer: str) -> Receipt:
        """Resume without a rewind."""
        return self.batch(run, producer, open=Open(resume="continue"))

    def delete(self, run: str) -> None:
        """Delete a run."""
        self.ingest.submit_blocking(Delete(run))

    def engine(self, *, disk: Disk | None = None, record: Record | None = None) -> Engine[DiskFiles]:
        """An exporter at its beginning, as after a start of the process."""
        tools = FileTools(
            self.store,
            record or self.ingest.record,
            self.settings,
            self.clock,
            self.wall,
            LogDirectory(self.logdir),
            disk or Disk(),
            host="host",
        )
        return file_engine(tools)

    def pass_time(self, seconds: float) -> None:
        """Let both clocks run."""
        self.clock.now += seconds
        self.wall.now += seconds

    def generations(self, run: str) -> list[Generation]:
        """What is recorded of a run's files."""
        with self.store.snapshot() as view:
            state = view.load(run)
            assert state is not None
            return view.generations(state.id)

    def shown(self, run: str) -> dict[str, Curve]:
        """What the store shows of a run, tag by tag, as float32."""
        with self.store.snapshot() as view:
            state = view.load(run)
            assert state is not None
            points = {tag: read_points(view, state, tag) for tag in state.tags}
        return {
            tag: list(zip(p.steps.tolist(), _float32(p.values), strict=True))
            for tag, p in points.items()
            if p is not None and len(p.steps)
        }

    def event_files(self, run: str) -> list[Path]:
        """A run's event files, oldest first."""
        directory = self.logdir / run
        if not directory.is_dir():
            return []
        return sorted(path for path in directory.iterdir() if is_event_file(path.name))

    def live_file(self, run: str) -> EventFile:
        """The newest event file, read back and found whole."""
        found = read_event_file(self.event_files(run)[-1])
        assert found.damage is None, found.damage
        return found


def settle(engine: Engine[Any], turns_max: int = 200) -> None:
    """Take turns until everything committed is exported and synced."""
    engine.begin_sweep()
    for _ in range(turns_max):
        engine.turn(force=True)
        stats = engine.stats()
        if not (engine.sweeping or stats["export_runs_behind"] or stats["export_unsynced_files"]):
            return
    raise AssertionError(f"not settled after {turns_max} turns: {engine.stats()}")


def curves(file: EventFile) -> dict[str, Curve]:
    """The points of an event file, tag by tag, in file order."""
    found: dict[str, Curve] = {}
    for point in file.points:
        found.setdefault(point.tag, []).append((point.step, point.value))
    return found


def until(condition: Callable[[], bool], engine: Engine[Any], turns_max: int = 200) -> None:
    """Take turns until a condition holds."""
    for _ in range(turns_max):
        if condition():
            return
        engine.turn()
    raise AssertionError("the condition never came to hold")


def same(one: Mapping[str, Curve], other: Mapping[str, Curve]) -> bool:
    """Whether two sets of curves are equal, NaN being equal to itself."""
    return repr(dict(sorted(one.items()))) == repr(dict(sorted(other.items())))


def _float32(values: Any) -> list[float]:
    with np.errstate(all="ignore"):
        return [float(v) for v in np.asarray(values).astype(np.float32)]

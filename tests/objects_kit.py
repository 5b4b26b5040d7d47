"""A store whose event files are objects, in a memory that fails or ends the process at any call; and their readers."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fsspec.implementations.memory import MemoryFileSystem
from tensorboard.backend.event_processing.directory_watcher import DirectoryDeletedError
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from tallyboard_server.eventfiles.engine import Engine
from tallyboard_server.eventfiles.objects.bucket import Bucket
from tallyboard_server.eventfiles.objects.exporter import object_engine
from tallyboard_server.eventfiles.objects.keys import run_key
from tallyboard_server.eventfiles.objects.runobjects import RunObjects
from tallyboard_server.eventfiles.objects.segments import SEGMENT_BYTES
from tallyboard_server.eventfiles.objects.storage import ObjectStorage
from tallyboard_server.eventfiles.tools import Tools
from tallyboard_server.objecturl import ObjectUrl
from tallyboard_server.shares import EVERYTHING, Shares
from tallyboard_server.store.protocol import Record
from tests.eventfiles_kit import Curve, Service

_numbers = itertools.count()


class Crash(BaseException):
    """The process ends here."""


@dataclass
class Fuse:
    """Counts calls (only: those of that kind), and lets one of them, by number, raise: before or after it took
    effect."""

    at: int | None = None
    after: bool = False
    error: Callable[[], BaseException] = Crash
    only: str | None = None
    log: list[str] = field(default_factory=list)

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        counts = self.only in (None, what)
        if counts:
            self.log.append(what)
        hit = counts and len(self.log) == self.at
        if hit and not self.after:
            raise self.error()
        yield
        if hit:
            raise self.error()


class FusedMemory(MemoryFileSystem):  # type: ignore[misc]
    """fsspec's memory behind a fuse."""

    cachable = False

    def __init__(self, fuse: Fuse | None = None) -> None:
        super().__init__()
        self.fuse = fuse or Fuse()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        with self.fuse.around("put"):
            super().pipe_file(path, value, mode, **kwargs)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode == "rb" or "data" in kwargs:
            return super()._open(path, mode, **kwargs)
        with self.fuse.around("upload"):
            return super()._open(path, mode, **kwargs)

    def rm_file(self, path: str) -> None:
        with self.fuse.around("remove"):
            super().rm_file(path)

    def info(self, path: str, **kwargs: Any) -> Any:
        with self.fuse.around("look"):
            return super().info(path, **kwargs)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        with self.fuse.around("list"):
            return super().ls(path, detail, **kwargs)


class ObjectService(Service):
    """A Service whose `objects()` adds an exporter to a memory of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.url = ObjectUrl(f"memory://bucket{next(_numbers)}/logs")

    def objects(
        self,
        filesystem: Any = None,
        *,
        record: Record | None = None,
        shares: Shares = EVERYTHING,
        segment_bytes: float = SEGMENT_BYTES,
    ) -> Engine[RunObjects]:
        """An exporter at its beginning, as after a start of the process."""
        tools = Tools(
            self.store, record or self.ingest.record, self.settings, self.clock, self.wall, host="host", shares=shares
        )
        bucket = Bucket(self.url, filesystem or FusedMemory(), clock=self.clock)
        return object_engine(tools, ObjectStorage(tools, bucket), bucket, segment_bytes=segment_bytes)

    def directory_of(self, run: str) -> str:
        """What TensorBoard calls the run's directory."""
        return f"{self.url}/{run_key(run)}"

    def names(self, run: str) -> list[str]:
        """The names of a run's objects, in the order in which they are read."""
        return sorted(path.rpartition("/")[2] for path in self.stored() if f"/{run_key(run)}/events" in path)

    def stored(self) -> dict[str, bytes]:
        """Every object below the URL."""
        root = str(self.url).removeprefix("memory:/")
        return {path: file.getvalue() for path, file in MemoryFileSystem.store.items() if path.startswith(root + "/")}


class Reader:
    """TensorBoard's Python reader on one run; `reload` sees what came since."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._accumulator = self._new()

    def reload(self) -> dict[str, Curve]:
        """What it shows now."""
        try:
            self._accumulator.Reload()
        except DirectoryDeletedError:  # the multiplexer drops it, and finds it anew when it comes back
            self._accumulator = self._new()
        tags = self._accumulator.Tags()["tensors"]
        curves = {
            tag: [(e.step, float(e.tensor_proto.float_val[0])) for e in self._accumulator.Tensors(tag)] for tag in tags
        }
        return {tag: curve for tag, curve in curves.items() if curve}

    def _new(self) -> Any:
        return EventAccumulator(self._directory, size_guidance={"tensors": 0})


def settle_objects(engine: Engine[RunObjects], turns_max: int = 200) -> None:
    """Take turns until everything committed is published."""
    engine.begin_sweep()
    for _ in range(turns_max):
        engine.turn(force=True)
        if not (engine.sweeping or engine.stats()["export_runs_behind"]):
            return
    raise AssertionError(f"not settled after {turns_max} turns: {engine.stats()}")

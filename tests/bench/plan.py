"""What the rows share: sizes, the baseline found in this very run, and a place on the disk."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.sizes import GIB, Sizes


class NoRoomError(Exception):
    """The disk has too little room for a benchmark of this size."""


@dataclass(slots=True)
class Bench:
    """One benchmark. baseline: scalars a second, baseline_call_s: seconds of one add_scalar call; 0 if not measured."""

    sizes: Sizes
    folder: Path
    baseline: float = 0.0
    baseline_call_s: float = 0.0

    def ratio(self, rate: float) -> float | None:
        """How many times as fast as the baseline; None if that was not measured."""
        return rate / self.baseline if self.baseline else None

    def new_folder(self) -> Path:
        """An empty folder, removed with the benchmark's own at the latest."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    @contextmanager
    def data_folder(self) -> Iterator[Path]:
        """An empty folder for the data of one row, removed at its end: rows write gigabytes."""
        folder = self.new_folder()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def prepared(sizes: Sizes, directory: Path) -> Iterator[Bench]:
    """A benchmark with a new folder below `directory`, which is removed at the end. Raises NoRoomError."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < sizes.free_bytes_min:
        raise NoRoomError(
            f"{directory} has {free / GIB:.1f} GiB free, and a {sizes.name} benchmark may take "
            f"{sizes.free_bytes_min / GIB:.0f}; make room, give another --dir, or say --quick"
        )
    folder = Path(tempfile.mkdtemp(prefix="running-", dir=directory))
    try:
        yield Bench(sizes, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

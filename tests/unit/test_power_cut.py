"""The power goes: of what was not synced, anything may be gone. Everything acknowledged must be there after it.

A kill proves less: what a process has written outlives it in the system's cache. So here the files are put back to
what was synced, with any part of the later writes, as a disk without power leaves them.
"""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tallyboard_server.eventfiles.files.disk import Disk
from tallyboard_server.store.sqlite import SqliteStore
from tests.eventfiles_kit import Service, settle
from tests.verify_kit import merge, verify

RUN = "digits/try1"
SECTOR = 512


class Media:
    """What a disk holds for sure (as of each file's last sync), and what was written to it since."""

    def __init__(self) -> None:
        self.synced: dict[str, bytes] = {}
        self.since: dict[str, list[tuple[int, bytes]]] = {}

    def write(self, path: str, data: bytes, offset: int) -> None:
        """Written, but not synced."""
        self.since.setdefault(path, []).append((offset, data))

    def sync(self, path: str) -> None:
        """What the file holds now is safe."""
        self.synced[path] = Path(path).read_bytes()
        self.since.pop(path, None)

    def after_a_power_cut(self, source: Path, target: Path, dice: random.Random) -> None:
        """A copy of `source` as it may be found: each sector written since the last sync is there or not."""
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("*-shm", "*.lock"))
        for path in target.rglob("*"):
            old = str(source / path.relative_to(target))
            if path.is_file():
                content = bytearray(self.synced.get(old, b""))
                for offset, data in self.since.get(old, ()):
                    for at in range(0, len(data), SECTOR):
                        if dice.random() < 0.5:
                            piece = data[at : at + SECTOR]
                            content.extend(bytes(max(0, offset + at + len(piece) - len(content))))
                            content[offset + at : offset + at + len(piece)] = piece
                path.write_bytes(content)


class WatchedFile(apsw.VFSFile):
    """A file of SQLite's whose writes and syncs are told to the media."""

    def __init__(self, base: str, name: Any, flags: list[int], media: Media) -> None:
        super().__init__(base, name, flags)
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._media = media

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        super().xWrite(data, offset)
        if self._path is not None:
            self._media.write(self._path, bytes(data), offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        if self._path is not None:
            self._media.sync(self._path)


class WatchedVfs(apsw.VFS):
    """SQLite's way to the disk, watched."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._base = apsw.vfs_names()[0]
        super().__init__("watched", self._base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> WatchedFile:  # noqa: N802
        return WatchedFile(self._base, name, flags, self._media)


@pytest.fixture
def media() -> Iterator[Media]:
    media = Media()
    vfs = WatchedVfs(media)
    yield media
    vfs.unregister()


class WatchedDisk(Disk):
    """The exporter's way to the disk, watched."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._paths: dict[int, Path] = {}

    def create(self, path: Path) -> int:
        fd = super().create(path)
        self._paths[fd] = path
        return fd

    def open(self, path: Path) -> int:
        fd = super().open(path)
        self._paths[fd] = path
        return fd

    def write(self, fd: int, data: bytes, offset: int) -> None:
        super().write(fd, data, offset)
        self._media.write(str(self._paths[fd]), bytes(data), offset)

    def sync(self, fd: int) -> None:
        super().sync(fd)
        self._media.sync(str(self._paths[fd]))

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self._media.synced[str(new)] = self._media.synced.pop(str(old), b"")
        self._media.since[str(new)] = self._media.since.pop(str(old), [])


HISTORY: list[Callable[[Service], object]] = [
    *(
        lambda s, i=i: s.report(RUN, [4 * i, 4 * i + 2], {"loss": [i / 3, i / 7], "acc": [i, i]}, producer="a")
        for i in range(12)
    ),
    lambda s: s.rewind(RUN, "b", global_step=20),
    *(lambda s, i=i: s.report(RUN, [20 + i], {"loss": [i / 9]}, producer="b") for i in range(8)),
]


@pytest.mark.parametrize("seed", range(6))
def test_everything_acknowledged_outlives_a_power_cut(tmp_path: Path, media: Media, seed: int) -> None:
    dice = random.Random(seed)
    with Service(tmp_path / "before") as service:
        disk = WatchedDisk(media)
        engine = service.engine(disk=disk)
        cuts = sorted(dice.sample(range(1, len(HISTORY)), 5))
        for index, action in enumerate(HISTORY):
            action(service)
            if dice.random() < 0.5:
                engine.notify([1])
                service.pass_time(dice.choice([1.5, 6.0]))
                engine.turn()
            if dice.random() < 0.2:
                settle(engine)
                merge(service, RUN)
            if dice.random() < 0.2:
                service.ingest.record(lambda _: checkpoint(service.sqlite))
            if index in cuts:
                expected = service.shown(RUN)
                after = tmp_path / f"after{index}"
                media.after_a_power_cut(tmp_path / "before", after, dice)
                check(after, expected)
        engine.close()


def checkpoint(store: SqliteStore) -> None:
    """Nothing can be checkpointed within a transaction: have it done after this one."""
    store._checkpoint_bytes = 0


def check(directory: Path, expected: object) -> None:
    """The store shows what was acknowledged, and its event files come to show the same."""
    with Service(directory) as service:
        assert service.shown(RUN) == expected
        report = verify(service, RUN)
        assert {d.kind for d in report.differences} <= {"event_file"}
        engine = service.engine()
        settle(engine)
        engine.close()
        again = verify(service, RUN)
        assert again.ok, again.differences


def test_a_store_that_does_not_sync_would_be_found_out(tmp_path: Path, media: Media) -> None:
    with Service(tmp_path / "before") as service:
        service.report(RUN, [0], {"loss": [1.0]})
        service.ingest.record(lambda _: None)
        service.sqlite._writer.execute("PRAGMA synchronous=OFF")
        for step in range(1, 30):
            service.report(RUN, [step], {"loss": [1.0]})
        media.after_a_power_cut(tmp_path / "before", tmp_path / "after", random.Random(1))
        expected = service.shown(RUN)
    with Service(tmp_path / "after") as service:
        assert service.shown(RUN) != expected

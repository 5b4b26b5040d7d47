"""One prefix in an object storage, through fsspec: the seam between event files and whatever keeps them."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from tallyboard_server import durable
from tallyboard_server.eventfiles.objects.faults import Breaker, ExtraMissingError, ObjectStorageError
from tallyboard_server.eventfiles.troubles import raised_by
from tallyboard_server.objecturl import ObjectUrl

TIMEOUT_S: Final = 20.0
AT_ONCE: Final = 16
"""Requests at the same time: at 50 ms each, some 300 runs a second."""
PART_BYTES: Final = 6 * 1024 * 1024
"""Of a large object: what is held of it while it is uploaded."""
_CONNECT_TIMEOUT_S: Final = 5.0
_TRIES: Final = 2
_MISSING: Final = "event files at {url} need {what}: pip install 'tallyboard[server,object-store]'"
_PACKAGES: Final = {"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"}


class Upload:
    """A new object that appears when it is finished (in a local directory: as it grows)."""

    def __init__(self, bucket: "Bucket", key: str) -> None:
        self._bucket = bucket
        self._key = key
        self._file: Any = None

    def write(self, data: bytes) -> None:
        """See Sink.write."""
        with self._bucket.breaker.calling(f"writing {self._key}"):
            if self._file is None:
                self._file = self._bucket.open_new(self._key)
            self._file.write(data)

    def finish(self) -> None:
        """See Sink.finish."""
        with self._bucket.breaker.calling(f"completing {self._key}"):
            self._file.close()
            self._file = None
            self._bucket.keep(self._key)

    def discard(self) -> None:
        """See Sink.discard. fsspec's files upload what they hold when they are collected, unless they are closed."""
        file, self._file = self._file, None
        if file is None:
            return
        with suppress(Exception):
            if hasattr(file, "discard"):
                file.discard()
        with suppress(Exception):
            if hasattr(file, "buffer"):
                file.closed = True
            else:
                file.close()


class Bucket:
    """The objects below one URL. Keys are relative to it. Any thread; every call has an end.

    What fails raises ObjectStorageError, which says what was done to what.
    """

    def __init__(
        self,
        url: ObjectUrl,
        filesystem: Any = None,
        *,
        timeout_s: float = TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """filesystem: an fsspec file system; absent: the one of the URL. Nothing is asked of it yet.

        timeout_s: how long a request may take to be answered. Raises ExtraMissingError, or ValueError.
        """
        self.url = url
        self._timeout_s = timeout_s
        self._fs = filesystem if filesystem is not None else _filesystem(url, timeout_s)
        self.root = str(self._fs._strip_protocol(str(url))).rstrip("/")
        self._limits = {"timeout": _TRIES * (timeout_s + _connect_timeout_s(timeout_s))} if self._is_async else {}
        self._pool: ThreadPoolExecutor | None = None
        self.breaker = Breaker(clock)
        self.requests_total = 0

    def shown(self, key: str) -> str:
        """An object's URL."""
        return f"{self.url}/{key}"

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whole or not at all (in a local directory: in place); the same again does no harm."""
        with self.breaker.calling(f"writing {key}"):
            self.requests_total += 1
            path = self._path(key)
            self._make_parent(path)
            self._fs.pipe_file(path, data, **self._limits)
            self.keep(key)

    def open_new(self, key: str) -> Any:
        """A file object of fsspec whose content becomes an object."""
        self.requests_total += 1
        path = self._path(key)
        self._make_parent(path)
        file = self._fs.open(path, "wb", block_size=PART_BYTES)
        if hasattr(file, "_call_s3"):  # s3fs sets no limit here, and botocore's do not hold until "100 Continue" came
            file._call_s3 = partial(file._call_s3, **self._limits)
        return file

    def keep(self, key: str) -> None:
        """Have what was written to a local directory survive a power failure; elsewhere it does."""
        if self._is_local:
            durable.sync_file(Path(self._path(key)))

    def size(self, key: str) -> int | None:
        """The bytes of an object; None if there is none."""
        with suppress(FileNotFoundError), self.breaker.calling(f"looking at {key}", may_miss=True):
            self.requests_total += 1
            return int(self._fs.info(self._path(key), **self._limits)["size"])
        return None

    def sizes(self, key: str) -> dict[str, int]:
        """The objects directly below a key: their last names and bytes."""
        with suppress(FileNotFoundError), self.breaker.calling(f"listing {key}", may_miss=True):
            self.requests_total += 1
            listed = self._fs.ls(self._path(key), detail=True, **({"refresh": True} | self._limits))
            return {entry["name"].rpartition("/")[2]: int(entry["size"]) for entry in listed if entry["type"] == "file"}
        return {}

    def open(self, key: str) -> BinaryIO:
        """An object for reading, from the first byte on. FileNotFoundError if there is none."""
        with self.breaker.calling(f"reading {key}", may_miss=True):
            self.requests_total += 1
            return cast(BinaryIO, self._fs.open(self._path(key), "rb", block_size=PART_BYTES // 2))

    def remove(self, key: str) -> None:
        """Remove an object; none being there is fine."""
        with suppress(FileNotFoundError), self.breaker.calling(f"removing {key}", may_miss=True):
            self.requests_total += 1
            self._fs.rm_file(self._path(key), **self._limits)

    def remove_empty(self, key: str) -> None:
        """Remove directories that nothing is in any more, where there are such things."""
        while self._is_local and key:
            try:
                self._fs.rmdir(self._path(key))
            except OSError:  # not empty, or gone
                return
            key = key.rpartition("/")[0]

    def each(self, calls: Sequence[Callable[[], None]]) -> list[BaseException | None]:
        """Do them all, some at the same time; what each raised."""
        if len(calls) <= 1:
            return [raised_by(call) for call in calls]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tallyboard-objects")
        return list(self._pool.map(raised_by, calls))

    def close(self) -> None:
        """Let go of the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    def _make_parent(self, path: str) -> None:
        if not self._is_async:
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)

    @property
    def _is_async(self) -> bool:
        return bool(getattr(self._fs, "async_impl", False))

    @property
    def _is_local(self) -> bool:
        return "file" in _protocols(self._fs)


def _filesystem(url: ObjectUrl, timeout_s: float) -> Any:
    try:
        import fsspec
    except ImportError as error:
        raise ExtraMissingError(_MISSING.format(url=url, what="fsspec")) from error
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if url.scheme in {"s3", "s3a"}:
        retries = {"total_max_attempts": _TRIES, "mode": "standard"}
        options["config_kwargs"] = {
            "connect_timeout": _connect_timeout_s(timeout_s), "read_timeout": timeout_s, "retries": retries,
            "max_pool_connections": 2 * AT_ONCE,
        }  # fmt: skip
    try:
        found = fsspec.filesystem(url.scheme, **options)
    except ImportError as error:
        what = _PACKAGES.get(url.scheme, "s3fs" if url.scheme.startswith("s3") else str(error))
        raise ExtraMissingError(_MISSING.format(url=url, what=what)) from error
    except ValueError as error:
        raise ValueError(f"{url}: {error}") from error
    if hasattr(found, "retries"):
        found.retries = _TRIES
    return found


def _connect_timeout_s(timeout_s: float) -> float:
    return min(_CONNECT_TIMEOUT_S, timeout_s)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    named = filesystem.protocol
    return (named,) if isinstance(named, str) else tuple(named)


__all__ = ["AT_ONCE", "PART_BYTES", "TIMEOUT_S", "Bucket", "ExtraMissingError", "ObjectStorageError", "Upload"]

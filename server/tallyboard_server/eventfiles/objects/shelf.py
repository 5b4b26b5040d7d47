"""Reads generations back from an object storage: their segments one after the other, as if they were one file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import RawIOBase
from typing import BinaryIO, cast

from tallyboard_server.eventfiles.layout import is_event_file
from tallyboard_server.eventfiles.objects.bucket import Bucket
from tallyboard_server.eventfiles.objects.keys import generation_of, run_key, segment_name
from tallyboard_server.eventfiles.objects.segments import segment_header
from tallyboard_server.store.protocol import Generation, Store


class ObjectShelf:
    """The Shelf of a logdir that is an object storage."""

    def __init__(self, bucket: Bucket, store: Store) -> None:
        self._bucket = bucket
        self._store = store

    def where(self, run: str, file: str) -> str:
        """See Shelf.where."""
        return self._bucket.shown(f"{run_key(run)}/{file}")

    @contextmanager
    def open(self, run: str, generation: Generation) -> Iterator[tuple[BinaryIO, int]]:
        """See Shelf.open: what is published, up to the generation's exported_pos."""
        with self._store.snapshot() as view:
            recorded = view.segments(generation.run_id, generation.number)
        numbers = [s.number for s in recorded if s.published and s.last_pos <= generation.exported_pos]
        keys = [f"{run_key(run)}/{segment_name(generation.file_name, number)}" for number in numbers]
        with opened(self._bucket, keys, segment_header(generation)) as found:
            yield found

    def event_files(self, run: str) -> dict[str, str]:
        """See Shelf.event_files."""
        return {name: generation_of(name) for name in sorted(self._bucket.sizes(run_key(run))) if is_event_file(name)}


@contextmanager
def opened(bucket: Bucket, keys: Sequence[str], header: bytes) -> Iterator[tuple[BinaryIO, int]]:
    """Objects one after the other, without the header that each but the first begins with; and their bytes.

    FileNotFoundError if one is missing; OSError if one begins with another header.
    """
    if not keys:
        raise FileNotFoundError("no object of it is published")
    sizes = bucket.sizes(keys[0].rpartition("/")[0])
    length = -len(header) * (len(keys) - 1)
    for key in keys:
        size = sizes.get(key.rpartition("/")[2])
        if size is None:
            raise FileNotFoundError(f"{bucket.shown(key)} is missing")
        length += size
    stream = Joined(bucket, keys, header)
    try:
        yield cast(BinaryIO, stream), length
    finally:
        stream.close()


class Joined(RawIOBase):
    """Objects as one stream, for reading from its beginning; one of them is open at a time."""

    def __init__(self, bucket: Bucket, keys: Sequence[str], header: bytes) -> None:
        """Only those after the first are expected to begin with `header`, which is left out."""
        self._bucket = bucket
        self._keys = list(reversed(keys))
        self._header = header
        self._is_first = True
        self._open: BinaryIO | None = None

    def readable(self) -> bool:
        """As io has it."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """So many bytes; fewer only at the end."""
        parts: list[bytes] = []
        left = size if size >= 0 else 2**63
        while left:
            stream = self._open or self._next()
            if stream is None:
                break
            if not (part := stream.read(min(left, 2**24))):
                stream.close()
                self._open = None
                continue
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def close(self) -> None:
        """As io has it."""
        if self._open is not None:
            self._open.close()
            self._open = None
        super().close()

    def _next(self) -> BinaryIO | None:
        if not self._keys:
            return None
        key = self._keys.pop()
        self._open = stream = self._bucket.open(key)
        if not self._is_first and stream.read(len(self._header)) != self._header:
            raise OSError(f"{self._bucket.shown(key)} begins with another header than ours")
        self._is_first = False
        return stream

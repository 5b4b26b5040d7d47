"""Time series of tensors and blobs, read from the store within bounds of memory."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from threading import Lock
from typing import Any, Final

import numpy as np
from tensorboard import errors
from tensorboard.data import provider

from tallyboard.wire.limits import MIB
from tallyboard_server.model import RunState, Tag
from tallyboard_server.series.blobs import BlobPoints, read_blob_points, sample
from tallyboard_server.store.protocol import Snapshot, Store
from tallyboard_server.tensorboard.kinds import array_of

TENSOR_BYTES_MAX: Final = 64 * MIB
"""Of stored tensors in one answer; beyond it each time series comes in fewer points, of which the last is one."""
_LENGTHS_MAX: Final = 100_000
"""Lengths of blob sequences that are remembered, some 150 bytes each."""
_KEY: Final = re.compile(r"(\d{1,19})\.(\d{1,19})\.([0-9a-f]{16})\.(\d{1,9})")


class Lengths:
    """How many blobs the sequences in stored values have, each read from its value once. Any thread may call."""

    def __init__(self, count_max: int = _LENGTHS_MAX) -> None:
        self._lock = Lock()
        self._count_max = count_max
        self._known: OrderedDict[tuple[int, int, float], int] = OrderedDict()

    def of(self, view: Snapshot, state: RunState, tag: Tag, key: float) -> int:
        """The length of one value's sequence; 0 if the store does not have the value."""
        place = (state.id, tag.id, key)
        with self._lock:
            if (known := self._known.get(place)) is not None:
                self._known.move_to_end(place)
                return known
        array = read_array(view, state, tag, key)
        length = 0 if array is None else int(array.size)
        with self._lock:
            self._known[place] = length
            while len(self._known) > self._count_max:
                self._known.popitem(last=False)
        return length


class BlobReader:
    """Reads time series of one store."""

    def __init__(self, store: Store, prefix: Callable[[], str] = str) -> None:
        """prefix: what the names of the runs begin with whose blobs may be read just now by their keys."""
        self._store = store
        self._prefix = prefix
        self._lengths = Lengths()

    def length(self, run: str, tag: str) -> int:
        """The length of a tag's blob sequences: the larger one of its first and its last, which have to be read."""
        with self._store.snapshot() as view:
            if (found := _points(view, run, tag, 2)) is None:
                return 0
            state, known, points = found
            return max((self._lengths.of(view, state, known, key) for key in points.keys.tolist()), default=0)

    def sequences(self, run: str, tag: str, at_most: int) -> list[Any] | None:
        """A tag's BlobSequenceDatum, at most so many; None if it has none."""
        with self._store.snapshot() as view:
            if (found := _points(view, run, tag, at_most)) is None:
                return None
            state, known, points = found
            return [
                provider.BlobSequenceDatum(step, wall_time, tuple(
                    provider.BlobReference(blob_key(state.id, known.id, key, index))
                    for index in range(self._lengths.of(view, state, known, key))
                ))
                for step, wall_time, key in _rows(points)
            ]  # fmt: skip

    def tensors(self, run: str, tag: str, at_most: int, bytes_max: int) -> tuple[list[Any], int] | None:
        """A tag's TensorDatum, at most so many, and how many bytes they took; None if it has none."""
        with self._store.snapshot() as view:
            if (found := _points(view, run, tag, at_most)) is None:
                return None
            state, known, points = found
            rows = list(_rows(points))
            sizes = view.blob_sizes(state.id, points.keys.tolist())
            while len(rows) > 1 and sum(sizes.get(key, 0) for _, _, key in rows) > bytes_max:
                rows = [rows[index] for index in sample(len(rows), len(rows) // 2).tolist()]
            data = []
            for step, wall_time, key in rows:
                if (array := read_array(view, state, known, key)) is not None:
                    data.append(provider.TensorDatum(step, wall_time, array))
            return data, sum(sizes.get(key, 0) for _, _, key in rows)

    def blob(self, text: str) -> bytes:
        """The blob of a key that `blob_key` made. Raises TensorBoard's NotFoundError."""
        if (found := _KEY.fullmatch(text)) is not None:
            run_id, tag_id, index = int(found[1]), int(found[2]), int(found[4])
            with self._store.snapshot() as view:
                state = view.load_by_id(run_id)
                if state is not None and not state.name.startswith(self._prefix()):
                    state = None
                tag = None if state is None else next((t for t in state.tags.values() if t.id == tag_id), None)
                if state is not None and tag is not None and not tag.is_scalar:
                    array = read_array(view, state, tag, unpacked(found[3]))
                    if array is not None and index < array.size and array.dtype == np.object_:
                        return bytes(array.reshape(-1)[index])
        raise errors.NotFoundError(f"there is no blob {text[:100]!r} (any more)")


def blob_key(run_id: int, tag_id: int, key: float, index: int) -> str:
    """What names one blob of a sequence, in characters that need no escape in a URL."""
    return f"{run_id}.{tag_id}.{int(np.float64(key).view(np.uint64)):016x}.{index}"


def unpacked(word: str) -> float:
    """The key that blob_key wrote as 16 hexadecimal digits."""
    return float(np.uint64(int(word, 16)).view(np.float64))


def read_array(view: Snapshot, state: RunState, tag: Tag, key: float) -> Any:
    """The value that a key stands for, as an array; None if it is not there, which only damage can bring about."""
    found: Sequence[Any] = list(view.blobs(state.id, [key]).values())
    return array_of(tag, found[0]) if found else None


def _points(view: Snapshot, run: str, tag: str, at_most: int) -> tuple[RunState, Tag, BlobPoints] | None:
    state = view.load(run)
    points = None if state is None else read_blob_points(view, state, tag, at_most=at_most)
    return None if state is None or points is None else (state, state.tags[tag], points)


def _rows(points: BlobPoints) -> Iterator[tuple[int, float, float]]:
    return zip(points.steps.tolist(), points.wall_times.tolist(), points.keys.tolist(), strict=True)

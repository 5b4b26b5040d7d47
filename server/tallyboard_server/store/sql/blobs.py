"""Blobs as rows: the points of tags that are no scalars, each kept once in a run."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np

from tallyboard.wire import Blob
from tallyboard.wire.limits import MIB
from tallyboard_server.store.sql.connection import Connection

_KEYS_AT_ONCE: Final = 256
_PURGE_BYTES: Final = 8 * MIB
_PURGE_ROWS: Final = 256
_FIRST: Final = -(2**63)
"""Packed as this, a key would be zero, which none is."""


def pack_key(key: float) -> int:
    """A key's bits as a signed integer."""
    return int(np.float64(key).view(np.int64))


def unpack_key(word: int) -> float:
    """The key that pack_key packed."""
    return float(np.int64(word).view(np.float64))


def save_blobs(connection: Connection, run_id: int, blobs: Mapping[float, Blob]) -> None:
    """Write those that the run does not have yet."""
    connection.executemany(
        "INSERT INTO blobs (run_id, key, hash, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        ((run_id, pack_key(key), blob.hash, blob.data) for key, blob in blobs.items()),
    )


def read_hashes(connection: Connection, run_id: int, keys: Sequence[float]) -> dict[float, bytes]:
    """By key, the hashes of blobs that are there."""
    return {unpack_key(row[0]): bytes(row[1]) for row in _read(connection, "key, hash", run_id, keys)}


def read_sizes(connection: Connection, run_id: int, keys: Sequence[float]) -> dict[float, int]:
    """By key, the bytes of blobs that are there."""
    return {unpack_key(row[0]): row[1] for row in _read(connection, "key, length(data)", run_id, keys)}


def read_blobs(connection: Connection, run_id: int, keys: Sequence[float]) -> dict[float, Blob]:
    """By key, blobs that are there."""
    return {
        unpack_key(row[0]): Blob(bytes(row[1]), bytes(row[2]))
        for row in _read(connection, "key, data, hash", run_id, keys)
    }


def read_page(connection: Connection, run_id: int, *, after: float | None, bytes_max: int) -> dict[float, Blob]:
    """Blobs in the order of their packed keys, from behind one on: at least one, then up to bytes_max."""
    found: dict[float, Blob] = {}
    size = 0
    word = _FIRST if after is None else pack_key(after)
    rows = connection.stream(
        "SELECT key, data, hash FROM blobs WHERE run_id = ? AND key > ? ORDER BY key", (run_id, word)
    )
    for key, data, digest in rows:
        if found and size + len(data) > bytes_max:
            break
        found[unpack_key(key)] = Blob(data, digest)
        size += len(data)
    return found


def read_size_page(connection: Connection, run_id: int, *, after: float | None, limit: int) -> dict[float, int]:
    """By key, the bytes of blobs in the order of their packed keys, from behind one on."""
    rows = connection.execute(
        "SELECT key, length(data) FROM blobs WHERE run_id = ? AND key > ? ORDER BY key LIMIT ?",
        (run_id, _FIRST if after is None else pack_key(after), limit),
    )
    return {unpack_key(key): size for key, size in rows}


def drop_blobs(connection: Connection, run_id: int, keys: Sequence[float]) -> None:
    """Delete blobs by their keys."""
    connection.executemany("DELETE FROM blobs WHERE run_id = ? AND key = ?", ((run_id, pack_key(key)) for key in keys))


def purge_blobs(connection: Connection, run_id: int) -> bool:
    """Delete a slice of a run's blobs, bounded in rows and bytes; False if there is none."""
    size = 0
    taken: list[tuple[int, int]] = []
    rows = connection.execute(
        "SELECT key, length(data) FROM blobs WHERE run_id = ? ORDER BY key LIMIT ?", (run_id, _PURGE_ROWS)
    )
    for key, length in rows.fetchall():
        if taken and size + length > _PURGE_BYTES:
            break
        taken.append((run_id, key))
        size += length
    connection.executemany("DELETE FROM blobs WHERE run_id = ? AND key = ?", taken)
    return bool(taken)


def _read(connection: Connection, columns: str, run_id: int, keys: Sequence[float]) -> Iterator[tuple[int, ...]]:
    words = iter(dict.fromkeys(pack_key(key) for key in keys))
    while some := list(islice(words, _KEYS_AT_ONCE)):
        marks = ", ".join("?" * len(some))
        yield from connection.execute(
            f"SELECT {columns} FROM blobs WHERE run_id = ? AND key IN ({marks})",  # noqa: S608 - constants and marks
            (run_id, *some),
        )

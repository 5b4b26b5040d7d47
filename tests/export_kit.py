"""Exports as tests use them: made from a store, and read back from each format into the same rows."""

import csv
import io
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from pyarrow import parquet

from tallyboard_server.eventfiles import read_event_file
from tallyboard_server.export import FORMATS, Export, Wanted
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Store


class Row(NamedTuple):
    """One point of an export; bits: of its value."""

    counter: str
    attempt: int
    superseded: bool
    tag: str
    step: int
    wall_time: float
    bits: int


def bits_of(value: float) -> int:
    """The 64 bits of a float64, every NaN as the same one: text has one NaN only."""
    return int(struct.unpack("<q", struct.pack("<d", float("nan") if value != value else value))[0])


def export(store: Store, state: RunState, form: str, wanted: Wanted = Wanted()) -> bytes:  # noqa: B008 - frozen
    """A whole export."""
    return b"".join(Export(store, state, FORMATS[form], wanted).pieces())


def rows(form: str, data: bytes) -> list[Row]:
    """The points of an export in their order; attempt 0 where it is not told."""
    return list({"csv": _csv, "jsonl": _jsonl, "parquet": _parquet, "msgpack": _frames}[form](data))


def frames(data: bytes) -> list[Any]:
    """The maps of a MessagePack export."""
    found = []
    while data:
        assert data[0] == 0xC6
        size = int.from_bytes(data[1:5], "big")
        found.append(msgspec.msgpack.decode(data[5 : 5 + size]))
        data = data[5 + size :]
    return found


def event_points(data: bytes) -> list[tuple[str, int, float, float]]:
    """(tag, step, wall time, value) of an event file, which must be whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.out.tfevents.1.x"
        path.write_bytes(data)
        found = read_event_file(path)
    assert found.damage is None, found.damage
    return [(point.tag, point.step, point.wall_time, point.value) for point in found.points]


def _csv(data: bytes) -> Iterator[Row]:
    for line in csv.DictReader(io.StringIO(data.decode(), newline="")):
        yield Row(
            line["counter"],
            int(line.get("attempt") or 0),
            {"true": True, "false": False}[line.get("superseded") or "false"],
            line["tag"],
            int(line["step"]),
            float(line["wall_time"]),
            bits_of(float(line["value"])),
        )


def _jsonl(data: bytes) -> Iterator[Row]:
    for text in data.splitlines():
        line = msgspec.json.decode(text)
        yield Row(
            line["counter"], line.get("attempt", 0), line.get("superseded", False), line["tag"], line["step"],
            line["wall_time"], bits_of(float(line["value"])),
        )  # fmt: skip


def _parquet(data: bytes) -> Iterator[Row]:
    for line in parquet.read_table(io.BytesIO(data)).to_pylist():
        yield Row(
            line["counter"], line.get("attempt", 0), line.get("superseded", False), line["tag"], line["step"],
            line["wall_time"], bits_of(line["value"]),
        )  # fmt: skip


def _frames(data: bytes) -> Iterator[Row]:
    begin, *blocks, end = frames(data)
    assert begin["version"] == 1
    total = 0
    for block in blocks:
        steps, walls = np.frombuffer(block["steps"], "<i8"), np.frombuffer(block["wall_times"], "<f8")
        values = np.frombuffer(block["values"], "<f8").reshape(len(steps), len(block["tags"]))
        total += values.size
        for i, (step, wall_time) in enumerate(zip(steps.tolist(), walls.tolist(), strict=True)):
            for tag, value in zip(block["tags"], values[i].tolist(), strict=True):
                yield Row(block["counter"], block["attempt"], block["superseded"], tag, step, wall_time, bits_of(value))
    assert end == {"end": {"scalars": total}}

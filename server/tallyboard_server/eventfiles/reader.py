"""Reads event files back: for tests, checks and repair. Tolerates a torn tail, and says what is wrong and where."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from google.protobuf.message import DecodeError
from tensorboardX.proto import event_pb2

from tallyboard.wire.events import read_event
from tallyboard.wire.protos import MalformedError
from tallyboard.wire.summaries import blob_of, key_of_hash
from tallyboard_server.eventfiles.tfrecord import Damage, Record, read_records


class ScalarPoint(NamedTuple):
    """One value as it stands in an event file; `value` went through float32."""

    wall_time: float
    step: int
    tag: str
    value: float


class BlobPoint(NamedTuple):
    """One point that is no scalar as it stands in an event file, by the key of its blob (see wire.summaries)."""

    wall_time: float
    step: int
    tag: str
    key: float


class FileVersion(NamedTuple):
    """The opening record: `brain.Event:2` for all files since 2015."""

    wall_time: float
    version: str


class SessionStart(NamedTuple):
    """From here on, earlier points at `step` or later no longer count."""

    step: int


Item = Record | FileVersion | SessionStart | ScalarPoint | BlobPoint | Damage


@dataclass(slots=True)
class EventFile:
    """What an event file holds.

    points, blobs: in file order, without those that a later SessionLog START takes back. end: offset after the last
    whole record. damage: why reading stopped there, if not at the end of the file.
    """

    header: FileVersion | None = None
    points: list[ScalarPoint] = field(default_factory=list)
    blobs: list[BlobPoint] = field(default_factory=list)
    records: int = 0
    end: int = 0
    damage: Damage | None = None


def read_event_file(path: Path) -> EventFile:
    """Read a whole file into memory. OSError if it can't be opened; damage is reported, not raised."""
    found = EventFile()
    with path.open("rb") as stream:
        for item in read_items(stream):
            _add(found, item)
    return found


def read_items(stream: BinaryIO) -> Iterator[Item]:
    """Every record, followed by what it means: the file version, a session start, or its points in order."""
    for record in read_records(stream):
        yield record
        if isinstance(record, Damage):
            return
        for item in meaning_of(record):
            yield item
            if isinstance(item, Damage):
                return


def meaning_of(record: Record) -> Iterator[FileVersion | SessionStart | ScalarPoint | BlobPoint | Damage]:
    """What a record says; a Damage if it is no Event."""
    try:
        event = event_pb2.Event.FromString(record.data)
    except DecodeError as error:
        yield Damage(record.offset, f"not an Event: {error}", torn=False)
        return
    match event.WhichOneof("what"):
        case "file_version":
            yield FileVersion(event.wall_time, event.file_version)
        case "session_log" if event.session_log.status == event_pb2.SessionLog.START:
            yield SessionStart(event.step)
        case "summary":
            others = False
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    yield ScalarPoint(event.wall_time, event.step, value.tag, value.simple_value)
                else:
                    others = True
            if others:
                yield from _blobs(record)


def _blobs(record: Record) -> Iterator[BlobPoint | Damage]:
    """The points of a record that are no scalars, byte by byte as they stand there."""
    try:
        event = read_event(memoryview(record.data))
    except MalformedError as error:
        yield Damage(record.offset, str(error), torn=False)
        return
    for value in event.values:
        if value.blob:
            key = key_of_hash(blob_of(bytes(value.blob)).hash)
            yield BlobPoint(event.wall_time or 0.0, event.step, value.tag, key)


def _add(found: EventFile, item: Item) -> None:
    match item:
        case Record():
            found.records += 1
            found.end = item.end
        case Damage():
            found.damage = item
            found.end = item.offset
        case SessionStart(step):
            found.points = [point for point in found.points if point.step < step]
            found.blobs = [point for point in found.blobs if point.step < step]
        case ScalarPoint():
            found.points.append(item)
        case BlobPoint():
            found.blobs.append(item)
        case FileVersion():
            found.header = item

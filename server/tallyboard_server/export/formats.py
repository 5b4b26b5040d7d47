"""The formats of an export: what each is called, and what writes it."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from tallyboard.wire import MSGPACK
from tallyboard_server.export.frames import FrameWriter, Stood
from tallyboard_server.export.pages import Reader
from tallyboard_server.export.text import CsvWriter, JsonLinesWriter
from tallyboard_server.export.tfevents import EventWriter
from tallyboard_server.export.writer import Writer
from tallyboard_server.model import RunState
from tallyboard_server.series import UnknownAxisError

OCTETS: Final = "application/octet-stream"


class MissingPartError(Exception):
    """A format needs a package that is not installed."""


@dataclass(slots=True, frozen=True)
class Format:
    """One format. suffix: of file names. superseded, x: whether it has a place for superseded points, for another
    counter. joinable: whether the exports of several runs may be written one after the other into one file, but for
    the head lines of all but the first, if it has such.
    """

    name: str
    media_type: str
    suffix: str
    writer: Callable[[Reader], Writer]
    superseded: bool = True
    x: bool = False
    joinable: bool = False
    head_line: bool = False


def _parquet(reader: Reader) -> Writer:
    if find_spec("pyarrow") is None:
        raise MissingPartError(
            "Parquet needs pyarrow where the service runs: pip install 'tallyboard[parquet]' there, "
            "or take another format"
        )
    from tallyboard_server.export.parquet import ParquetWriter  # here: it is an extra, and slow to load

    return ParquetWriter(reader)


def _frames(reader: Reader) -> Writer:
    other = reader.wanted.x
    if other is None:
        return FrameWriter(reader)
    counter = reader.state.counters.get(other)
    if counter is None:
        there = ", ".join(reader.state.counters) or "none"
        raise UnknownAxisError(f"x={other!r}: the counters of {reader.state.name} are {there}")
    return FrameWriter(reader, Stood(reader.store, reader.state, counter))


FORMATS: Final = {
    made.name: made
    for made in (
        Format("csv", "text/csv", ".csv", CsvWriter, joinable=True, head_line=True),
        Format("jsonl", "application/x-ndjson", ".jsonl", JsonLinesWriter, joinable=True),
        Format("parquet", OCTETS, ".parquet", _parquet),
        Format("tfevents", OCTETS, "", EventWriter, superseded=False),
        Format("msgpack", MSGPACK, ".msgpack", _frames, x=True),
    )
}


def file_name(state: RunState, form: Format) -> str:
    """A name for a file with a run's points: `project/name` becomes project-name."""
    if form.name == "tfevents":  # TensorBoard looks at nothing else
        return f"events.out.tfevents.{int(state.meta.created_at)}.tallyboard"
    return state.name.replace("/", "-") + form.suffix

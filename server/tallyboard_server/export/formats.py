"""The formats of an export: what each is called, and what writes it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Protocol

from tallyboard.wire import MSGPACK
from tallyboard_server.export.frames import FrameWriter
from tallyboard_server.export.pages import Page, Reader
from tallyboard_server.export.text import CsvWriter, JsonLinesWriter
from tallyboard_server.export.tfevents import EventWriter
from tallyboard_server.model import RunState

OCTETS: Final = "application/octet-stream"


class MissingPartError(Exception):
    """A format needs a package that is not installed."""


class Writer(Protocol):
    """Makes bytes of pages, a piece at a time."""

    def begin(self) -> Iterator[bytes]:
        """What stands before the points."""
        ...

    def page(self, page: Page) -> Iterator[bytes]:
        """What a page adds."""
        ...

    def end(self) -> Iterator[bytes]:
        """What stands after the points."""
        ...


@dataclass(slots=True, frozen=True)
class Format:
    """One format. suffix: of file names. superseded: whether it can hold superseded points. joinable: whether the
    exports of several runs may be written one after the other into one file (without the others' head line, if it has
    one)."""

    name: str
    media_type: str
    suffix: str
    make: Callable[[Reader, bool], Writer]
    superseded: bool = True
    joinable: bool = False
    head_line: bool = False

    def writer(self, reader: Reader, *, superseded: bool) -> Writer:
        """What writes the points that `reader` reads. Raises MissingPartError."""
        return self.make(reader, superseded)


def _parquet(reader: Reader, superseded: bool) -> Writer:
    if find_spec("pyarrow") is None:
        raise MissingPartError(
            "Parquet needs pyarrow where the service runs: pip install 'tallyboard[parquet]' there, "
            "or take another format"
        )
    from tallyboard_server.export.parquet import ParquetWriter  # here: it is an extra, and slow to load

    return ParquetWriter(reader, superseded=superseded)


FORMATS: Final = {
    made.name: made
    for made in (
        Format("csv", "text/csv", ".csv", lambda r, s: CsvWriter(r, superseded=s), joinable=True, head_line=True),
        Format("jsonl", "application/x-ndjson", ".jsonl", lambda r, s: JsonLinesWriter(r, superseded=s), joinable=True),
        Format("parquet", OCTETS, ".parquet", _parquet),
        Format("tfevents", OCTETS, "", lambda r, _: EventWriter(r), superseded=False),
        Format("msgpack", MSGPACK, ".msgpack", lambda r, _: FrameWriter(r)),
    )
}


def file_name(state: RunState, form: Format) -> str:
    """A name for a file with a run's points: `project/name` becomes project-name."""
    if form.name == "tfevents":  # TensorBoard looks at nothing else
        return f"events.out.tfevents.{int(state.meta.created_at)}.tallyboard"
    return state.name.replace("/", "-") + form.suffix

"""Points as a TensorBoard event file of their own: the records that the run's event file would begin with."""

from collections.abc import Iterator

from tallyboard_server.eventfiles.encoder import Encoder, file_head
from tallyboard_server.eventfiles.ordering import Rows, encode_pieces
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.export.pages import Page, Reader
from tallyboard_server.export.writer import Writer


class EventWriter(Writer):
    """An event file: values as float32, one record a report (one for each 64 tags, if a run has more)."""

    def __init__(self, reader: Reader) -> None:
        self._seconds = int(reader.state.meta.created_at)
        self._names = TagNames(reader.names)
        self._encoder = Encoder()

    def begin(self) -> Iterator[bytes]:
        """Version and session start; their time is the run's first second, so that equal points give equal files."""
        yield file_head(self._seconds)

    def page(self, page: Page) -> Iterator[bytes]:
        """The records of a page."""
        pieces = [Rows(self._names.of(block), block.steps, block.wall_times, block.values) for block in page.blocks]
        yield from map(bytes, encode_pieces(self._encoder, pieces))

"""One export: a run as it stands now, a format, and the pieces of the file one after the other."""

from collections.abc import Iterator

from tallyboard_server.export.formats import Format, file_name
from tallyboard_server.export.pages import ExportBrokenError, Reader, Wanted
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Store

__all__ = ["Export", "ExportBrokenError"]


class Export:
    """Made when it is asked for, so that whatever can't be is known before the first byte."""

    def __init__(self, store: Store, state: RunState, form: Format, wanted: Wanted) -> None:
        """Raises MissingPartError if a package is missing, ValueError if the format can't hold what is wanted."""
        if wanted.superseded and not form.superseded:
            raise ValueError(f"{form.name} has no place for superseded points; take another format")
        self._reader = Reader(store, state, wanted)
        self._writer = form.writer(self._reader, superseded=wanted.superseded)
        self.file_name = file_name(state, form)
        self.media_type = form.media_type

    def pieces(self) -> Iterator[bytes]:
        """The file, piece by piece, each from at most one short snapshot. Raises ExportBrokenError, StoreError."""
        yield from self._writer.begin()
        for page in self._reader.pages():
            yield from self._writer.page(page)
        yield from self._writer.end()

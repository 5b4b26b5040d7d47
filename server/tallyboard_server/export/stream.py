"""One export: a run as it stands now, a format, and the pieces of the file one after the other."""

from collections.abc import Iterator

from tallyboard_server.export.formats import Format, file_name
from tallyboard_server.export.pages import ExportBrokenError, Reader, Wanted
from tallyboard_server.model import RunState
from tallyboard_server.series import PointsTooManyError
from tallyboard_server.store.protocol import Store


class UnfitFormatError(ValueError):
    """The format has no place for what is wanted; `field` says for what."""

    def __init__(self, detail: str, field: str) -> None:
        super().__init__(detail)
        self.field = field


class Export:
    """Made when it is asked for, so that whatever can't be is known before the first byte."""

    def __init__(self, store: Store, state: RunState, form: Format, wanted: Wanted) -> None:
        """Raises MissingPartError if a package is missing, UnfitFormatError, UnknownAxisError."""
        if wanted.superseded and not form.superseded:
            raise UnfitFormatError(f"{form.name} has no place for superseded points; take another format", "attempts")
        if wanted.x is not None and not form.x:
            raise UnfitFormatError(f"{form.name} has no place for another counter; msgpack has", "x")
        self._reader = Reader(store, state, wanted)
        self._writer = form.writer(self._reader)
        self.file_name = file_name(state, form)
        self.media_type = form.media_type

    def pieces(self) -> Iterator[bytes]:
        """The file, piece by piece, each from at most one short snapshot. Raises ExportBrokenError, StoreError."""
        try:
            yield from self._writer.begin()
            for page in self._reader.pages():
                yield from self._writer.page(page)
            yield from self._writer.end()
        except (ExportBrokenError, PointsTooManyError) as error:
            yield from self._writer.failed(str(error))
            raise ExportBrokenError(str(error)) from error

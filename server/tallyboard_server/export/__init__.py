"""Every point of a run, as a stream: read in pages by step, written in one of several formats."""

from tallyboard_server.export.formats import FORMATS, Format, MissingPartError, file_name
from tallyboard_server.export.pages import ExportBrokenError, Wanted
from tallyboard_server.export.stream import Export, UnfitFormatError

__all__ = [
    "FORMATS",
    "Export",
    "ExportBrokenError",
    "Format",
    "MissingPartError",
    "UnfitFormatError",
    "Wanted",
    "file_name",
]

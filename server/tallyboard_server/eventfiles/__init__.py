"""TensorBoard event files: encoded from the journal, kept in step with it, read back."""

from tallyboard_server.eventfiles.destination import AnyExporter, Destination
from tallyboard_server.eventfiles.encoder import ENCODER_VERSION, Encoder
from tallyboard_server.eventfiles.files.exporter import Exporter
from tallyboard_server.eventfiles.layout import LogDirectory, UnsafePathError, is_event_file
from tallyboard_server.eventfiles.reader import BlobPoint, EventFile, ScalarPoint, read_event_file
from tallyboard_server.eventfiles.shelf import Shelf
from tallyboard_server.eventfiles.tfrecord import Damage
from tallyboard_server.eventfiles.tools import ExportSettings

__all__ = [
    "ENCODER_VERSION",
    "AnyExporter",
    "BlobPoint",
    "Damage",
    "Destination",
    "Encoder",
    "EventFile",
    "ExportSettings",
    "Exporter",
    "LogDirectory",
    "ScalarPoint",
    "Shelf",
    "UnsafePathError",
    "is_event_file",
    "read_event_file",
]

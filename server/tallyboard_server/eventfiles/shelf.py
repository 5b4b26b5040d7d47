"""Where event files can be read again, by whoever compares them with the store."""

from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from tallyboard_server.store.protocol import Generation


class Shelf(Protocol):
    """The event files of all runs. LogDirectory is one, ObjectShelf another."""

    def where(self, run: str, file: str) -> str:
        """Where a file of a run is, for people."""
        ...

    def open(self, run: str, generation: Generation) -> AbstractContextManager[tuple[BinaryIO, int]]:
        """A generation's records from the first on, and how many bytes there are. FileNotFoundError, or OSError."""
        ...

    def event_files(self, run: str) -> dict[str, str]:
        """The names of what TensorBoard reads of a run, each with the file name of the generation it may be of."""
        ...

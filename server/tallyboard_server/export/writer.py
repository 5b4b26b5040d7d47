"""What makes the bytes of a format out of pages."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from tallyboard_server.export.pages import Page


class Writer(ABC):
    """Makes bytes, a piece of at most some megabytes at a time."""

    def begin(self) -> Iterator[bytes]:
        """What stands before the points."""
        yield from ()

    @abstractmethod
    def page(self, page: Page) -> Iterator[bytes]:
        """What a page adds."""

    def end(self) -> Iterator[bytes]:
        """What stands after the points."""
        yield from ()

    def failed(self, _reason: str) -> Iterator[bytes]:
        """What tells that the points end here though there are more: nothing, where the format has no way to say it."""
        yield from ()

"""Which runs this process works for: all of them, unless others share the store."""

from collections.abc import Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol

SHARES: Final = 64
"""Runs are divided into so many shares, by their ids; no more processes than this can have work."""


class Shares(Protocol):
    """Runs fall into shares by their ids; each share has one holder at a time. Any thread may call."""

    @property
    def version(self) -> Hashable:
        """Another value whenever a share came or went: then nothing that was known of its runs is to be relied on."""
        ...

    def has(self, run_id: int) -> bool:
        """Whether a run's event files, merges, watchdogs and retention are this process's business now."""
        ...

    def working(self) -> AbstractContextManager[None]:
        """Around one turn of work: what `has` affirms inside is given back only after it. Seconds at most."""
        ...


class Everything:
    """The Shares of a process that has its store to itself."""

    version: Hashable = None

    def has(self, run_id: int) -> bool:
        """See Shares.has."""
        del run_id
        return True

    def working(self) -> AbstractContextManager[None]:
        """See Shares.working."""
        return nullcontext()


EVERYTHING: Final[Shares] = Everything()

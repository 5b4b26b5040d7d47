"""Where generations stand, as the exporter's engine sees it: a directory of files, or a prefix of objects."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from tallyboard_server.eventfiles.reading import Tail
from tallyboard_server.eventfiles.runfiles import RunFiles, Sink
from tallyboard_server.eventfiles.tagnames import TagNames
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, RunHead, Snapshot, Transaction

F = TypeVar("F", bound=RunFiles)


class Storage(Protocol[F]):
    """What is done to the event files of a run, once it is known what has to be done.

    builds_max: generations in the making at once. at_once: how many of them are written to at the same time.
    shared_fate: what keeps one run's files from being written keeps all, unless it is clearly the run's own.
    Everything raises OSError (or what the storage raises), and may be done again after that.
    """

    builds_max: int
    at_once: int
    shared_fate: bool

    def prepare(self) -> None:
        """Make it ready, or find that it can't be had; called once, before anything else."""
        ...

    def load(self, view: Snapshot, state: RunState) -> F:
        """What is recorded of a run's files, checked against what is there."""
        ...

    def inspect(self, files: F) -> None:
        """Look whether the live generation is as it was left, and which event files are not ours."""
        ...

    def is_due(self, files: F, head: RunHead) -> bool:
        """Whether a settled run's files are to be written anew all the same."""
        ...

    def next_generation(self, files: F, state: RunState) -> tuple[Generation, bool]:
        """The generation to build for a state, and whether readers may hold points of earlier files.

        Its name sorts after all that were recorded or are there (but for absurd dates).
        """
        ...

    def record_building(self, transaction: Transaction, files: F, generation: Generation) -> None:
        """Record what is about to be begun, and what becomes of the leftovers."""
        ...

    def create(self, files: F, generation: Generation) -> Sink:
        """Where the opening of a generation that was recorded is written to."""
        ...

    def each(self, calls: Sequence[Callable[[], None]]) -> list[BaseException | None]:
        """Do them all, at the same time if that is of use; what each raised, None for those that went well."""
        ...

    def recorded_building(self, files: F) -> None:
        """That was recorded."""
        ...

    def record_live(self, transaction: Transaction, files: F, live: Generation) -> None:
        """Record a complete generation."""
        ...

    def installed(self, files: F, live: Generation) -> None:
        """The generation was recorded as live."""
        ...

    def abandoned(self, files: F, generation: Generation) -> None:
        """A generation became a leftover: remove it now, if it can be; else it goes later."""
        ...

    def may_go(self, files: F, generation: Generation) -> bool:
        """Whether a retired generation whose grace period is over may be removed yet."""
        ...

    def remove(self, name: str, generations: Sequence[Generation]) -> None:
        """Remove replaced generations of one run (never what was not recorded)."""
        ...

    def remove_all(self, name: str, generations: Sequence[Generation]) -> None:
        """Remove all of a deleted run."""
        ...

    def release(self, files: F, generation: Generation) -> None:
        """A generation is written to no more."""
        ...

    def relieve(self, troubles: Troubles) -> None:
        """Let go of what others may be short of."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...

    def stats(self) -> dict[str, float]:
        """Figures for /metrics."""
        ...


class Growth(Protocol[F]):
    """How live generations grow. next_sync_at: when `sync` has something to do, if there is something unsynced.
    bytes_at_once: with so many bytes waiting, a run does not wait for the interval."""

    next_sync_at: float
    bytes_total: int
    syncs_total: int
    sync_seconds_total: float
    mean_block_bytes: float
    bytes_at_once: float

    @property
    def unsynced(self) -> int:
        """Runs of which something was written that is not recorded yet."""
        ...

    def read(self, view: Snapshot, files: F, state: RunState, names: TagNames) -> Tail[F] | None:
        """The next blocks for a live generation that is behind; None if the journal no longer holds them."""
        ...

    def write(self, tails: list[Tail[F]], rest: Callable[[], None]) -> Iterator[tuple[Tail[F], bool | None]]:
        """Write them; for each: True; False if a new generation is needed (files.damage says why); None if it failed,
        which was noted. `rest` is called between pieces of work."""
        ...

    def sync(self) -> list[F]:
        """Have what was written endure, and record how far it reaches; returns runs for which that failed."""
        ...

    def forget(self, files: F) -> None:
        """The run is gone, or its live generation is no longer to be written to."""
        ...

"""What every store must do; the contract suite in tests/contract is written against this and nothing else.

Any thread may call `snapshot`. Of a store that is not `shared`, one writer calls `transaction` and `maintain`; of one
that is, any thread may, and other processes do. What a transaction saved is durable (after fsync) and visible to new
snapshots once its `with` block has ended without an error, and gone without trace if it raised.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Blob, Float64, Int64
from tallyboard_server.model import AlertCount, Block, KeptAlert, KeptRefusal, RunState, frozen
from tallyboard_server.store.access import AccessChanges, AccessView
from tallyboard_server.store.envelope import Cells
from tallyboard_server.store.watching import WatchChanges, WatchView

NO_BLOBS: Final[Mapping[float, Blob]] = frozen()
ROWS_PER_GROUP: Final = 65_536
BYTES_PER_GROUP: Final = 8 * 2**20
"""How much one merge takes together, and so how large groups become: one slice of work for the writer."""

SNAPSHOT_S_MAX: Final = 0.25
"""How long a snapshot may be held: the log can't be trimmed meanwhile, and the writer waits little longer."""


class StoreError(Exception):
    """The store could not do its work; nothing of the transaction was kept."""


class StoreFullError(StoreError):
    """No space is left (or the disk is read-only): free some, then retry."""


class StoreBusyError(StoreError):
    """The store belongs to another process, or could not be had in time."""


class RunHeldError(StoreBusyError):
    """Another process changes the run at this moment: try again when it has ended, in milliseconds."""


@dataclass(slots=True, frozen=True)
class Generation:
    """One event file of a run, recorded before the file exists.

    number counts 1, 2, … within the run. seconds is the time in its name. encoder: version of the encoder that
    writes it. epoch: the run's epoch it shows. first_pos: newest journal position in its opening snapshot.
    exported_pos and length (bytes): how far the file is known to be on disk, recorded only after a sync.
    state: `building` until the snapshot is in place, `live`, then `retired` until the file is removed.
    """

    run_id: int
    number: int
    file_name: str
    seconds: int
    encoder: int
    epoch: int
    first_pos: int
    exported_pos: int
    length: int
    state: str
    changed_at: float


@dataclass(slots=True, frozen=True)
class Segment:
    """One immutable object of a generation, where event files can't be appended to; recorded before it exists.

    generation: its number within the run; number: 0 (the opening), 1, 2, … within the generation. first_pos, last_pos:
    which journal positions it shows, both included. nbytes: its size once it is published.
    """

    run_id: int
    generation: int
    number: int
    first_pos: int
    last_pos: int
    nbytes: int
    published: bool
    changed_at: float


@dataclass(slots=True, frozen=True)
class RunHead:
    """Enough of a run to know whether a view of it is behind. updated_at: when it last changed, seconds since 1970."""

    run_id: int
    name: str
    pos: int
    epoch: int
    updated_at: float
    status: str


@dataclass(slots=True, frozen=True)
class Group:
    """What one merge wrote: all that consecutive whole batches of an attempt hold. The unit of compaction and pruning.

    batch: position of its first block. version: grows whenever a group of that name is written anew. rows: of the tag
    that has most. nbytes: of its columns before compression. first_step, last_step: its least and largest step;
    groups of an attempt follow each other in steps.
    """

    run_id: int
    counter_id: int
    attempt: int
    batch: int
    version: int
    rows: int
    nbytes: int
    first_step: int
    last_step: int

    @property
    def fill(self) -> float:
        """How much of the largest group that a merge makes it is, by rows or by bytes."""
        return max(self.rows / ROWS_PER_GROUP, self.nbytes / BYTES_PER_GROUP)


@dataclass(slots=True, frozen=True)
class Listening:
    """When anybody listened to runs: from `since` to `until`, and before that up to `before` (0.0: never)."""

    before: float
    since: float
    until: float


Keep = Callable[[Block], npt.NDArray[np.bool_]]
"""Which rows of a block stay: bool[n], or bool[n, k] to tell its tags apart."""


@dataclass(slots=True, frozen=True)
class RunVersion:
    """Enough of a run to know whether anything of it has changed: version counts every change of its state."""

    run_id: int
    name: str
    version: int


class Transaction(AccessChanges, WatchChanges, Protocol):
    """Changes to be committed together."""

    def load(self, name: str) -> RunState | None:
        """The run's state as of now, this transaction's own changes included; None if there is no such run.

        Whoever changes a run loads it first. Raises RunHeldError.
        """
        ...

    def name_of_uid(self, uid: str) -> str | None:
        """The run that an Open with this uid created, if any."""
        ...

    def taken(self, name: str) -> bool:
        """Whether a run of that name exists."""
        ...

    def is_deleted(self, name: str) -> bool:
        """Whether a run of that name was deleted and has not been created again."""
        ...

    def next_run_id(self) -> int:
        """A run id that was never used."""
        ...

    def save(
        self,
        state: RunState,
        blocks: Sequence[Block] = (),
        refused: Sequence[KeptRefusal] = (),
        blobs: Mapping[float, Blob] = NO_BLOBS,
        alerts: Sequence[KeptAlert] = (),
    ) -> None:
        """Keep a run's new state, its new journal blocks and blobs, and of refusals and alerts the newest (bounded).

        A blob under whose key the run has one already is passed over.
        """
        ...

    def blob_hashes(self, run_id: int, keys: Sequence[float]) -> dict[float, bytes]:
        """The hashes of those of a run's blobs that have one of these keys, this transaction's own included."""
        ...

    def last_step_before(self, run_id: int, counter_id: int, attempt: int, step: int) -> int | None:
        """The largest step below `step` in an attempt; None if it holds none. O(log n) in the run's size."""
        ...

    def delete_run(self, state: RunState) -> None:
        """Delete a run and all it holds, and leave a tombstone under its name."""
        ...

    def save_generation(self, generation: Generation) -> None:
        """Insert or replace one generation of a run's event files (by run_id and number)."""
        ...

    def drop_generation(self, run_id: int, number: int) -> None:
        """Forget a generation whose file (or segments) is gone, and its segments."""
        ...

    def save_segment(self, segment: Segment) -> None:
        """Insert or replace one segment of a generation (by run_id, generation and number)."""
        ...

    def drop_segments(self, run_id: int, generation: int) -> None:
        """Forget all segments of a generation."""
        ...

    def save_heartbeats(self, heard: Mapping[str, float], until: float) -> None:
        """Keep when runs were last heard of besides their reports, and until when the service listened at all.

        Seconds since the epoch; names of runs that are gone are passed over.
        """
        ...

    def listen(self, since: float, until: float, gap_s: float) -> Listening:
        """Keep that a service has listened to runs from since to until; returns when anybody did.

        If somebody did up to gap_s before since, that is taken for one time; else it is another, and the one before is
        over. Before `save_heartbeats` in a transaction: of several services one is there at a time.
        """
        ...

    def merge(self, merge: object) -> None:
        """Put merged blocks in the place of their sources; `merge` comes from this store's `prepare_merge`.

        Changes nothing that a reader can see. If a source is not what it was (the run was deleted, the group pruned),
        nothing is done.
        """
        ...

    def prune(self, prune: object) -> int:
        """Remove the rows that `Store.prepare_prune` left out; returns how many scalars.

        The attempt's pruned_scalars and pruned_checksum grow by them, so that sent - pruned = stored; if some of them
        were visible, the run's epoch grows, too, and its event files are written anew. If the group is not what it
        was (the run was deleted, a merge was faster), nothing is done, and 0 is returned: read it again.
        """
        ...

    def drop_blobs(self, run_id: int, keys: Sequence[float], *, pos: int) -> bool:
        """Remove blobs that no point of a run refers to, as of its position `pos`; bounded by the caller.

        If the run has grown since (a new point may refer to one of them), or was deleted, nothing is done: False.
        """
        ...

    def runs_at_most(self, prefix: str, limit: int) -> int:
        """How many runs have names that begin with `prefix`, this transaction's own included; counted up to limit."""
        ...

    def purge(self) -> bool:
        """Remove one bounded slice of what deleted runs leave behind; False when nothing is left."""
        ...


Work = Callable[[Transaction], None]
"""What the service itself (event files, merges, watchdogs) changes in one transaction. It may run again from its
beginning, so it keeps nothing of a former time."""

Record = Callable[[Work], None]
"""Runs work in a transaction and returns when it is durable; raises what the work raised, or why it is not durable."""


class Snapshot(AccessView, WatchView, Protocol):
    """A consistent view for reading. Hold it for at most 250 ms: page by position for anything longer."""

    def load(self, name: str) -> RunState | None:
        """The run's committed state."""
        ...

    def load_by_id(self, run_id: int) -> RunState | None:
        """The committed state of a run by its id; None if it was deleted."""
        ...

    def is_deleted(self, name: str) -> bool:
        """Whether a run of that name was deleted and has not been created again."""
        ...

    def run_names(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[str]:
        """Names of runs in byte order, beginning with `prefix`, greater than `after`."""
        ...

    def run_versions(self, *, prefix: str = "", after: str = "", limit: int = 100) -> list[RunVersion]:
        """Runs as `run_names` lists them, each with the version of its state: what is known of a run at a version
        need not be read again."""
        ...

    def heads(self, *, after_id: int = 0, limit: int = 1000) -> list[RunHead]:
        """Runs by ascending id: what the sweeps of exporter and merger page through."""
        ...

    def head(self, run_id: int) -> RunHead | None:
        """One run's head; None if it was deleted."""
        ...

    def deleted_run_ids(self) -> list[tuple[int, str]]:
        """(id, name) of deleted runs whose event files may still exist: those that still have generations."""
        ...

    def journal(self, run_id: int, *, after_pos: int, bytes_max: int) -> list[Block]:
        """Level-0 blocks after a position, in order, whole batches only.

        At least one batch if there is one, then up to bytes_max. after_pos is 0 or where another call ended.
        """
        ...

    def blocks(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        *,
        tag_id: int | None = None,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> Iterator[Block]:
        """All blocks of an attempt, merged or not, that may hold steps in the range (ends included).

        With tag_id, blocks that hold that tag, reduced to it. Ascending by first step; where the step ranges of
        neighbours overlap, their rows belong merged by step. Rows outside the range may be included.
        """
        ...

    def axes(
        self, run_id: int, counter_id: int, attempt: int, *, first_step: int = 0, last_step: int = 2**63 - 1
    ) -> Iterator[tuple[Int64, Float64]]:
        """The steps and wall times of what `blocks` gives without a tag; no values are read of what was merged."""
        ...

    def cells(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
        rows_max: int = 1,
        at: int | None = None,
    ) -> dict[int, Cells]:
        """By tag id, the points of an attempt with first_step ≤ step ≤ last_step, ascending, none else, in cells.

        No cell stands for more than rows_max points (1: the points themselves); the store chooses the coarsest level
        that it keeps within that, and reads the points only of cells that the range cuts. at: the id of the counter
        whose place is wanted. Tags without a point in the range have no cells, and may be absent.
        """
        ...

    def points_at_most(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        tag_ids: Sequence[int],
        *,
        first_step: int = 0,
        last_step: int = 2**63 - 1,
    ) -> dict[int, int]:
        """By tag id, how many points `cells` would stand for, at most: more than there are by what a range cuts."""
        ...

    def blobs(self, run_id: int, keys: Sequence[float]) -> dict[float, Blob]:
        """A run's blobs by their keys, which block's values are; keys that it has no blob of are left out.

        Each may have limits.BLOB_BYTES_MAX: ask `blob_sizes` first.
        """
        ...

    def blob_sizes(self, run_id: int, keys: Sequence[float]) -> dict[float, int]:
        """The bytes of a run's blobs by their keys; keys that it has no blob of are left out."""
        ...

    def blob_size_page(self, run_id: int, *, after: float | None, limit: int) -> dict[float, int]:
        """The bytes of a run's blobs by their keys, in the store's order: those that follow a key (None: from the
        first)."""
        ...

    def blob_page(self, run_id: int, *, after: float | None, bytes_max: int) -> dict[float, Blob]:
        """A run's blobs in the store's order: those that follow a key (None: from the first), at least one if there
        is one, then up to bytes_max."""
        ...

    def refused(self, run_id: int, *, limit: int = 100) -> list[KeptRefusal]:
        """The newest refusals kept of a run, newest first."""
        ...

    def refused_count(self, run_id: int) -> int:
        """How many refusals are kept of a run."""
        ...

    def alerts(self, run_id: int, *, limit: int = 100) -> list[KeptAlert]:
        """The newest alerts kept of a run, newest first."""
        ...

    def alert_count(self, run_id: int) -> AlertCount:
        """How many alerts are kept of a run, and when the newest came; without reading them."""
        ...

    def heartbeats(self, *, limit: int, since: float = 0.0) -> tuple[dict[str, float], float]:
        """When runs were last heard of (the newest `limit` of them, oldest first; only those heard of at or after
        `since`), and until when was listened.

        0.0 if that was never kept.
        """
        ...

    def identity(self) -> str:
        """16 hexadecimal digits that tell this store from any other; a copy of it has the same."""
        ...

    def generations(self, run_id: int) -> list[Generation]:
        """A run's generations, oldest first."""
        ...

    def segments(self, run_id: int, generation: int) -> list[Segment]:
        """A generation's segments, by number."""
        ...

    def mergeable(self, run_id: int, *, up_to_pos: int, min_blocks: int) -> list[tuple[int, int]]:
        """(counter id, attempt) pairs with at least min_blocks level-0 blocks at or before a position.

        Of superseded attempts, which hardly grow any more, 8 blocks are enough.
        """
        ...

    def whole_batches(
        self,
        run_id: int,
        counter_id: int,
        attempt: int,
        *,
        up_to_pos: int,
        rows_max: int,
        bytes_max: int = BYTES_PER_GROUP,
    ) -> list[Block]:
        """The oldest level-0 blocks of an attempt, whole batches only: what one merge takes together."""
        ...

    def growing_attempts(self, run_id: int, *, min_groups: int) -> list[tuple[int, int]]:
        """(counter id, attempt) pairs with so many groups that may still grow, or one that has no envelopes yet."""
        ...

    def growing_groups(self, run_id: int, counter_id: int, attempt: int, *, limit: int) -> list[list[Group]]:
        """The newest groups of an attempt that may still grow, oldest first, in stretches without gaps."""
        ...

    def groups(
        self, run_id: int, counter_id: int, attempt: int, *, after_batch: int = 0, limit: int = 1000
    ) -> list[Group]:
        """An attempt's groups in order: everything of it that was merged, and so may be pruned."""
        ...

    def group_blocks(self, group: Group) -> list[Block]:
        """All blocks of a group, each tag's ascending by step; bounded, as groups are."""
        ...


class Readable(Protocol):
    """A place where runs can be read."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Begin a consistent read; may wait (bounded) while the writer trims its log."""
        ...


class Store(Readable, Protocol):
    """A place that keeps runs for good."""

    @property
    def shared(self) -> bool:
        """Whether other processes may write to it at the same time; then transactions of this one may run at once,
        too, and Transaction.load and whatever else needs a run for itself may raise RunHeldError."""
        ...

    def transaction(self, runs: Collection[str] = ()) -> AbstractContextManager[Transaction]:
        """Begin a group: committed with one fsync when the block ends. Raises StoreError if it can't be.

        runs: names of those that it is about, as far as they are known: in a shared store they are locked together,
        which is quicker than one by one.
        """
        ...

    def prepare_merge(self, run_id: int, sources: Sequence[Block], groups: Sequence[Group] = ()) -> object:
        """Merge and compress blocks of one attempt on the caller's thread.

        They come from Snapshot.whole_batches, or are all blocks of `groups`, which follow each other without a gap.
        """
        ...

    def prepare_prune(self, group: Group, blocks: Sequence[Block], keep: Keep) -> object:
        """Write a group anew with the rows that `keep` lets stay; `blocks` are all of it (Snapshot.group_blocks).

        On the caller's thread, for Transaction.prune. Only merged data can be pruned, and level 0 is merged only when
        event files no longer need it. The first point of a tag should stay: the tag's binding to its counter is by it.
        """
        ...

    def backup(self, target: Path) -> Iterator[float]:
        """Copy everything that is committed into a new file, consistently, a slice at a time, while others write.

        Yields the share that is done (0.0 to 1.0); the file is complete and synced when the iterator is exhausted.
        Each slice keeps the writer waiting for some milliseconds.
        """
        ...

    def maintain(self) -> None:
        """Housekeeping between groups, on the writer's thread: trim the write-ahead log, give pages back."""
        ...

    def stats(self) -> dict[str, float]:
        """Figures for /metrics: names as Prometheus has them, without prefix."""
        ...

    def close(self) -> None:
        """Release everything; later calls raise StoreError."""
        ...

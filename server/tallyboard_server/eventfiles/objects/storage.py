"""Generations as rows of objects: an opening, uploaded as it is read, and segments after it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from tallyboard_server.eventfiles.layout import EVENT_FILE_MARK, is_event_file, newest_seconds
from tallyboard_server.eventfiles.objects.bucket import AT_ONCE, Bucket, Upload
from tallyboard_server.eventfiles.objects.keys import run_key, segment_name
from tallyboard_server.eventfiles.objects.runobjects import RunObjects
from tallyboard_server.eventfiles.runfiles import RETIRED
from tallyboard_server.eventfiles.tools import CLOCK_AHEAD_S, Tools
from tallyboard_server.eventfiles.troubles import Troubles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, RunHead, Segment, Snapshot, Transaction

BUILDS_MAX: Final = 16
"""Generations in the making at once: each holds up to a part of an upload."""
LISTED_EVERY_S: Final = 3600.0
"""How often a run's objects are listed, to find those that are missing or not ours."""
LIST_INTERVAL_S: Final = 2.0
"""Listings of all runs are at least so far apart: they cost as much as writing does."""
QUIET_S: Final = 600.0
"""A run that ended is put together when nothing has come for so long."""
WORTH_IT: Final = 4
"""Segments that this is worth it for."""


class ObjectStorage:
    """The Storage of a prefix in an object storage."""

    builds_max = BUILDS_MAX
    at_once = AT_ONCE // 2
    shared_fate = True

    def __init__(self, tools: Tools, bucket: Bucket) -> None:
        self._tools = tools
        self._bucket = bucket
        self._next_listing_at = 0.0

    def prepare(self) -> None:
        """See Storage.prepare. Nothing is asked for: whether the storage can be reached now says nothing of later."""

    def load(self, view: Snapshot, state: RunState) -> RunObjects:
        """See Storage.load. Nothing is asked for here either: the first segment looks whether the opening is there."""
        files = RunObjects(state.id, state.name, run_key(state.name), str(self._bucket.url))
        files.leftovers = files.take_up(view.generations(state.id))
        if files.live is not None:
            files.take_segments(view.segments(state.id, files.live.number))
        return files

    def inspect(self, files: RunObjects) -> None:
        """See Storage.inspect. A few runs at a time, and each now and then."""
        now = self._tools.clock()
        if now < self._next_listing_at or now - files.looked_at < LISTED_EVERY_S or files.live is None:
            return
        self._next_listing_at = now + LIST_INTERVAL_S
        files.looked_at = now
        sizes = self._bucket.sizes(files.key)
        with self._tools.store.snapshot() as view:
            generations = view.generations(files.run_id)
            recorded = {g.number: view.segments(files.run_id, g.number) for g in generations}
        names = {g.number: g.file_name for g in generations}
        ours = {segment_name(names[n], s.number) for n, segments in recorded.items() for s in segments}
        files.foreign = frozenset(name for name in sizes if is_event_file(name) and name not in ours)
        if files.damage is None:
            files.damage = _damage(names.get(files.live.number, ""), recorded.get(files.live.number, []), sizes)

    def is_due(self, files: RunObjects, head: RunHead) -> bool:
        """See Storage.is_due: it has outgrown its generation, or ended and been quiet."""
        if files.live is None:
            return False
        if files.is_outgrown:
            return True
        if head.status == "running" or files.segments < WORTH_IT:
            return False
        files.whole = files.whole or self._tools.wall() - head.updated_at >= QUIET_S
        return files.whole

    def next_generation(self, files: RunObjects, state: RunState) -> tuple[Generation, bool]:
        """See Storage.next_generation."""
        now = self._tools.wall()
        names = [name for name in self._bucket.sizes(files.key) if EVENT_FILE_MARK in name]
        newest = newest_seconds(names, up_to=int(now) + CLOCK_AHEAD_S)
        earlier = bool(names or files.live or files.retired or files.leftovers)
        return files.new_generation(state, self._tools.host, now, newest), earlier

    def record_building(self, transaction: Transaction, files: RunObjects, generation: Generation) -> None:
        """See Storage.record_building. Readers may stand at a leftover: it goes as replaced ones do."""
        for leftover in files.leftovers:
            transaction.save_generation(self._retired(leftover))
        transaction.save_generation(generation)
        transaction.save_segment(self._opening(generation, published=False))

    def recorded_building(self, files: RunObjects) -> None:
        """See Storage.recorded_building."""
        files.retired.update({leftover.number: self._retired(leftover) for leftover in files.leftovers})
        files.leftovers.clear()

    def create(self, files: RunObjects, generation: Generation) -> Upload:
        """See Storage.create."""
        return Upload(self._bucket, files.object(generation, 0))

    def each(self, calls: Sequence[Callable[[], None]]) -> list[BaseException | None]:
        """See Storage.each."""
        return self._bucket.each(calls)

    def record_live(self, transaction: Transaction, files: RunObjects, live: Generation) -> None:
        """See Storage.record_live."""
        transaction.save_generation(live)
        transaction.save_segment(self._opening(live, published=True))

    def installed(self, files: RunObjects, live: Generation) -> None:
        """See Storage.installed."""
        files.went_live(live)

    def abandoned(self, files: RunObjects, generation: Generation) -> None:
        """See Storage.abandoned: it goes when another has taken its place."""

    def may_go(self, files: RunObjects, generation: Generation) -> bool:
        """See Storage.may_go: once a later one is live. Until then readers may stand at it, and the record of it says
        that they return to no older one."""
        return files.live is not None and files.live.number > generation.number

    def remove(self, name: str, generations: Sequence[Generation]) -> None:
        """See Storage.remove. The opening last: what a reader makes of segments alone is not taken back by the next."""
        key = run_key(name)
        for generation in generations:
            with self._tools.store.snapshot() as view:
                recorded = view.segments(generation.run_id, generation.number)
            keys = [f"{key}/{segment_name(generation.file_name, segment.number)}" for segment in reversed(recorded)]
            for some in (keys[:-1], keys[-1:]):
                for error in self._bucket.each([partial(self._bucket.remove, each) for each in some]):
                    if error is not None:
                        raise error

    def remove_all(self, name: str, generations: Sequence[Generation]) -> None:
        """See Storage.remove_all."""
        self.remove(name, generations)
        self._bucket.remove_empty(run_key(name))

    def release(self, files: RunObjects, generation: Generation) -> None:
        """See Storage.release."""

    def relieve(self, troubles: Troubles) -> None:
        """See Storage.relieve."""

    def close(self) -> None:
        """See Storage.close."""
        self._bucket.close()

    def stats(self) -> dict[str, float]:
        """See Storage.stats."""
        return {
            "export_object_requests_total": self._bucket.requests_total,
            "export_object_errors_total": self._bucket.breaker.errors_total,
            "export_object_storage_failing": float(self._bucket.breaker.failing),
        }

    def _retired(self, leftover: Generation) -> Generation:
        return replace(leftover, state=RETIRED, changed_at=self._tools.wall())

    def _opening(self, generation: Generation, *, published: bool) -> Segment:
        return Segment(
            run_id=generation.run_id,
            generation=generation.number,
            number=0,
            first_pos=1,
            last_pos=generation.first_pos,
            nbytes=generation.length,
            published=published,
            changed_at=generation.changed_at,
        )


def _damage(file_name: str, recorded: Sequence[Segment], sizes: dict[str, int]) -> str | None:
    """What is amiss with the objects of a generation; None if they are there, as long as they were."""
    for segment in recorded:
        name = segment_name(file_name, segment.number)
        if segment.published and sizes.get(name) != segment.nbytes:
            return f"{name} is missing" if name not in sizes else f"{name} has {sizes[name]} of {segment.nbytes} bytes"
    return None

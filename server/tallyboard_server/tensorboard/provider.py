"""TensorBoard's view of the store: a DataProvider that answers from what is committed at the moment it is asked.

A run is a run, by its name, with the tags of all its counters. A point is at the step of its own counter: a report
that says with `at` where other counters stood is still shown on the step that it counts. What a rewind superseded is
absent. A time series longer than was asked for comes as first, least, greatest and last point of stretches of it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tensorboard.data import provider

from tallyboard.wire.summaries import SCALARS
from tallyboard_server.store.perrun import PerRun
from tallyboard_server.store.protocol import Store
from tallyboard_server.tensorboard.blobs import TENSOR_BYTES_MAX, BlobReader
from tallyboard_server.tensorboard.listing import Listed, Listing
from tallyboard_server.tensorboard.scalars import Series, read_last, read_series

POINTS_MAX: Final = 250_000
"""Scalars in one answer, some 100 MB with all that TensorBoard makes of them; each series gets its share."""
_LAST_POINTS_MAX: Final = 200_000
"""Last points that are remembered, 150 bytes each."""

_TagsOf = Callable[[Listed], Mapping[str, Any]]


@dataclass(slots=True, frozen=True)
class Query:
    """What a plugin asks for, as DataProvider names it."""

    experiment_id: str
    plugin_name: str
    downsample: int | None = None
    run_tag_filter: Any = None

    @property
    def runs(self) -> Collection[str] | None:
        """The runs that are wanted; None: all."""
        found: Collection[str] | None = None if self.run_tag_filter is None else self.run_tag_filter.runs
        return found

    @property
    def tags(self) -> Collection[str] | None:
        """The tags that are wanted; None: all."""
        found: Collection[str] | None = None if self.run_tag_filter is None else self.run_tag_filter.tags
        return found

    @property
    def size(self) -> int:
        """Points of each time series, at most. Raises TypeError if that was not said."""
        if self.downsample is None:
            raise TypeError("downsample is required")
        return max(self.downsample, 1)


@dataclass(slots=True)
class Reading:
    """What providers of one store share: `listing` of its runs, `blobs`, and `last`: last points by run.

    prefix: what the names of the runs begin with that may be read just now. What is kept is kept by run, for all.
    """

    store: Store
    prefix: Callable[[], str] = str
    listing: Listing = field(init=False)
    blobs: BlobReader = field(init=False)
    last: PerRun[Series] = field(default_factory=lambda: PerRun(_LAST_POINTS_MAX))

    def __post_init__(self) -> None:
        self.listing = Listing(self.store, self.prefix)
        self.blobs = BlobReader(self.store, self.prefix)


class StoreProvider(provider.DataProvider):  # type: ignore[misc]
    """Reads from a store. Any thread may call; no call holds a snapshot for long, and answers are bounded."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def __str__(self) -> str:
        return "Tallyboard's store"

    def experiment_metadata(self, ctx: Any = None, *, experiment_id: str) -> Any:
        """See DataProvider."""
        return provider.ExperimentMetadata(data_location="Tallyboard")

    def list_plugins(self, ctx: Any = None, *, experiment_id: str) -> Any:
        """See DataProvider."""
        found: set[str] = set()
        for listed in self.reading.listing.runs():
            found |= listed.kinds
        return sorted(found)

    def list_runs(self, ctx: Any = None, *, experiment_id: str) -> Any:
        """See DataProvider; those that have anything to show, beginning when they were created."""
        return [
            provider.Run(listed.name, listed.name, listed.created_at)
            for listed in self.reading.listing.runs()
            if listed.kinds
        ]

    def list_scalars(self, ctx: Any = None, *, experiment_id: str, plugin_name: str, run_tag_filter: Any = None) -> Any:
        """See DataProvider; max_step and max_wall_time as listing.Listed has them."""
        query = Query(experiment_id, plugin_name, run_tag_filter=run_tag_filter)
        return {listed.name: {tag: listed.scalars[tag] for tag in found} for listed, found in self._scalars(query)}

    def read_scalars(
        self,
        ctx: Any = None,
        *,
        experiment_id: str,
        plugin_name: str,
        downsample: int | None = None,
        run_tag_filter: Any = None,
    ) -> Any:
        """See DataProvider; values are float64."""
        query = Query(experiment_id, plugin_name, downsample, run_tag_filter)
        wanted = [(listed.name, tags) for listed, tags in self._scalars(query)]
        share = POINTS_MAX // max(sum(len(tags) for _, tags in wanted), 1)
        size = min(query.size, max(share, 1))
        found = {run: read_series(self.reading.store, run, tags, size)[1] for run, tags in wanted}
        return {run: series for run, series in found.items() if series}

    def read_last_scalars(
        self, ctx: Any = None, *, experiment_id: str, plugin_name: str, run_tag_filter: Any = None
    ) -> Any:
        """See DataProvider."""
        query = Query(experiment_id, plugin_name, run_tag_filter=run_tag_filter)
        found = {}
        for listed, tags in self._scalars(query):
            last = self._last(listed)
            if data := {tag: last[tag] for tag in tags if tag in last}:
                found[listed.name] = data
        return found

    def list_tensors(self, ctx: Any = None, *, experiment_id: str, plugin_name: str, run_tag_filter: Any = None) -> Any:
        """See DataProvider; of the HParams plugin also what a run's config says."""
        query = Query(experiment_id, plugin_name, run_tag_filter=run_tag_filter)
        return {
            listed.name: {tag: listed.tensors[plugin_name][tag] for tag in tags}
            for listed, tags in self._tensors(query)
        }

    def read_tensors(
        self,
        ctx: Any = None,
        *,
        experiment_id: str,
        plugin_name: str,
        downsample: int | None = None,
        run_tag_filter: Any = None,
    ) -> Any:
        """See DataProvider; of very large tensors fewer points than were asked for."""
        query = Query(experiment_id, plugin_name, downsample, run_tag_filter)
        wanted = [(listed.name, tag) for listed, tags in self._tensors(query) for tag in tags]
        found: dict[str, dict[str, Any]] = {}
        left = TENSOR_BYTES_MAX
        for place, (run, tag) in enumerate(wanted):
            read = self.reading.blobs.tensors(run, tag, query.size, left // (len(wanted) - place))
            if read is not None:
                found.setdefault(run, {})[tag], taken = read
                left = max(left - taken, 0)
        return found

    def list_blob_sequences(
        self, ctx: Any = None, *, experiment_id: str, plugin_name: str, run_tag_filter: Any = None
    ) -> Any:
        """See DataProvider; max_length is that of the first or the last sequence, whichever is longer."""
        query = Query(experiment_id, plugin_name, run_tag_filter=run_tag_filter)
        return {
            listed.name: {tag: self._with_length(listed, plugin_name, tag) for tag in tags}
            for listed, tags in self._blobs(query)
        }

    def read_blob_sequences(
        self,
        ctx: Any = None,
        *,
        experiment_id: str,
        plugin_name: str,
        downsample: int | None = None,
        run_tag_filter: Any = None,
    ) -> Any:
        """See DataProvider."""
        query = Query(experiment_id, plugin_name, downsample, run_tag_filter)
        found: dict[str, dict[str, Any]] = {}
        for listed, tags in self._blobs(query):
            for tag in tags:
                if (data := self.reading.blobs.sequences(listed.name, tag, query.size)) is not None:
                    found.setdefault(listed.name, {})[tag] = data
        return found

    def read_blob(self, ctx: Any = None, *, blob_key: str) -> bytes:
        """See DataProvider."""
        return self.reading.blobs.blob(blob_key)

    def _scalars(self, query: Query) -> Iterator[tuple[Listed, list[str]]]:
        """Runs with the scalar tags that are wanted of them, those only that have some."""
        if query.plugin_name == SCALARS:
            yield from self._wanted(query, lambda listed: listed.scalars)

    def _tensors(self, query: Query) -> Iterator[tuple[Listed, list[str]]]:
        return self._wanted(query, lambda listed: listed.tensors.get(query.plugin_name, {}))

    def _blobs(self, query: Query) -> Iterator[tuple[Listed, list[str]]]:
        return self._wanted(query, lambda listed: listed.blobs.get(query.plugin_name, {}))

    def _wanted(self, query: Query, tags_of: _TagsOf) -> Iterator[tuple[Listed, list[str]]]:
        for listed in self.reading.listing.runs(query.runs):
            there = tags_of(listed)
            tags = list(there) if query.tags is None else [tag for tag in query.tags if tag in there]
            if tags:
                yield listed, tags

    def _last(self, listed: Listed) -> Series:
        last = self.reading.last.get(listed.run_id, listed.version)
        if last is None:
            version, last = read_last(self.reading.store, listed.name)
            self.reading.last.put(listed.run_id, version, last, 1 + len(last))
        return last

    def _with_length(self, listed: Listed, kind: str, tag: str) -> Any:
        series = listed.blobs[kind][tag]
        return provider.BlobSequenceTimeSeries(
            max_step=series.max_step,
            max_wall_time=series.max_wall_time,
            max_length=self.reading.blobs.length(listed.name, tag),
            plugin_content=series.plugin_content,
            description=series.description,
            display_name=series.display_name,
        )

"""Which runs there are, and which time series each has: what TensorBoard asks for all the time."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tensorboard.data import provider

from tallyboard.wire.summaries import SCALARS
from tallyboard_server.model import Counter, RunState
from tallyboard_server.store.perrun import KnownRuns, every_run, named_runs
from tallyboard_server.store.protocol import Store
from tallyboard_server.tensorboard import hparams
from tallyboard_server.tensorboard.kinds import BLOBS, TENSOR, described

WEIGHT_MAX: Final = 500_000
"""Units of roughly 100 bytes held in all: 50 MB, which is 10,000 runs of 40 tags."""
_BASE_WEIGHT: Final = 10
_UNIT_BYTES: Final = 100


@dataclass(slots=True, frozen=True)
class Listed:
    """A run as TensorBoard lists it. created_at: seconds since the epoch.

    scalars, tensors, blobs: by kind, then tag (scalars: by tag): TensorBoard's description of the time series. Those
    of blob sequences lack the length, which only the blobs themselves tell. summary: numbers of the run's summary.
    max_step and max_wall_time of a series are what is known without its points: where its counter stands, which is no
    less than the series' last step, and when the run last changed.
    """

    run_id: int
    name: str
    version: int
    created_at: float
    updated_at: float
    last_step: int
    scalars: Mapping[str, Any]
    tensors: Mapping[str, Mapping[str, Any]]
    blobs: Mapping[str, Mapping[str, Any]]
    summary: Mapping[str, float]

    @property
    def kinds(self) -> set[str]:
        """The plugin names of what it has."""
        return {*self.tensors, *self.blobs} | ({SCALARS} if self.scalars else set())


class Listing:
    """The runs of a store. A run that did not change since it was last listed is not read again."""

    def __init__(
        self,
        store: Store,
        prefix: Callable[[], str] = str,
        *,
        weight_max: int = WEIGHT_MAX,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """prefix: what the names of the runs begin with that may be listed just now."""
        self._store = store
        self._prefix = prefix
        self._known: KnownRuns[Listed] = KnownRuns(store, _weighed, weight_max, clock=clock)

    def runs(self, names: Collection[str] | None = None) -> Iterator[Listed]:
        """All runs by name, or those of these names that are there; no snapshot is held between two of them."""
        prefix = self._prefix()
        if names is None:
            heads = every_run(self._store, prefix=prefix)
        else:
            heads = named_runs(self._store, [name for name in names if name.startswith(prefix)])
        return self._known.of(heads)


def _weighed(state: RunState, version: int) -> tuple[Listed, int]:
    listed = listed_run(state, version)
    size = sum(len(series.plugin_content) for series in listed.tensors.get(hparams.KIND, {}).values())
    return listed, _BASE_WEIGHT + len(state.tags) + size // _UNIT_BYTES


def listed_run(state: RunState, version: int) -> Listed:
    """A run as it is listed, from its state alone."""
    scalars: dict[str, Any] = {}
    tensors: dict[str, dict[str, Any]] = {}
    blobs: dict[str, dict[str, Any]] = {}
    alike: dict[int, Any] = {}
    for tag, counter in state.visible_tags():
        if tag.is_scalar:
            if counter.id not in alike:
                alike[counter.id] = _series(provider.ScalarTimeSeries, state, counter)
            scalars[tag.name] = alike[counter.id]
            continue
        about = described(tag.kind, tag.metadata, tag.name)
        if about.data_class == TENSOR:
            named = tensors.setdefault(tag.kind, {})
            named[tag.name] = _series(provider.TensorTimeSeries, state, counter, **about.texts)
        elif about.data_class == BLOBS:
            named = blobs.setdefault(tag.kind, {})
            named[tag.name] = _series(provider.BlobSequenceTimeSeries, state, counter, max_length=None, **about.texts)
    for name, content in hparams.contents(state.meta).items():
        series = _series(provider.TensorTimeSeries, state, None, plugin_content=content)
        tensors.setdefault(hparams.KIND, {}).setdefault(name, series)
    return Listed(
        state.id,
        state.name,
        version,
        state.meta.created_at,
        state.meta.updated_at,
        max((c.last_step for c in state.counters.values() if c.last_step is not None), default=0),
        scalars,
        tensors,
        blobs,
        hparams.numbers(state.meta.summary),
    )


def _series(kind: Any, state: RunState, counter: Counter | None, **about: Any) -> Any:
    """One of the provider's TimeSeries; no counter: one point at step 0."""
    texts = {"plugin_content": b"", "description": "", "display_name": ""} | about
    step = 0 if counter is None else counter.last_step
    return kind(max_step=step or 0, max_wall_time=state.meta.updated_at, **texts)

"""The HParams tab, to which the numbers of a run's summary are metrics like the last points of its tags."""

import copy
from typing import Any

from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin
from tensorboard.plugins.scalar import metadata
from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin

from tallyboard_server.tensorboard.listing import Listed
from tallyboard_server.tensorboard.provider import Query, StoreProvider


class HParamsLoader(base_plugin.TBLoader):  # type: ignore[misc]
    """Loads the HParams plugin with a provider, and a scalars plugin, of its own."""

    def load(self, context: Any) -> Any:
        """See TBLoader."""
        own = copy.copy(context)
        own.data_provider = SummaryProvider(context.data_provider.reading)
        own.plugin_name_to_instance = {metadata.PLUGIN_NAME: ScalarsPlugin(own)}
        return HParamsPlugin(own)


class SummaryProvider(StoreProvider):
    """A StoreProvider in which a number of a run's summary is a scalar of that name, at the step where the run stands.

    Where the run has a tag of that name, its curve is the tag's, and its last value the summary's.
    """

    def list_scalars(self, ctx: Any = None, **query: Any) -> Any:
        """See DataProvider."""
        found = super().list_scalars(ctx, **query)
        for run, data in self._summaries(query).items():
            named = {
                tag: provider.ScalarTimeSeries(
                    max_step=datum.step,
                    max_wall_time=datum.wall_time,
                    plugin_content=b"",
                    description="",
                    display_name="",
                )
                for tag, datum in data.items()
            }
            found[run] = {**named, **found.get(run, {})}
        return found

    def read_scalars(self, ctx: Any = None, **query: Any) -> Any:
        """See DataProvider."""
        found = super().read_scalars(ctx, **query)
        for run, data in self._summaries(query).items():
            found[run] = {**{tag: [datum] for tag, datum in data.items()}, **found.get(run, {})}
        return found

    def read_last_scalars(self, ctx: Any = None, **query: Any) -> Any:
        """See DataProvider."""
        found = super().read_last_scalars(ctx, **query)
        for run, data in self._summaries(query).items():
            found[run] = {**found.get(run, {}), **data}
        return found

    def _summaries(self, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """By run and name, the numbers of summaries as ScalarDatum."""
        query = Query(**asked)
        if query.plugin_name != metadata.PLUGIN_NAME:
            return {}
        found = {listed.name: _data(listed, query) for listed in self.reading.listing.runs(query.runs)}
        return {run: data for run, data in found.items() if data}


def _data(listed: Listed, query: Query) -> dict[str, Any]:
    return {
        name: provider.ScalarDatum(listed.last_step, listed.updated_at, value)
        for name, value in listed.summary.items()
        if query.tags is None or name in query.tags
    }

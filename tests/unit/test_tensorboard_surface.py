"""What is used of TensorBoard beyond its public names: this test fails when a new version changes it.

Then read what changed, mend `tallyboard_server.tensorboard`, widen the version in pyproject.toml, and write the new
surface down here.
"""

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tensorboard import assets, data_compat, dataclass_compat, default, program
from tensorboard.backend import application
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

from tallyboard_server.store.protocol import Store
from tallyboard_server.tensorboard import make_application
from tallyboard_server.tensorboard.application import plugins
from tallyboard_server.tensorboard.hparamstab import SummaryProvider
from tallyboard_server.tensorboard.provider import StoreProvider

ROOT = Path(__file__).parents[2]

_FILTERED = "(self, ctx=None, *, experiment_id, plugin_name, run_tag_filter=None)"
_SAMPLED = "(self, ctx=None, *, experiment_id, plugin_name, downsample=None, run_tag_filter=None)"
PROVIDER = {
    "experiment_metadata": "(self, ctx=None, *, experiment_id)",
    "list_blob_sequences": _FILTERED,
    "list_hyperparameters": "(self, ctx=None, *, experiment_ids, limit=None)",
    "list_plugins": "(self, ctx=None, *, experiment_id)",
    "list_runs": "(self, ctx=None, *, experiment_id)",
    "list_scalars": _FILTERED,
    "list_tensors": _FILTERED,
    "read_blob": "(self, ctx=None, *, blob_key)",
    "read_blob_sequences": _SAMPLED,
    "read_hyperparameters": "(self, ctx=None, *, experiment_ids, filters=None, sort=None, hparams_to_include=None)",
    "read_last_scalars": _FILTERED,
    "read_scalars": _SAMPLED,
    "read_tensors": _SAMPLED,
}
NOT_NEEDED = {"list_hyperparameters", "read_hyperparameters"}
"""Asked only while no run has a session by its tags; then there are none at all."""

_SERIES = "(*, max_step, max_wall_time, plugin_content, description, display_name, last_value=None)"
CALLED: list[tuple[Any, str]] = [
    (provider.ExperimentMetadata, "(*, data_location='', experiment_name='', experiment_description='', "
                                  "creation_time=0)"),
    (provider.Run, "(run_id, run_name, start_time)"),
    (provider.ScalarTimeSeries, _SERIES),
    (provider.ScalarDatum, "(step, wall_time, value)"),
    (provider.TensorTimeSeries, _SERIES),
    (provider.TensorDatum, "(step, wall_time, numpy)"),
    (provider.BlobSequenceTimeSeries, "(*, max_step, max_wall_time, max_length, plugin_content, description, "
                                      "display_name)"),
    (provider.BlobReference, "(blob_key, url=None)"),
    (provider.BlobSequenceDatum, "(step, wall_time, values)"),
    (provider.RunTagFilter, "(runs=None, tags=None)"),
    (program.TensorBoard, "(plugins=None, assets_zip_provider=None, server_class=None, subcommands=None)"),
    (program.TensorBoard.configure, "(self, argv=('',), **kwargs)"),
    (application.TensorBoardWSGIApp, "(flags, plugins, data_provider=None, assets_zip_provider=None, "
                                     "deprecated_multiplexer=None, auth_providers=None, "
                                     "experimental_middlewares=None)"),
    (assets.get_default_assets_zip_provider, "()"),
    (base_plugin.TBLoader.load, "(self, context)"),
    (base_plugin.TBContext, "(*, assets_zip_provider=None, data_provider=None, flags=None, logdir=None, "
                            "multiplexer=None, plugin_name_to_instance=None, sampling_hints=None, "
                            "window_title=None)"),
    (data_compat.migrate_event, "(event)"),
    (dataclass_compat.migrate_event, "(event, initial_metadata)"),
    (tensor_util.make_ndarray, "(tensor)"),
]  # fmt: skip

OUR_PLUGINS = [
    "CorePluginLoader", "timeseries", "scalars", "custom_scalars", "images", "audio", "graphs", "distributions",
    "histograms", "text", "pr_curves", "hparams", "mesh",
]  # fmt: skip
OTHER_PLUGINS = {"debugger-v2", "ProfileRedirectPluginLoader", "WITRedirectPluginLoader"}

ROUTES = {
    "/audio": {"audio", "individualAudio", "tags"},
    "/custom_scalars": {"download_data", "layout", "scalars"},
    "/distributions": {"distributions", "tags"},
    "/graphs": {"graph", "info", "run_metadata"},
    "/histograms": {"histograms", "tags"},
    "/hparams": {"download_data", "experiment", "metric_evals", "session_groups"},
    "/images": {"images", "individualImage", "tags"},
    "/mesh": {"data", "meshes", "tags"},
    "/pr_curves": {"pr_curves", "tags"},
    "/scalars": {"scalars", "scalars_multirun", "tags"},
    "/text": {"tags", "text"},
    "/timeseries": {"imageData", "tags", "timeSeries"},
}
CORE_ROUTES = {
    "environment", "experiment_runs", "experiments", "logdir", "notifications", "plugin_entry.html", "plugins_listing",
    "runs", "window_properties",
}  # fmt: skip


class NoStore:
    """Stands where a store has to be and is never asked."""


def name_of(plugin: Any) -> str:
    """A plugin's name, or that of the class that loads it."""
    kind = plugin if isinstance(plugin, type) else type(plugin)
    return str(getattr(plugin, "plugin_name", None) or kind.__name__)


@pytest.fixture(scope="module")
def made() -> Any:
    store: Any = NoStore()
    checked: Store = store
    return make_application(checked)


def test_the_version_is_pinned_to_the_one_that_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pinned,) = (line for line in project["optional-dependencies"]["server"] if line.startswith("tensorboard>"))
    major, minor, _ = version("tensorboard").split(".")
    assert pinned == f"tensorboard>={major}.{minor},<{major}.{int(minor) + 1}"


def test_a_provider_is_asked_what_ours_answers() -> None:
    methods = {
        name: str(inspect.signature(method))
        for name, method in vars(provider.DataProvider).items()
        if inspect.isfunction(method) and not name.startswith("_")
    }
    assert methods == PROVIDER
    assert {name for name in PROVIDER if name not in vars(StoreProvider)} == NOT_NEEDED


@pytest.mark.parametrize("name", sorted(set(PROVIDER) - NOT_NEEDED))
def test_ours_takes_the_same_parameters(name: str) -> None:
    theirs = inspect.signature(getattr(provider.DataProvider, name)).parameters
    ours = inspect.signature(getattr(StoreProvider, name)).parameters
    assert [(p.name, p.kind, p.default) for p in ours.values()] == [
        (p.name, p.kind, p.default) for p in theirs.values()
    ]
    assert issubclass(SummaryProvider, StoreProvider)


@pytest.mark.parametrize(("called", "signature"), CALLED, ids=lambda part: getattr(part, "__qualname__", ""))
def test_what_is_called_takes_what_it_took(called: Any, signature: str) -> None:
    assert str(inspect.signature(called)) == signature


def test_the_plugins_are_all_that_there_are_but_for_those_that_read_files() -> None:
    assert set(map(name_of, default.get_static_plugins())) == {*OUR_PLUGINS, *OTHER_PLUGINS}
    assert [name_of(plugin).replace("HParamsLoader", "hparams") for plugin in plugins()] == OUR_PLUGINS


def test_the_routes_that_the_page_asks(made: Any) -> None:
    data = {route.removeprefix("/data/") for route in made.exact_routes if route.startswith("/data/")}
    assert {route for route in data if not route.startswith("plugin/")} == CORE_ROUTES
    assert {route.removeprefix("plugin") for route in data if route.startswith("plugin/")} == {
        f"{plugin}/{route}" for plugin, routes in ROUTES.items() for route in routes
    }
    assert not made.prefix_routes
    assert {"/", "/index.html", "/index.js", "/icon_bundle.svg", "/chart_worker.js"} <= set(made.exact_routes)


def test_the_names_of_hyperparameters() -> None:
    assert (metadata.PLUGIN_NAME, metadata.PLUGIN_DATA_VERSION) == ("hparams", 0)
    assert metadata.SESSION_START_INFO_TAG == "_hparams_/session_start_info"
    assert metadata.SESSION_END_INFO_TAG == "_hparams_/session_end_info"

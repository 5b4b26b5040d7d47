"""Puts TensorBoard together: its own plugins on a provider that reads from the store."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from tallyboard_server.store.protocol import Store

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

WINDOW_TITLE: Final = "TensorBoard · Tallyboard"


def make_application(store: Store) -> WsgiApplication:
    """TensorBoard on what is in the store, as far as reach.ASKING reaches; imports it."""
    from tensorboard import assets, program
    from tensorboard.backend import application

    from tallyboard_server.tensorboard.provider import Reading, StoreProvider
    from tallyboard_server.tensorboard.reach import prefix_asked

    board = program.TensorBoard(plugins(), assets.get_default_assets_zip_provider())
    # It insists on being told where its data is. The address is never asked: the provider is given below.
    board.configure(argv=("tensorboard", "--grpc_data_provider=unused"), window_title=WINDOW_TITLE)
    made: WsgiApplication = application.TensorBoardWSGIApp(
        board.flags, board.plugin_loaders, StoreProvider(Reading(store, prefix_asked)), board.assets_zip_provider
    )
    return made


def plugins() -> list[Any]:
    """TensorBoard's own plugins that show what a provider gives, in the order of their tabs.

    The others, and those of other packages, read files of their own from a logdir.
    """
    from tensorboard.plugins.audio.audio_plugin import AudioPlugin
    from tensorboard.plugins.core.core_plugin import CorePluginLoader
    from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
    from tensorboard.plugins.distribution.distributions_plugin import DistributionsPlugin
    from tensorboard.plugins.graph.graphs_plugin import GraphsPlugin
    from tensorboard.plugins.histogram.histograms_plugin import HistogramsPlugin
    from tensorboard.plugins.image.images_plugin import ImagesPlugin
    from tensorboard.plugins.mesh.mesh_plugin import MeshPlugin
    from tensorboard.plugins.metrics.metrics_plugin import MetricsPlugin
    from tensorboard.plugins.pr_curve.pr_curves_plugin import PrCurvesPlugin
    from tensorboard.plugins.scalar.scalars_plugin import ScalarsPlugin
    from tensorboard.plugins.text.text_plugin import TextPlugin

    from tallyboard_server.tensorboard.hparamstab import HParamsLoader

    return [
        CorePluginLoader(),
        MetricsPlugin,
        ScalarsPlugin,
        CustomScalarsPlugin,
        ImagesPlugin,
        AudioPlugin,
        GraphsPlugin,
        DistributionsPlugin,
        HistogramsPlugin,
        TextPlugin,
        PrCurvesPlugin,
        HParamsLoader(),
        MeshPlugin,
    ]

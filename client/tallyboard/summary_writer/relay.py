"""The seam to tensorboardX: where its SummaryWriter would write Event protos to a file, they become reports.

Its SummaryWriter hands whole protos to what `_get_file_writer` returns; a Relay stands there. The protos may be those
of tensorboardX, torch or TensorBoard: they are read by the names of their fields.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Protocol

from tallyboard.collect.blobs import PendingBlob, encoded
from tallyboard.errors import ContractError
from tallyboard.wire import protos, summaries, tensors

GRAPH_METADATA: Final = summaries.plain_metadata(summaries.GRAPHS) + b"\x20\x03"
_UNCLEAN: Final = re.compile(r"[^-/\w.]")


class Sink(Protocol):
    """Where reports go: the SummaryWriter. Steps and wall times are as its caller gave them, or None."""

    @property
    def logdir(self) -> str:
        """The folder that the writer was given."""
        ...

    def take_scalars(self, scalars: Mapping[str, Any], step: Any, walltime: Any) -> None:
        """Report scalars."""
        ...

    def take_blob(self, tag: str, blob: partial[PendingBlob], step: Any, walltime: Any) -> None:
        """Report a point of another kind."""
        ...

    def take_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Report hyperparameters."""
        ...

    def reject(self, what: str, error: Exception) -> None:
        """Say that something can't be reported, or raise it if the run is strict."""
        ...

    def flush(self) -> None:
        """Have what was reported safe."""
        ...

    def close(self) -> None:
        """End."""
        ...


class Relay:
    """A tensorboardX FileWriter, as far as code outside it uses one.

    tag: what the caller named, whose letters tensorboardX replaces by `_` where TensorFlow once did not take them.
    """

    def __init__(self, sink: Sink, tag: str | None = None) -> None:
        self._sink = sink
        self._tag = tag
        self._cleaned = None if tag is None else _UNCLEAN.sub("_", tag).lstrip("/")

    @property
    def event_writer(self) -> "Relay":
        """What scripts hand whole events to."""
        return self

    def get_logdir(self) -> str:
        """The folder that the writer was given, made if need be."""
        return self._sink.logdir

    def add_summary(self, summary: Any, global_step: Any = None, walltime: Any = None) -> None:
        """Report each value of a Summary; one that can't be does not harm the others."""
        for value in summary.value:
            try:
                self._add_value(value, global_step, walltime)
            except ContractError:
                raise
            except Exception as error:  # noqa: BLE001 - training is never harmed, by no proto
                self._sink.reject(f"tag {value.tag!r}", error)

    def add_event(self, event: Any, step: Any = None, walltime: Any = None) -> None:
        """Report what an Event holds, if it is a summary or a graph; the rest is about files."""
        step = int(event.step) if step is None else step
        walltime = (event.wall_time or None) if walltime is None else walltime
        match event.WhichOneof("what"):
            case "summary":
                self.add_summary(event.summary, step, walltime)
            case "graph_def":
                self._add_graph(bytes(event.graph_def), walltime)

    def add_graph(self, graph_profile: Any, walltime: Any = None) -> None:
        """Report a graph; how long its nodes took is left out."""
        self.add_onnx_graph(graph_profile[0], walltime)

    def add_onnx_graph(self, graph: Any, walltime: Any = None) -> None:
        """Report a graph."""
        self._add_graph(graph.SerializeToString(), walltime)

    add_openvino_graph = add_onnx_graph

    def flush(self) -> None:
        """Have what was reported safe."""
        self._sink.flush()

    def close(self) -> None:
        """End the writer."""
        self._sink.close()

    def reopen(self) -> None:
        """Nothing: the next report does it."""

    def _add_value(self, value: Any, step: Any, walltime: Any) -> None:
        tag = self._tag if self._tag is not None and value.tag == self._cleaned else value.tag
        content = value.WhichOneof("value")
        if content == "simple_value":
            self._sink.take_scalars({tag: value.simple_value}, step, walltime)
            return
        metadata = value.metadata.SerializeToString()
        if value.metadata.plugin_data.plugin_name == summaries.HPARAMS:
            self._add_hparams(value.metadata.plugin_data.content)
            return
        if content is None:
            raise ValueError("tensorboardX made nothing to send (is a library missing that it needs?)")
        number = value.DESCRIPTOR.fields_by_name[content].number
        blob = protos.sized(number, getattr(value, content).SerializeToString())
        if content == "tensor" and _is_scalar(value.metadata):
            self._sink.take_scalars(
                {tag: tensors.scalar_of(memoryview(value.tensor.SerializeToString()))}, step, walltime
            )
            return
        self._sink.take_blob(tag, partial(encoded, metadata, blob), step, walltime)

    def _add_hparams(self, content: bytes) -> None:
        """The hyperparameters that a session begins with; what else the plugin wants is made of config and summary."""
        from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

        data = HParamsPluginData.FromString(content)
        if data.WhichOneof("data") == "session_start_info":
            hparams = data.session_start_info.hparams
            self._sink.take_hparams({name: _plain(hparams[name]) for name in hparams})

    def _add_graph(self, graph: bytes, walltime: Any) -> None:
        blob = protos.sized(summaries.TENSOR_FIELD, tensors.string_tensor(graph))
        self._sink.take_blob(summaries.GRAPH_TAG, partial(encoded, GRAPH_METADATA, blob), None, walltime)


def _is_scalar(metadata: Any) -> bool:
    return summaries.read_metadata(metadata.SerializeToString()).is_scalar


def _plain(value: Any) -> Any:
    """A protobuf Value as Python has it."""
    kind = value.WhichOneof("kind")
    return None if kind is None else getattr(value, kind)

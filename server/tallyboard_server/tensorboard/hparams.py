"""Config, status and summary of a run as TensorBoard's HParams plugin knows them."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

from tallyboard_server.model import RunMeta

KIND: Final = metadata.PLUGIN_NAME
HPARAMS_MAX: Final = 500
"""Most entries of a config that are shown."""
TEXT_MAX: Final = 200
"""Most characters of a value that are shown."""

_STATUSES: Final = {
    "running": api_pb2.STATUS_RUNNING,
    "finished": api_pb2.STATUS_SUCCESS,
    "failed": api_pb2.STATUS_FAILURE,
}


def contents(meta: RunMeta) -> dict[str, bytes]:
    """Plugin data by tag, as a writer of hyperparameters would have left it; none if the run has no config."""
    values = dict(_flat(meta.config))
    if not values:
        return {}
    start = plugin_data_pb2.SessionStartInfo(start_time_secs=meta.created_at)
    for name, value in values.items():
        _put(start.hparams[name], value)
    end = plugin_data_pb2.SessionEndInfo(status=_STATUSES[meta.status])
    if meta.status != "running":
        end.end_time_secs = meta.updated_at
    return {
        metadata.SESSION_START_INFO_TAG: _content(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: _content(session_end_info=end),
    }


def numbers(summary: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a summary, nested ones under dotted names: what can be a metric."""
    return {
        name: float(value)
        for name, value in _flat(summary)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The entries of nested objects, dots between their keys; without those that are null, and bounded."""
    waiting = [("", document)]
    left = HPARAMS_MAX
    while waiting:
        prefix, found = waiting.pop()
        for key, value in found.items():
            name = f"{prefix}{key}"
            if isinstance(value, Mapping) and value:
                waiting.append((f"{name}.", value))
            elif value is not None and left:
                left -= 1
                yield name, value


def _put(target: Any, value: Any) -> None:
    """Write a JSON value into a google.protobuf.Value, which takes numbers, texts and truth values for hparams."""
    if isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, (int, float)) and math.isfinite(value):
        target.number_value = value
    else:
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        target.string_value = text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"


def _content(**part: Any) -> bytes:
    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **part)
    return bytes(data.SerializeToString())

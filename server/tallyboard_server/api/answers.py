"""Answers in the form the client asked for: JSON, or MessagePack by its Accept header."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import JSON, MSGPACK

_encode_json: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode
_encode_msgpack: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode

Column = npt.NDArray[np.int64] | npt.NDArray[np.float64]


def wants_msgpack(request: Request) -> bool:
    """Whether the Accept header names MessagePack."""
    accept = request.headers.get("accept")
    return accept is not None and "msgpack" in accept


def answer(request: Request, message: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A message as a response."""
    media_type = MSGPACK if wants_msgpack(request) else JSON
    return Response(encoder(request)(message), status, headers, media_type)


def encoder(request: Request) -> Callable[[Any], bytes]:
    """What `answer` will encode with."""
    return _encode_msgpack if wants_msgpack(request) else _encode_json


def json_column(column: Column) -> list[Any]:
    """A column as a JSON list: what JSON has no number for as NaN, Infinity, -Infinity (msgspec would send null)."""
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f" and not (finite := np.isfinite(column)).all():
        for index in np.flatnonzero(~finite).tolist():
            values[index] = _non_finite(values[index])
    return values


def json_value(value: Any) -> Any:
    """A single value as `json_column` has them; lists and objects as they are."""
    return _non_finite(value) if isinstance(value, float) and not math.isfinite(value) else value


def binary_column(column: Column) -> memoryview:
    """A column as little-endian bytes."""
    little = np.ascontiguousarray(column, dtype=column.dtype.newbyteorder("<"))
    return little.view(np.uint8).data


def _non_finite(value: float) -> str:
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"

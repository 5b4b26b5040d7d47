"""How values are spread: TensorBoard's tensor of [left, right, count] for each bucket."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from tallyboard.collect.blobs import PendingBlob, encoded
from tallyboard.errors import InvalidReportError
from tallyboard.summaries.arrays import LATER_BYTES_MAX, Array, as_array
from tallyboard.summaries.tensors import doubles, tensor_metadata
from tallyboard.wire import Float64

KIND: Final = "histograms"
METADATA: Final = tensor_metadata(KIND)
BINS: Final = 30
"""As many as TensorBoard's own writers make."""
BINS_MAX: Final = 10_000
_BUCKET_BYTES: Final = 3 * 8
_PAD_SHARE: Final = 2.0**-20
_FLOAT_MAX: Final = float(np.finfo(np.float64).max)


def histogram_blob(values: Any, bins: int | Sequence[float]) -> PendingBlob:
    """A point of a histogram tag.

    values: numbers of any shape; those that are not finite are left out. bins: how many of equal width between the
    least and the largest value, or their edges, ascending (values beyond them are left out).
    Raises InvalidReportError if nothing is left.
    """
    array = as_array(values, "histogram").reshape(-1)
    edges = _edges(bins)
    if array.dtype.kind == "f":
        finite = np.isfinite(array)
        array = array if finite.all() else array[finite]
    if not array.size:
        raise InvalidReportError("a histogram of no finite value")
    if array.nbytes > LATER_BYTES_MAX:
        return encoded(METADATA, _encode(array, edges))
    data = array.tobytes()
    content = (array.dtype.str, data, edges if isinstance(edges, int) else edges.tobytes())
    buckets = edges if isinstance(edges, int) else len(edges)
    nbytes = max(len(data), _BUCKET_BYTES * buckets) + 1024
    return PendingBlob(KIND, METADATA, nbytes, content, partial(_later, data, array.dtype.str, edges))


def counted_blob(counts: Sequence[float], edges: Sequence[float]) -> PendingBlob:
    """A point of a histogram tag that is counted already: how many lie between each edge and the next.

    Raises InvalidReportError if they do not fit together.
    """
    found = _edges(edges)
    numbers = as_array(counts, "counts").astype(np.float64)
    if isinstance(found, int) or numbers.shape != (len(found) - 1,) or not (numbers >= 0).all():
        raise InvalidReportError("a histogram of n counts, none below 0, has n + 1 edges")
    return encoded(METADATA, doubles(np.stack((found[:-1], found[1:], numbers), axis=1)))


def _edges(bins: Any) -> int | Float64:
    if isinstance(bins, int):
        if not 1 <= bins <= BINS_MAX:
            raise InvalidReportError(f"{bins} bins; 1 to {BINS_MAX:,}")
        return bins
    edges = as_array(bins, "bins").astype(np.float64)
    if edges.ndim != 1 or not 2 <= len(edges) <= BINS_MAX or not (np.diff(edges) > 0).all():
        raise InvalidReportError(f"bins: 2 to {BINS_MAX:,} edges, ascending")
    if not np.isfinite(edges).all():
        raise InvalidReportError("bins: edges are finite")
    return edges


def _later(data: bytes, dtype: str, edges: int | Float64) -> bytes:
    return _encode(np.frombuffer(data, dtype), edges)


def _encode(values: Array, bins: int | Float64) -> bytes:
    values = values.astype(np.uint8) if values.dtype.kind == "b" else values
    edges = _even(float(values.min()), float(values.max()), bins) if isinstance(bins, int) else bins
    counts, _ = np.histogram(values, edges)
    return doubles(np.stack((edges[:-1], edges[1:], counts), axis=1).astype(np.float64))


def _even(least: float, largest: float, bins: int) -> Float64:
    """Edges of equal distance, whatever the range: numpy's own fail where it is very narrow, or very wide."""
    if least == largest:
        pad = max(0.5, abs(least) * _PAD_SHARE)
        least, largest = max(least - pad, -_FLOAT_MAX), min(largest + pad, _FLOAT_MAX)
    share = np.linspace(0.0, 1.0, bins + 1)
    edges: Float64 = np.maximum.accumulate(least * (1.0 - share) + largest * share)
    return edges

"""An array as an image: TensorBoard's tensor of width, height and a PNG file."""

from functools import partial
from typing import Any, Final, Literal, get_args

import numpy as np

from tallyboard.collect.blobs import PendingBlob, encoded
from tallyboard.errors import InvalidReportError
from tallyboard.summaries import png
from tallyboard.summaries.arrays import LATER_BYTES_MAX, Array, as_array
from tallyboard.summaries.tensors import blob_sequence_metadata, strings
from tallyboard.wire import limits

Layout = Literal["HW", "HWC", "CHW"]
"""What the axes of an image are: height, width, channels."""

KIND: Final = "images"
METADATA: Final = blob_sequence_metadata(KIND)
PIXEL_BYTES_MAX: Final = 16 * limits.BLOB_BYTES_MAX
"""Larger images are not even tried: encoding them takes seconds, and no file of them would be small enough."""


def image_blob(image: Any, layout: Layout | None) -> PendingBlob:
    """A point of an image tag.

    image: [height, width], [height, width, channels] or [channels, height, width] with 1 (grey), 2 (grey, alpha),
    3 (RGB) or 4 (RGBA) channels; uint8 or other integers from 0 to 255, floats from 0 to 1, or bools. Beyond these
    bounds values are clipped, and NaN is 0. layout: which of them; found out from the shape if None, where channels
    come last if that can be. Raises InvalidReportError if it is none of this.
    """
    pixels = _pixels(as_array(image, "image"), layout)
    if pixels.nbytes > LATER_BYTES_MAX:
        return encoded(METADATA, _encode(pixels.tobytes(), pixels.shape))
    data = pixels.tobytes()
    return PendingBlob(KIND, METADATA, len(data) + 1024, (pixels.shape, data), partial(_encode, data, pixels.shape))


def _pixels(array: Array, layout: Layout | None) -> png.Pixels:
    """uint8[height, width, channels]"""
    if array.nbytes > PIXEL_BYTES_MAX * (4 if array.dtype.kind == "f" else 1):
        raise InvalidReportError(f"an image of shape {array.shape} is too large")
    found = layout or _layout(array)
    if found not in get_args(Layout):
        raise InvalidReportError(f"layout {found!r} is not known; use 'HW', 'HWC' or 'CHW'")
    if array.ndim != len(found):
        raise InvalidReportError(f"an image of shape {array.shape} is not {found}")
    if found == "HW":
        array = array[:, :, None]
    elif found == "CHW":
        array = array.transpose(1, 2, 0)
    if 0 in array.shape or array.shape[2] not in png.COLOR_TYPES:
        raise InvalidReportError(f"an image of {array.shape[0]} × {array.shape[1]} pixels, {array.shape[2]} channels")
    return _bytes(array)


def _layout(array: Array) -> str:
    if array.ndim == 2:
        return "HW"
    if array.ndim == 3 and array.shape[2] in png.COLOR_TYPES:
        return "HWC"
    if array.ndim == 3 and array.shape[0] in png.COLOR_TYPES:
        return "CHW"
    raise InvalidReportError(f"an array of shape {array.shape} is no image: [H, W], [H, W, C] or [C, H, W]")


def _bytes(array: Array) -> png.Pixels:
    pixels: png.Pixels
    match array.dtype.kind:
        case "b":
            pixels = np.where(array, np.uint8(255), np.uint8(0))
        case "f":
            scaled = np.nan_to_num(array.astype(np.float32), nan=0.0, posinf=1.0, neginf=0.0)
            pixels = np.rint(np.clip(scaled, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)
        case _:
            pixels = array if array.dtype == np.uint8 else np.clip(array, 0, 255).astype(np.uint8)
    return pixels


def _encode(data: bytes, shape: tuple[int, ...]) -> bytes:
    height, width, _ = shape
    file = png.encode(np.frombuffer(data, np.uint8).reshape(shape))
    return strings((str(width).encode(), str(height).encode(), file))

"""Images, text and histograms made by hand are what TensorBoard's own protos and decoders take them for."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary as TensorboardSummary
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
from tensorboard.dataclass_compat import migrate_event
from tensorboard.plugins.histogram import metadata as histogram_metadata
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.text import metadata as text_metadata
from tensorboard.util import tensor_util
from tensorboardX.proto.summary_pb2 import Summary

from tallyboard.collect.blobs import PendingBlob, encoded
from tallyboard.errors import InvalidReportError
from tallyboard.summaries import arrays, histograms, png
from tallyboard.summaries.histograms import histogram_blob
from tallyboard.summaries.images import image_blob
from tallyboard.summaries.texts import text_blob
from tallyboard.wire import limits, summaries


def decoded(blob: PendingBlob) -> Any:
    """The tensor, as TensorBoard reads it."""
    encoded_value = blob.encode()
    assert summaries.blob_field(encoded_value) == summaries.TENSOR_FIELD
    assert Summary.Value.FromString(encoded_value).SerializeToString(deterministic=True) == encoded_value
    return tensor_util.make_ndarray(TensorboardSummary.Value.FromString(encoded_value).tensor)


def shown(blob: PendingBlob) -> np.ndarray[Any, Any]:
    """The pixels of an image, as another library reads them: [height, width, channels]."""
    width, height, file = decoded(blob)
    pixels = np.asarray(Image.open(io.BytesIO(file)))
    assert (int(height), int(width)) == pixels.shape[:2]
    return pixels.reshape(*pixels.shape[:2], -1)


PIXELS = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32)).map(
    lambda size: np.random.default_rng(size[3]).integers(0, 256, size[:3], dtype=np.uint8)
)


@settings(deadline=None, max_examples=60)
@given(PIXELS)
def test_another_decoder_gives_back_every_pixel(pixels: png.Pixels) -> None:
    with Image.open(io.BytesIO(png.encode(pixels))) as image:
        image.load()
        assert (np.asarray(image).reshape(pixels.shape) == pixels).all()


def test_a_filter_is_chosen_that_makes_smooth_images_small() -> None:
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    across, down = np.tile(ramp, (256, 1))[:, :, None], np.tile(ramp[:, None], (1, 256))[:, :, None]
    assert max(len(png.encode(across)), len(png.encode(down))) < 2_000
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert len(png.encode(noise)) < noise.nbytes * 1.02


def test_layouts_are_told_by_the_shape() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert (shown(image_blob(rgb, None)) == rgb).all()
    assert (shown(image_blob(rgb.transpose(2, 0, 1), None)) == rgb).all()
    assert (shown(image_blob(rgb[:, :, 0], None))[:, :, 0] == rgb[:, :, 0]).all()
    ambiguous = rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)
    assert (shown(image_blob(ambiguous, None)) == ambiguous).all()
    assert (shown(image_blob(ambiguous, "CHW")) == ambiguous.transpose(1, 2, 0)).all()


@pytest.mark.parametrize(
    ("given_", "bytes_"),
    [
        (np.array([[0.0, 0.5, 1.0, 1.5, -1.0, np.nan, np.inf, -np.inf]]), [0, 128, 255, 255, 0, 0, 255, 0]),
        (np.array([[0.0, 1.0]], np.float16), [0, 255]),
        (np.array([[0, 255, 256, -1]], np.int64), [0, 255, 255, 0]),
        (np.array([[False, True]]), [0, 255]),
        ([[0, 7]], [0, 7]),
    ],
)
def test_values_become_bytes(given_: Any, bytes_: list[int]) -> None:
    assert shown(image_blob(given_, None)).reshape(-1).tolist() == bytes_


@pytest.mark.parametrize(
    "image",
    [
        np.zeros(5),
        np.zeros((5, 5, 5)),
        np.zeros((0, 4)),
        np.zeros((2, 3, 4, 5)),
        "x",
        None,
        np.array([["a"]]),
        object(),
    ],
)
def test_what_is_no_image_is_told(image: Any) -> None:
    with pytest.raises(InvalidReportError):
        image_blob(image, None)


def test_a_layout_that_is_none_or_does_not_fit_is_told() -> None:
    with pytest.raises(InvalidReportError, match="NCHW"):
        image_blob(np.zeros((1, 3, 2, 2)), "NCHW")  # type: ignore[arg-type]
    with pytest.raises(InvalidReportError, match="not HW"):
        image_blob(np.zeros((3, 2, 2)), "HW")


def test_images_that_are_too_large_are_told_and_not_kept() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2_000, 2_000, 3), dtype=np.uint8)
    with pytest.raises(InvalidReportError, match="at most"):
        image_blob(noise, None)
    with pytest.raises(InvalidReportError, match="too large"):
        image_blob(np.broadcast_to(np.uint8(0), (20_000, 20_000, 3)), None)
    flat = image_blob(np.zeros((2_000, 2_000, 3), np.uint8), None)  # its file is small
    assert flat.nbytes < 100_000


def test_the_largest_image_that_waits_for_its_encoding_fits_when_it_is_encoded() -> None:
    side = int((arrays.LATER_BYTES_MAX / 3) ** 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    blob = image_blob(noise, None)
    assert blob.nbytes > noise.nbytes
    assert len(blob.encode()) <= limits.BLOB_BYTES_MAX


def test_an_array_that_changes_later_does_not_change_what_was_reported() -> None:
    pixels, values = np.zeros((4, 4), np.uint8), np.arange(10.0)
    image, histogram = image_blob(pixels, None), histogram_blob(values, 10)
    pixels[:], values[:] = 255, 0.0
    assert shown(image).max() == 0
    assert decoded(histogram)[:, 2].tolist() == [1.0] * 10


class Tensor:
    """Stands in for a tensor with gradients on a device, which numpy can't read as it is."""

    def __init__(self, values: Any, steps: tuple[str, ...] = ("detach", "cpu")) -> None:
        self._values, self._steps = values, steps

    def detach(self) -> "Tensor":
        return Tensor(self._values, tuple(step for step in self._steps if step != "detach"))

    def cpu(self) -> "Tensor":
        return Tensor(self._values, tuple(step for step in self._steps if step != "cpu"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        if self._steps:
            raise TypeError("can't be converted")
        return np.asarray(self._values, dtype)


def test_tensors_of_other_libraries_are_read() -> None:
    assert shown(image_blob(Tensor([[0, 1]]), None)).reshape(-1).tolist() == [0, 1]
    assert decoded(histogram_blob(Tensor([1.0, 2.0]), 2))[:, 2].tolist() == [1.0, 1.0]


# ── histograms ───────────────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.floats(-1e6, 1e6) | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=50),
    st.one_of(st.integers(1, 40), st.just([-1.0, 0.0, 2.5, 1e5])),
    st.sampled_from([np.float64, np.float32]),
)
@example([float(np.finfo(np.float64).max)], 1, np.float64)
def test_every_value_is_in_its_bucket(values: list[float], bins: int | list[float], dtype: Any) -> None:
    with np.errstate(over="ignore"):
        array = np.array(values).astype(dtype)
    assume(np.isfinite(array).all())
    buckets = decoded(histogram_blob(array, bins))
    left, right, counts = buckets.T
    assert buckets.dtype == np.float64
    assert (left <= right).all()
    assert (left[1:] == right[:-1]).all()
    if isinstance(bins, int):
        assert len(buckets) == bins
        # Around a single value there is room, but for that of the largest floats, beyond which there is none.
        assert (left[0], right[-1]) == (array.min(), array.max()) or left[0] <= array.min() == array.max() <= right[-1]
        assert counts.sum() == array.size
    else:
        assert [*left, right[-1]] == bins
    upper = np.append(array[:, None] < right[None, :-1], array[:, None] <= right[-1:], axis=1)
    assert (((array[:, None] >= left) & upper).sum(axis=0) == counts).all()


def test_buckets_are_numpys_own() -> None:
    values = np.random.default_rng(0).normal(size=1_000)
    counts, edges = np.histogram(values, 30)
    buckets = decoded(histogram_blob(values, 30))
    assert np.allclose(buckets[:, 0], edges[:-1])
    assert buckets[:, 2].tolist() == counts.tolist()
    assert decoded(histogram_blob(values > 0, 2))[:, 2].tolist() == [(values <= 0).sum(), (values > 0).sum()]


def test_values_that_are_not_finite_are_left_out() -> None:
    assert decoded(histogram_blob([np.nan, 1.0, np.inf, 2.0, -np.inf], 2))[:, 2].tolist() == [1.0, 1.0]
    with pytest.raises(InvalidReportError, match="no finite value"):
        histogram_blob([np.nan], 2)


def test_a_histogram_of_half_precision_does_not_overflow() -> None:
    buckets = decoded(histogram_blob(np.array([-60_000, 60_000], np.float16), 2))
    assert buckets[:, 2].tolist() == [1.0, 1.0]


def test_a_large_array_is_counted_at_once_and_not_kept() -> None:
    blob = histogram_blob(np.arange(1_000_000.0), 10)
    assert blob.nbytes < 1_000
    assert decoded(blob)[:, 2].tolist() == [100_000.0] * 10


@pytest.mark.parametrize(
    "bins", [0, -1, histograms.BINS_MAX + 1, [1.0], [2.0, 1.0], [0.0, np.nan], [[0.0, 1.0]], "auto", None]
)
def test_bins_that_are_none_are_told(bins: Any) -> None:
    with pytest.raises(InvalidReportError):
        histogram_blob([1.0, 2.0], bins)


# ── text and metadata ────────────────────────────────────────────────────────────────────────────────────────────


def test_text_is_shown_as_it_was_written() -> None:
    assert decoded(text_blob("# Größe ✓")).tolist() == ["# Größe ✓".encode()]
    assert decoded(text_blob(["a", "b"])).tolist() == [b"a", b"b"]
    assert decoded(text_blob("lone \ud800")).tolist() == [b"lone ?"]


@pytest.mark.parametrize("text", [None, 3, [], ["a", 3], [["a"]], "x" * (limits.BLOB_BYTES_MAX + 1)])
def test_what_is_no_text_or_too_long_is_told(text: Any) -> None:
    with pytest.raises(InvalidReportError):
        text_blob(text)


@pytest.mark.parametrize(
    ("blob", "theirs"),
    [
        (image_blob([[0]], None), image_metadata.create_summary_metadata("", "")),
        (histogram_blob([1.0], 1), histogram_metadata.create_summary_metadata("", "")),
        (text_blob("a"), text_metadata.create_summary_metadata("", "")),
    ],
)
def test_the_metadata_says_what_tensorboard_makes_of_its_own(blob: PendingBlob, theirs: SummaryMetadata) -> None:
    value = TensorboardSummary.Value(tag="t", metadata=theirs)
    value.MergeFromString(blob.encode())
    (event,) = migrate_event(Event(summary=TensorboardSummary(value=[value])), {})
    read, wanted = SummaryMetadata.FromString(blob.metadata), event.summary.value[0].metadata
    assert read.plugin_data.plugin_name == wanted.plugin_data.plugin_name == blob.kind
    assert read.data_class == wanted.data_class != 0


def test_the_same_content_is_told_by_the_same_bits() -> None:
    assert text_blob("a").bits == text_blob("a").bits != text_blob("b").bits
    assert image_blob([[1]], None).bits == image_blob(np.array([[1]], np.uint8), None).bits
    assert histogram_blob([1.0], 3).bits != histogram_blob([1.0], 4).bits


def test_what_the_service_would_not_take_is_told_at_once() -> None:
    for metadata, blob in ((b"\xff", b""), (b"", b"\x15\x00\x00\x00\x3f"), (b"", b"")):
        with pytest.raises(InvalidReportError):
            encoded(metadata, blob)

"""Images, histograms and tables: what is kept of them until their step is over, and how it is reported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tallyboard.collect.blobs import PendingBlob
from tallyboard.errors import InvalidReportError
from tallyboard.integrations.wandb.telling import tell
from tallyboard.summaries.arrays import Array, as_array
from tallyboard.summaries.histograms import counted_blob
from tallyboard.summaries.images import Layout, image_blob

BINS: Final = 64
BINS_MAX: Final = 512
_MODES: Final = frozenset({"L", "LA", "RGB", "RGBA"})


class Image:
    """An image: an array [H, W] or [H, W, C], a tensor [C, H, W], of Pillow, a figure of matplotlib, or a file.

    Read at once. Integers are from 0 to 255; floats, too, unless none is greater than 1: then from 0 to 1. What can't
    be read is told and left out. The caption, boxes, masks and classes are not kept.
    """

    def __init__(self, data_or_path: Any, mode: str | None = None, caption: str | None = None, **other: Any) -> None:
        self.caption = caption
        self.pixels: Array | None = None
        self.layout: Layout = "HW"
        if given := sorted(name for name, value in other.items() if value is not None and name != "file_type"):
            tell(f"wandb.Image: {', '.join(given)} not kept")
        try:
            self._read(data_or_path, mode)
        except Exception as error:  # noqa: BLE001 - foreign data may raise anything, and training goes on
            tell(f"wandb.Image: can't be read and is left out: {error}")

    def _read(self, data: Any, mode: str | None) -> None:
        if isinstance(data, Image):
            self.pixels, self.layout = data.pixels, data.layout
            return
        if isinstance(data, str | Path):
            from PIL import Image as pillow  # noqa: N813 - a module named as a class

            with pillow.open(data) as file:
                data = file.convert(mode or "RGB")
        elif callable(getattr(data, "savefig", None)):
            data = drawn(data)
        if type(data).__module__.startswith("PIL."):
            data = data if (mode or data.mode) == data.mode and data.mode in _MODES else data.convert(mode or "RGB")
        tensor = callable(getattr(data, "permute", None))  # torch's, whose channels come first
        array = as_array(data, "image")
        if not tensor and array.ndim > 2:
            array = array.squeeze()
        if array.dtype.kind == "f":
            array = np.nan_to_num(array.astype(np.float32), posinf=1.0, neginf=0.0)
            array = array / np.float32(255.0) if array.max(initial=0.0) > 1 else array
        self.layout = "HW" if array.ndim == 2 else "CHW" if tensor else "HWC"
        self.pixels = np.array(array)  # a copy: the caller may go on with its own

    def blob(self) -> PendingBlob:
        """For the report. Raises InvalidReportError."""
        if self.pixels is None:
            raise InvalidReportError("an image that could not be read")
        return image_blob(self.pixels, self.layout)


class Histogram:
    """How values are spread: counted at once over `num_bins` bins (at most 512), or by NumPy already."""

    def __init__(self, sequence: Any = None, np_histogram: Any = None, num_bins: int = BINS) -> None:
        self.histogram: list[float] = []
        self.bins: list[float] = []
        try:
            if np_histogram is not None:
                counts, edges = np_histogram
            else:
                values = as_array(sequence, "histogram").reshape(-1).astype(np.float64)
                counts, edges = np.histogram(values[np.isfinite(values)], bins=min(num_bins, BINS_MAX))
            self.histogram, self.bins = np.asarray(counts).tolist(), np.asarray(edges).tolist()
        except Exception as error:  # noqa: BLE001 - as above
            tell(f"wandb.Histogram: can't be counted and is left out: {error}")

    def blob(self) -> PendingBlob:
        """For the report. Raises InvalidReportError."""
        return counted_blob(self.histogram, self.bins)


class Table:
    """Rows by column, for code that fills one; logged, it is told and left out."""

    def __init__(self, columns: Sequence[str] | None = None, data: Any = None, dataframe: Any = None, **_: Any) -> None:
        if dataframe is not None:
            columns, data = list(dataframe.columns), dataframe.to_numpy().tolist()
        self.columns = list(columns or ("Input", "Output", "Expected"))
        self.data = [list(row) for row in (data if data is not None else ())]

    def add_data(self, *row: Any) -> None:
        """Add a row."""
        self.data.append(list(row))

    add_row = add_data

    def add_column(self, name: str, data: Any) -> None:
        """Add a column."""
        self.columns.append(name)
        values = list(data)
        self.data = [[*row, value] for row, value in zip(self.data or [[] for _ in values], values, strict=True)]

    def get_column(self, name: str) -> list[Any]:
        """The values of a column."""
        at = self.columns.index(name)
        return [row[at] for row in self.data]


def drawn(figure: Any) -> Array:
    """A figure's pixels [H, W, 4]; of `matplotlib.pyplot`, those of the current one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure.gcf() if hasattr(figure, "gcf") else figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())

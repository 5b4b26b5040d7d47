"""Every `add_…` of tensorboardX and torch.utils.tensorboard that adds something else than scalars, with its signature.

What the parameters mean is told by their documentation; the shapes here are theirs.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from tallyboard.collect.blobs import PendingBlob, encoded
from tallyboard.summaries import tensors
from tallyboard.summaries.arrays import as_array


class Kinds(ABC):
    """The methods; `_encode` does the work, and raises nothing unless the run is strict."""

    @abstractmethod
    def _encode(self, method: str, tag: str | None, /, **arguments: Any) -> None:
        """Have tensorboardX encode something, and report it."""

    @abstractmethod
    def take_blob(self, tag: str, blob: partial[PendingBlob], step: Any, walltime: Any) -> None:
        """Report a point of a tag that is no scalar."""

    def add_histogram(
        self,
        tag: str,
        values: Any,
        global_step: Any = None,
        bins: Any = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """How values are spread."""
        self._encode(
            "add_histogram", tag,
            tag=tag, values=values, global_step=global_step, bins=bins, walltime=walltime, max_bins=max_bins,
        )  # fmt: skip

    def add_histogram_raw(
        self,
        tag: str,
        min: Any,  # noqa: A002 - tensorboardX's names
        max: Any,  # noqa: A002
        num: Any,
        sum: Any,  # noqa: A002
        sum_squares: Any,
        bucket_limits: Any,
        bucket_counts: Any,
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """A histogram that is counted already."""
        self._encode(
            "add_histogram_raw", tag,
            tag=tag, min=min, max=max, num=num, sum=sum, sum_squares=sum_squares, bucket_limits=bucket_limits,
            bucket_counts=bucket_counts, global_step=global_step, walltime=walltime,
        )  # fmt: skip

    def add_image(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """One image."""
        self._encode(
            "add_image", tag,
            tag=tag, img_tensor=img_tensor, global_step=global_step, walltime=walltime, dataformats=dataformats,
        )  # fmt: skip

    def add_images(
        self,
        tag: str,
        img_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Several images, which become one."""
        self._encode(
            "add_images", tag,
            tag=tag, img_tensor=img_tensor, global_step=global_step, walltime=walltime, dataformats=dataformats,
        )  # fmt: skip

    def add_image_with_boxes(
        self,
        tag: str,
        img_tensor: Any,
        box_tensor: Any,
        global_step: Any = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
        labels: Any = None,
        **kwargs: Any,
    ) -> None:
        """An image with boxes drawn in."""
        self._encode(
            "add_image_with_boxes", tag,
            tag=tag, img_tensor=img_tensor, box_tensor=box_tensor, global_step=global_step, walltime=walltime,
            dataformats=dataformats, labels=labels, **kwargs,
        )  # fmt: skip

    def add_figure(
        self, tag: str, figure: Any, global_step: Any = None, close: bool = True, walltime: float | None = None
    ) -> None:
        """A figure of matplotlib, or several, as an image."""
        self._encode(
            "add_figure", tag, tag=tag, figure=figure, global_step=global_step, close=close, walltime=walltime
        )  # fmt: skip

    def add_video(
        self,
        tag: str,
        vid_tensor: Any,
        global_step: Any = None,
        fps: float = 4,
        walltime: float | None = None,
        dataformats: str = "NTCHW",
    ) -> None:
        """A video, as an image that moves."""
        self._encode(
            "add_video", tag,
            tag=tag, vid_tensor=vid_tensor, global_step=global_step, fps=fps, walltime=walltime,
            dataformats=dataformats,
        )  # fmt: skip

    def add_audio(
        self,
        tag: str,
        snd_tensor: Any,
        global_step: Any = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """A sound."""
        self._encode(
            "add_audio", tag,
            tag=tag, snd_tensor=snd_tensor, global_step=global_step, sample_rate=sample_rate, walltime=walltime,
        )  # fmt: skip

    def add_text(self, tag: str, text_string: str, global_step: Any = None, walltime: float | None = None) -> None:
        """A text, under the tag `<tag>/text_summary`."""
        self._encode(
            "add_text", tag, tag=tag, text_string=text_string, global_step=global_step, walltime=walltime
        )  # fmt: skip

    def add_tensor(self, tag: str, tensor: Any, global_step: Any = None, walltime: float | None = None) -> None:
        """A tensor, as torch.utils.tensorboard has it; kept as float64."""
        self.take_blob(tag, partial(_tensor_blob, tensor), global_step, walltime)

    def add_onnx_graph(self, onnx_model_file: Any = None, prototxt: Any = None) -> None:
        """The graph in an ONNX file; `prototxt` is what torch calls it."""
        self._encode("add_onnx_graph", None, onnx_model_file=prototxt if onnx_model_file is None else onnx_model_file)

    def add_openvino_graph(self, xmlname: Any) -> None:
        """The graph in an OpenVINO file."""
        self._encode("add_openvino_graph", None, xmlname=xmlname)

    def add_graph(
        self, model: Any, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
    ) -> None:
        """The graph of a torch model."""
        self._encode(
            "add_graph", None,
            model=model, input_to_model=input_to_model, verbose=verbose, use_strict_trace=use_strict_trace,
        )  # fmt: skip

    def add_pr_curve(
        self,
        tag: str,
        labels: Any,
        predictions: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """A precision-recall curve."""
        self._encode(
            "add_pr_curve", tag,
            tag=tag, labels=labels, predictions=predictions, global_step=global_step, num_thresholds=num_thresholds,
            weights=weights, walltime=walltime,
        )  # fmt: skip

    def add_pr_curve_raw(
        self,
        tag: str,
        true_positive_counts: Any,
        false_positive_counts: Any,
        true_negative_counts: Any,
        false_negative_counts: Any,
        precision: Any,
        recall: Any,
        global_step: Any = None,
        num_thresholds: int = 127,
        weights: Any = None,
        walltime: float | None = None,
    ) -> None:
        """A precision-recall curve that is counted already."""
        self._encode(
            "add_pr_curve_raw", tag,
            tag=tag, true_positive_counts=true_positive_counts, false_positive_counts=false_positive_counts,
            true_negative_counts=true_negative_counts, false_negative_counts=false_negative_counts,
            precision=precision, recall=recall, global_step=global_step, num_thresholds=num_thresholds,
            weights=weights, walltime=walltime,
        )  # fmt: skip

    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Tags that share a chart."""
        self._encode("add_custom_scalars_multilinechart", None, tags=tags, category=category, title=title)

    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Three tags of which two bound the first."""
        self._encode("add_custom_scalars_marginchart", None, tags=tags, category=category, title=title)

    def add_custom_scalars(self, layout: Mapping[str, Mapping[str, Any]]) -> None:
        """Which tags share charts."""
        self._encode("add_custom_scalars", None, layout=layout)

    def add_mesh(
        self,
        tag: str,
        vertices: Any,
        colors: Any = None,
        faces: Any = None,
        config_dict: Any = None,
        global_step: Any = None,
        walltime: float | None = None,
    ) -> None:
        """Meshes or point clouds."""
        self._encode(
            "add_mesh", tag,
            tag=tag, vertices=vertices, colors=colors, faces=faces, config_dict=config_dict, global_step=global_step,
            walltime=walltime,
        )  # fmt: skip


def _tensor_blob(values: Any) -> PendingBlob:
    return encoded(b"", tensors.doubles(as_array(values, "tensor").astype("float64")))

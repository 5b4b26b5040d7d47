"""SummaryWriter takes whatever tensorboardX's and torch.utils.tensorboard's take, in the same places."""

import inspect

import pytest
import tensorboardX

from tallyboard import SummaryWriter

TORCH = {
    "__init__": "log_dir comment purge_step max_queue flush_secs filename_suffix",
    "add_scalar": "tag scalar_value global_step walltime new_style double_precision",
    "add_scalars": "main_tag tag_scalar_dict global_step walltime",
    "add_tensor": "tag tensor global_step walltime",
    "add_histogram": "tag values global_step bins walltime max_bins",
    "add_histogram_raw": "tag min max num sum sum_squares bucket_limits bucket_counts global_step walltime",
    "add_image": "tag img_tensor global_step walltime dataformats",
    "add_images": "tag img_tensor global_step walltime dataformats",
    "add_figure": "tag figure global_step close walltime",
    "add_video": "tag vid_tensor global_step fps walltime",
    "add_audio": "tag snd_tensor global_step sample_rate walltime",
    "add_text": "tag text_string global_step walltime",
    "add_onnx_graph": "prototxt",
    "add_graph": "model input_to_model verbose use_strict_trace",
    "add_embedding": "mat metadata label_img global_step tag metadata_header",
    "add_pr_curve": "tag labels predictions global_step num_thresholds weights walltime",
    "add_pr_curve_raw": "tag true_positive_counts false_positive_counts true_negative_counts false_negative_counts"
    " precision recall global_step num_thresholds weights walltime",
    "add_custom_scalars_multilinechart": "tags category title",
    "add_custom_scalars_marginchart": "tags category title",
    "add_custom_scalars": "layout",
    "add_mesh": "tag vertices colors faces config_dict global_step walltime",
    "add_hparams": "hparam_dict metric_dict hparam_domain_discrete run_name global_step",
    "get_logdir": "",
    "flush": "",
    "close": "",
}
"""Parameters of torch.utils.tensorboard.SummaryWriter 2.x, as its documentation lists them."""

OTHER_DEFAULTS = {("__init__", "comet_config"), ("add_onnx_graph", "onnx_model_file")}
"""Where None stands for what is theirs: nothing for Comet, and torch's name for the file."""

METHODS = [
    name
    for name, method in inspect.getmembers(tensorboardX.SummaryWriter, callable)
    if not name.startswith("_") or name == "__init__"
]


def test_there_are_methods_to_compare() -> None:
    assert {"add_scalar", "add_mesh", "use_metadata", "export_scalars_to_json"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_tensorboardx_parameters_are_ours_in_the_same_order(name: str) -> None:
    theirs = inspect.signature(getattr(tensorboardX.SummaryWriter, name)).parameters
    ours = inspect.signature(getattr(SummaryWriter, name)).parameters
    positional = [p for p in theirs.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    mine = [p for p in ours.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in positional] == [p.name for p in mine][: len(positional)]
    for p in theirs.values():
        if p.kind is not p.VAR_KEYWORD:
            assert p.name in ours
            if (name, p.name) not in OTHER_DEFAULTS:
                assert ours[p.name].default == p.default


@pytest.mark.parametrize("name", TORCH)
def test_torchs_parameters_are_ours(name: str) -> None:
    ours = inspect.signature(getattr(SummaryWriter, name)).parameters
    theirs = ["self", *TORCH[name].split()]
    assert set(theirs) <= set(ours)
    inspect.signature(getattr(SummaryWriter, name)).bind(**dict.fromkeys(theirs))

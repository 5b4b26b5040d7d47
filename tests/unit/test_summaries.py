"""Which blobs readers could not take."""

from typing import Any

import pytest
from tensorboardX.proto import summary_pb2

from tallyboard.wire import protos
from tallyboard.wire.protos import MalformedError
from tallyboard.wire.summaries import blob_of
from tallyboard_server.summaries import check_blob, first_fault
from tests.summary_kit import columns_of, event, histogram_value, image_value, text_value, write_every_kind


def tensor(dtype: int, *sizes: int, **fields: Any) -> bytes:
    value = summary_pb2.Summary.Value()
    value.tensor.dtype = dtype
    value.tensor.tensor_shape.SetInParent()
    for size in sizes:
        value.tensor.tensor_shape.dim.add(size=size)
    for name, given in fields.items():
        if isinstance(given, list):
            getattr(value.tensor, name).extend(given)
        else:
            setattr(value.tensor, name, given)
    data: bytes = value.SerializeToString()
    return data


def unknown_rank() -> bytes:
    value = summary_pb2.Summary.Value()
    value.tensor.dtype = 1
    value.tensor.tensor_shape.unknown_rank = True
    data: bytes = value.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (tensor(1, 2**40, float_val=[1.0]), "at most 8388608"),
        (tensor(2, 2**20, 2**20, double_val=[1.0]), "at most 8388608"),
        (tensor(1, 3, float_val=[1.0, 2.0]), "3 numbers holds 2"),
        (tensor(1, 3, tensor_content=b"\0" * 8), "holds 8 bytes"),
        (tensor(1, 1, tensor_content=b"\0" * 4, float_val=[1.0]), "holds 4 bytes"),
        (tensor(7, 2**40, string_val=[b"x"]), "strings holds 1"),
        (tensor(7, 2, string_val=[b"x"]), "strings holds 1"),
        (tensor(1, -1), "unknown shape"),
        (unknown_rank(), "unknown shape"),
        (tensor(20, 1), "of type 20"),
        (protos.sized(8, protos.sized(14, b"")), "resources"),
        (protos.sized(8, protos.sized(15, b"")), "resources"),
        (protos.sized(8, b"\x08\x01" + protos.sized(16, b"\x01")), "does not know"),
        (protos.sized(8, protos.sized(2, b"\x12\x00" * 3000)), "shape of 60"),
        (protos.sized(8, b"\x2d\0\0\0\0" * 10_001), "more than 10000 fields"),
        (protos.sized(8, b"\x08"), "does not end"),
        (protos.sized(4, b"\x08\x01\xff"), "not a Summary.Value"),
        (histogram_value("", [1.0, 2.0], [1.0]).SerializeToString(), "1 buckets with 2 bucket limits"),
    ],
)
def test_blobs_that_would_harm_a_reader(data: bytes, why: str) -> None:
    with pytest.raises(MalformedError, match=why):
        check_blob(blob_of(data), "tensors")


def test_text_must_be_text() -> None:
    data = tensor(7, 1, string_val=[b"\xff\xfe"])
    check_blob(blob_of(data), "images")
    with pytest.raises(MalformedError, match="not valid UTF-8"):
        check_blob(blob_of(data), "text")


@pytest.mark.parametrize(
    "data",
    [
        tensor(1, 3, float_val=[1.0]),
        tensor(1, 3, float_val=[1.0, 2.0, 3.0]),
        tensor(1, 0),
        tensor(2, tensor_content=b"\0" * 8),
        tensor(7, 2, string_val=[b"\xff", b""]),
        histogram_value("", [], []).SerializeToString(),
        image_value("", 1).SerializeToString(),
    ],
)
def test_blobs_that_are_fine(data: bytes) -> None:
    check_blob(blob_of(data), "tensors")


def test_all_that_tensorboardx_writes_is_fine(tmp_path: Any) -> None:
    found = columns_of(*write_every_kind(tmp_path / "run"))
    kinds = {columns.kind for columns in found}
    assert kinds == {"scalars", "images", "histograms", "text", "pr_curves", "mesh", "custom_scalars"}
    assert [first_fault(columns) for columns in found] == [None] * len(found)


def test_the_row_at_fault_is_named() -> None:
    bad = histogram_value("h", [1.0, 2.0], [1.0])
    (columns,) = columns_of(event(1, histogram_value("h", [1.0], [1.0])), event(2, bad))
    fault = first_fault(columns)
    assert fault is not None
    assert fault[0] == 1
    assert first_fault(columns_of(event(1, text_value("t", "x")))[0]) is None

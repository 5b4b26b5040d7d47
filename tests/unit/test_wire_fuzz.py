"""Whatever bytes come, decoding gives a sound batch or says what is wrong; nothing else ever escapes."""

import gzip
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.wire import (
    JSON,
    MSGPACK,
    Alert,
    Batch,
    Columns,
    InvalidBatchError,
    Open,
    Rewind,
    decode_batch,
    encode_batch,
    limits,
)
from tallyboard_server.api.compression import decompress
from tallyboard_server.api.problems import BodyDamagedError, BodyTooLargeError

VALID: dict[str, list[bytes]] = {
    MSGPACK: [
        encode_batch(
            Batch(
                "p", 3, True, Open(config={"lr": 0.1}, tags=("x",)), Rewind(next_steps={"epoch": 1}, reason="r"),
                (Columns("global_step", ("loss", "acc"), np.arange(3), np.zeros(3), np.ones((3, 2)),
                         {"epoch": np.arange(3)}),),
                {"best": 1.0}, "running", alerts=(Alert(title="a", text="b", wall_time=1.0, at={"epoch": 1}),),
            )
        ),
        msgspec.msgpack.encode({"reports": [{"step": 1, "scalars": {"loss": 0.5}, "at": {"epoch": 1}}]}),
    ],
    JSON: [
        b'{"step": 1, "scalars": {"loss": 0.5, "acc": "NaN"}, "at": {"epoch": 2}, "wall_time": 1.5}',
        b'{"reports": [{"step": 1.0, "scalars": {"a": 1e-3}}], "summary": {"x": [null, true]},'
        b' "producer": "p", "seq": 1, "alerts": [{"title": "a", "at": {"epoch": 1.0}, "wall_time": 1.5}]}',
    ],
}  # fmt: skip


def check_sound(body: bytes, content_type: str) -> None:
    """Decode; what comes out must be usable by everything behind."""
    try:
        batch = decode_batch(body, content_type, now=1.0)
    except InvalidBatchError as error:
        refused = error
    else:
        for columns in batch.columns:
            check_columns(columns)
        return
    assert refused.field.startswith("$")
    assert refused.detail
    assert refused.field.encode()  # and so can be said in an answer


def check_columns(c: Columns) -> None:
    n, k = len(c.steps), len(c.tags)
    assert n > 0
    assert k > 0
    assert c.values.shape == (n, k)
    assert c.wall_times.shape == (n,)
    assert (c.steps.dtype, c.wall_times.dtype, c.values.dtype) == (
        np.dtype(np.int64),
        np.dtype(np.float64),
        np.dtype(np.float64),
    )
    assert c.steps.min() >= 0
    assert np.isfinite(c.wall_times).all()
    for column in c.at.values():
        assert column.shape == (n,)
        assert column.min() >= 0
    for name in (c.counter, *c.tags, *c.at):
        assert name.encode().decode() == name
        assert "\n" not in name


@given(st.binary(max_size=300), st.sampled_from([JSON, MSGPACK]))
@settings(max_examples=400)
def test_random_bytes(body: bytes, content_type: str) -> None:
    check_sound(body, content_type)


@given(st.data())
@settings(max_examples=1000)
def test_valid_bodies_with_a_few_bytes_changed(data: st.DataObject) -> None:
    content_type = data.draw(st.sampled_from([JSON, MSGPACK]))
    body = bytearray(data.draw(st.sampled_from(VALID[content_type])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(body) - 1))
        match data.draw(st.sampled_from(["change", "insert", "remove"])):
            case "change":
                body[at] = data.draw(st.integers(0, 255))
            case "insert":
                body.insert(at, data.draw(st.integers(0, 255)))
            case _ if len(body) > 1:
                del body[at]
    check_sound(bytes(body), content_type)


@pytest.mark.parametrize("content_type", [JSON, MSGPACK])
def test_valid_bodies_cut_anywhere(content_type: str) -> None:
    for body in VALID[content_type]:
        decode_batch(body, content_type, now=1.0)
        for end in range(len(body)):
            with pytest.raises(InvalidBatchError):
                decode_batch(body[:end], content_type, now=1.0)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5) | st.sampled_from(["NaN", "Infinity", "-Infinity", "nan"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FIELDS = st.sampled_from(
    ["step", "scalars", "counter", "wall_time", "at", "reports", "blocks", "producer", "seq", "partial", "open",
     "rewind",
     "summary", "status", "tags", "steps", "values", "config", "counters", "next_steps", "total"]
)  # fmt: skip


def shaped(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(FIELDS, inner, max_size=5) | st.lists(st.dictionaries(FIELDS, inner, max_size=5), max_size=2)


@given(shaped(JSON_VALUES | shaped(JSON_VALUES | shaped(JSON_VALUES))))
@settings(max_examples=400)
def test_known_fields_with_any_values(document: Any) -> None:
    try:
        body = msgspec.json.encode(document)
    except (ValueError, UnicodeError):  # integers that JSON's encoder does not take, lone surrogates
        return
    check_sound(body, JSON)


@given(shaped(JSON_VALUES | st.binary(max_size=17) | st.floats() | shaped(st.binary(max_size=17) | st.floats())))
@settings(max_examples=400)
def test_known_fields_with_any_values_in_msgpack(document: Any) -> None:
    try:
        body = msgspec.msgpack.encode(document)
    except (ValueError, OverflowError, UnicodeError):
        return
    check_sound(body, MSGPACK)


@given(st.data(), st.sampled_from(["gzip", "zstd"]))
@settings(max_examples=300)
def test_compressed_bodies_with_bytes_changed(data: st.DataObject, encoding: str) -> None:
    plain = data.draw(st.sampled_from([b"", b"abc" * 50, VALID[JSON][0], bytes(5000)]))
    body = bytearray(gzip.compress(plain, mtime=0) if encoding == "gzip" else zstandard.compress(plain))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert len(decompress(bytes(body), encoding, bytes_max=4000)) <= 4000
    except (BodyDamagedError, BodyTooLargeError):
        return


@given(st.binary(max_size=5000), st.integers(1, 5), st.sampled_from(["gzip", "zstd"]))
def test_compressed_bodies_come_back(plain: bytes, members: int, encoding: str) -> None:
    cut = max(1, len(plain) // members)
    pieces = [plain[i : i + cut] for i in range(0, len(plain), cut)] or [b""]
    packed = b"".join(gzip.compress(p) if encoding == "gzip" else zstandard.compress(p) for p in pieces)
    assert decompress(packed, encoding, bytes_max=5000) == plain


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_compressed_bodies_stop_at_the_limit(encoding: str) -> None:
    plain = bytes(limits.MIB)
    packed = gzip.compress(plain) if encoding == "gzip" else zstandard.compress(plain)
    assert decompress(packed, encoding, bytes_max=limits.MIB) == plain
    with pytest.raises(BodyTooLargeError):
        decompress(packed, encoding, bytes_max=limits.MIB - 1)

"""Bodies and cursors by somebody who means harm: refused by name, in bounded work and bounded memory.

What decoding does with chance bytes is in test_wire_fuzz, test_wire_events, test_runtable_language, test_client_frames
and test_logdir.
"""

import gzip
import json
import tracemalloc
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard.wire import JSON, MSGPACK, InvalidBatchError, decode_batch, limits
from tallyboard_server.api import compression, cursors
from tallyboard_server.api.compression import decompress
from tallyboard_server.api.problems import BodyDamagedError, BodyTooLargeError, InvalidQueryError
from tallyboard_server.runtable.cursor import CursorError, open_name, open_place, seal_name
from tallyboard_server.runtable.parse import parse_sort
from tallyboard_server.series.since import Seen, SeenLine

PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}
SLACK_BYTES = 12 * limits.MIB
"""A slice's output (4 MiB at most), once more as it is joined, and what Python needs besides."""


def peak_of(act: Callable[[], object]) -> int:
    """How many bytes were allocated at most while it ran."""
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("limit", [limits.MIB, 8 * limits.MIB])
def test_a_bomb_takes_no_more_memory_than_its_limit_allows(encoding: str, limit: int) -> None:
    bomb = PACK[encoding](bytes(128 * limits.MIB))

    def go_off() -> None:
        with pytest.raises(BodyTooLargeError):
            decompress(bomb, encoding, bytes_max=limit)

    assert peak_of(go_off) < 2 * limit + SLACK_BYTES


@pytest.mark.parametrize("encoding", PACK)
def test_a_bomb_within_a_bomb_is_only_bytes(encoding: str) -> None:
    pack = PACK[encoding]
    nested = pack(pack(pack(bytes(64 * limits.MIB))))
    inner = decompress(nested, encoding, bytes_max=limits.MIB)
    assert len(inner) < 100_000  # one layer is taken off, and no more
    with pytest.raises(InvalidBatchError):
        decode_batch(inner, JSON, now=1.0)


@pytest.mark.parametrize("encoding", PACK)
@pytest.mark.parametrize("content", [b"", b"x"])
def test_crumbs_are_counted_not_swept_up(monkeypatch: pytest.MonkeyPatch, encoding: str, content: bytes) -> None:
    """Millions of members that hold next to nothing would each cost a decompressor."""
    made = 0
    unpack = compression._unpack

    def counting(data: bytes, begin: Callable[[], Any], slice_bytes: int, bytes_max: int) -> bytes:
        def begun() -> Any:
            nonlocal made
            made += 1
            return begin()

        return unpack(data, begun, slice_bytes, bytes_max)

    monkeypatch.setattr(compression, "_unpack", counting)
    most = compression.MEMBERS_MAX
    assert decompress(PACK[encoding](content) * most, encoding, bytes_max=limits.MIB) == content * most
    assert made == most
    with pytest.raises(BodyDamagedError, match="members"):
        decompress(PACK[encoding](content) * 100_000, encoding, bytes_max=limits.MIB)
    assert made == 2 * most


@pytest.mark.parametrize("window_log", [26, 27, 30])
def test_a_window_is_refused_before_it_is_allocated(window_log: int) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=window_log, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(b"abc") + compressor.flush()

    def refuse() -> None:
        with pytest.raises(BodyDamagedError):
            decompress(packed, "zstd", bytes_max=limits.MIB)

    assert peak_of(refuse) < SLACK_BYTES


SURROGATE = rb'"\ud800"'
HOSTILE_JSON: dict[str, bytes] = {
    "lists 100,000 deep": b'{"summary": {"a": ' + b"[" * 100_000,
    "closed lists 100,000 deep": b'{"summary": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "objects 100,000 deep": b'{"summary": ' + b'{"a": ' * 100_000,
    "an integer of 5,000 digits": b'{"step": ' + b"9" * 5_000 + b', "scalars": {"loss": 1}}',
    "a value of 5,000 digits": b'{"step": 1, "summary": {"a": ' + b"9" * 5_000 + b'}, "scalars": {"loss": 1}}',
    "an exponent that is no number": b'{"step": 1e999, "scalars": {"loss": 1}}',
    "a step beyond int64": b'{"step": 9223372036854775808, "scalars": {"loss": 1}}',
    "a lone surrogate as a tag": b'{"step": 1, "scalars": {' + SURROGATE + b": 1}}",
    "a lone surrogate as a counter": b'{"step": 1, "counter": ' + SURROGATE + b', "scalars": {"a": 1}}',
    "nan as a number": b'{"step": 1, "scalars": {"loss": NaN}}',
    "nan in another spelling": b'{"step": 1, "scalars": {"loss": "NAN"}}',
    "infinity with a plus": b'{"step": 1, "scalars": {"loss": "+Infinity"}}',
    "nan with a payload": b'{"step": 1, "scalars": {"loss": "nan(0x7)"}}',
    "nan as a step": b'{"step": "NaN", "scalars": {"loss": 1}}',
    "hexadecimal": b'{"step": 0x10, "scalars": {"loss": 1}}',
    "a comment": b'{"step": 1, /* */ "scalars": {"loss": 1}}',
    "a byte order mark": b"\xef\xbb\xbf" + b'{"step": 1, "scalars": {"loss": 1}}',
    "a nul behind it": b'{"step": 1, "scalars": {"loss": 1}}\0',
    "another document behind it": b'{"step": 1, "scalars": {"loss": 1}}{}',
    "latin-1": '{"step": 1, "scalars": {"größe": 1}}'.encode("latin-1"),
}


@pytest.mark.parametrize("body", HOSTILE_JSON.values(), ids=HOSTILE_JSON.keys())
def test_hostile_json_is_refused_by_name(body: bytes) -> None:
    def refuse() -> None:
        with pytest.raises(InvalidBatchError) as refused:
            decode_batch(body, JSON, now=1.0)
        assert refused.value.field.startswith("$")
        assert len(refused.value.detail) < 2_000

    assert peak_of(refuse) < SLACK_BYTES


@pytest.mark.parametrize(
    ("head", "opening"), [(b"\x81\xa7summary\x81\xa1a", b"\x91"), (b"\x81\xa7summary", b"\x81\xa1a")]
)
def test_deep_msgpack_is_refused_by_name(head: bytes, opening: bytes) -> None:
    with pytest.raises(InvalidBatchError):
        decode_batch(head + opening * 100_000 + b"\xc0", MSGPACK, now=1.0)


@pytest.mark.parametrize(
    "claim", [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("key", [b"\xa6blocks", b"\xa7reports", b"\xa7summary", b"\xa8producer"])
def test_what_claims_to_be_large_allocates_nothing(key: bytes, claim: bytes) -> None:
    def refuse() -> None:
        with pytest.raises(InvalidBatchError):
            decode_batch(b"\x81" + key + claim, MSGPACK, now=1.0)

    assert peak_of(refuse) < limits.MIB


def test_of_a_key_that_stands_twice_the_last_counts_as_in_any_json() -> None:
    batch = decode_batch(b'{"step": 1, "step": 2, "scalars": {"loss": 1, "loss": 2}}', JSON, now=1.0)
    (columns,) = batch.columns
    assert (columns.steps.tolist(), columns.tags, columns.values.tolist()) == ([2], ("loss",), [[2.0]])


# ── cursors ──────────────────────────────────────────────────────────────────────────────────────────────────────────

QUESTION = cursors.digest("a question")
SEEN = {"a/b": Seen(1, 2, 3, {(1, 1, 1): SeenLine(5, False, 1), (2, 1, 1): SeenLine(7, True, 1)})}


def test_a_cursor_comes_back() -> None:
    assert cursors.opened(cursors.sealed(QUESTION, SEEN), QUESTION) == SEEN


def opens_or_is_refused(cursor: str) -> None:
    try:
        seen = cursors.opened(cursor, QUESTION)
    except InvalidQueryError as error:
        refused = error
    else:
        for run in seen.values():
            assert min(run.run_id, run.epoch, run.pos) >= 0
            assert all(line.last_step >= -1 for line in run.lines.values())
        return
    assert refused.field == "since"


def resealed(document: Any) -> str:
    return urlsafe_b64encode(zlib.compress(msgspec.msgpack.encode(document))).decode().rstrip("=")


COLUMN = st.lists(st.integers(-2, 2**63 - 1) | st.booleans() | st.none(), max_size=3)


@given(
    st.text("abc/\ud800", max_size=4).filter(lambda text: "\ud800" not in text),
    st.lists(st.integers(-1, 2**64 - 1), min_size=3, max_size=3),
    st.lists(COLUMN, min_size=6, max_size=6),
)
def test_a_cursor_that_was_written_by_hand_opens_or_is_refused(name: str, ids: list[int], columns: Any) -> None:
    opens_or_is_refused(resealed([1, QUESTION, [[name, *ids, *columns]]]))


def test_a_cursor_whose_columns_differ_in_length_is_refused() -> None:
    with pytest.raises(InvalidQueryError):
        cursors.opened(resealed([1, QUESTION, [["a/b", 1, 1, 1, [1], [1], [1], [1, 2], [True], [1]]]]), QUESTION)


@given(st.data())
@settings(max_examples=200)
def test_a_cursor_with_characters_changed_opens_or_is_refused(data: st.DataObject) -> None:
    cursor = list(cursors.sealed(QUESTION, SEEN))
    for _ in range(data.draw(st.integers(1, 3))):
        cursor[data.draw(st.integers(0, len(cursor) - 1))] = data.draw(st.sampled_from("Ab0-_=%é\ud800 "))
    opens_or_is_refused("".join(cursor))


def test_a_cursor_is_no_bomb() -> None:
    bomb = urlsafe_b64encode(zlib.compress(bytes(256 * limits.MIB), 9)).decode()

    def go_off() -> None:
        with pytest.raises(InvalidQueryError):
            cursors.opened(bomb, QUESTION)

    assert peak_of(go_off) < 2 * cursors._BYTES_MAX + SLACK_BYTES


SORT = parse_sort("-config.lr,name")
RANKS = st.lists(
    st.tuples(
        st.integers(-1, 9),
        st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text("1naife+", max_size=4),
    ),
    max_size=3,
)


def with_ranks(ranks: Any) -> str:
    return urlsafe_b64encode(
        b"\xff" + json.dumps([zlib.crc32(b"-config.lr,name"), 1.0, ranks, "a/b"]).encode()
    ).decode()


@given(
    st.text("Ab0-_=é\ud800", max_size=12)
    | st.binary(max_size=20).map(lambda data: urlsafe_b64encode(b"\xff" + data).decode())
    | RANKS.map(with_ranks)
)
def test_cursors_of_tables_open_or_are_refused(cursor: str) -> None:
    for open_cursor in (open_name, lambda text: open_place(text, SORT)):
        with suppress(CursorError):
            assert open_cursor(cursor) is not None


@given(st.text(max_size=20).filter(lambda text: text.isprintable()))
def test_a_name_in_a_cursor_comes_back(name: str) -> None:
    assert open_name(seal_name(name)) == name

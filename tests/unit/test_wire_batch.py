"""Batches: what goes in comes out, in every form, and what is wrong is named."""

import zlib
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tallyboard.wire import (
    JSON,
    MSGPACK,
    Alert,
    Batch,
    Columns,
    CounterSpec,
    InvalidBatchError,
    Open,
    Rewind,
    UndecodableBodyError,
    check_document,
    check_text,
    checksum,
    decode_batch,
    decode_message,
    encode_batch,
    limits,
)
from tallyboard.wire.messages import Report

NOW = 1234.5


def from_json(document: Any) -> Batch:
    return decode_batch(msgspec.json.encode(document), JSON, now=NOW)


def names(size_max: int) -> st.SearchStrategy[str]:
    return st.text("abcßλ/._- 日", min_size=1, max_size=size_max).filter(lambda text: text not in ("step", "relative"))


@st.composite
def columns(draw: st.DrawFn) -> Columns:
    n = draw(st.integers(1, 6))
    tags = tuple(draw(st.lists(names(8), min_size=1, max_size=4, unique=True)))
    steps = hnp.arrays(np.int64, n, elements=st.integers(0, limits.STEP_MAX))
    return Columns(
        draw(names(8)),
        tags,
        np.sort(draw(steps)),
        draw(hnp.arrays(np.float64, n, elements=st.floats(allow_nan=False, allow_infinity=False))),
        draw(hnp.arrays(np.float64, (n, len(tags)), elements=st.floats())),
        {name: draw(steps) for name in draw(st.lists(names(8), max_size=2, unique=True))},
    )


def assert_same(one: Columns, other: Columns) -> None:
    assert (one.counter, one.tags, list(one.at)) == (other.counter, other.tags, list(other.at))
    for a, b in ((one.steps, other.steps), *((one.at[name], other.at[name]) for name in one.at)):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == np.int64
    assert one.wall_times.tobytes() == other.wall_times.tobytes()
    assert one.values.tobytes() == other.values.tobytes()


@given(
    blocks=st.lists(columns(), max_size=3).map(tuple),
    stream=st.none() | st.tuples(st.text("pq", min_size=1), st.integers(1, 2**62)),
    partial=st.booleans(),
    rewind=st.none() | st.builds(Rewind, next_steps=st.just({"epoch": 3}), reason=st.text("ab"), id=st.none()),
    opening=st.none() | st.builds(Open, config=st.just({"lr": 0.1}), counters=st.just({"e": CounterSpec(total=5)})),
    status=st.sampled_from(["running", "finished", "failed"]),
)
def test_encoded_batches_decode_to_themselves(
    blocks: tuple[Columns, ...],
    stream: tuple[str, int] | None,
    partial: bool,
    rewind: Rewind | None,
    opening: Open | None,
    status: Any,
) -> None:
    producer, seq = stream or (None, None)
    alerts = (Alert(title="spike", text="two\nlines", level="error", wall_time=5.5, at={"epoch": 3}),)
    batch = Batch(producer, seq, partial, opening, rewind, blocks, {"best": 1.5}, status, alerts=alerts)
    body = encode_batch(batch)
    again = decode_batch(body, MSGPACK, now=NOW)
    assert (again.producer, again.seq, again.partial, again.status) == (producer, seq, partial, status)
    assert (again.open, again.rewind, again.summary, again.alerts) == (opening, rewind, {"best": 1.5}, alerts)
    assert (again.nbytes, again.checksum) == (len(body), checksum(body))
    assert [c.block for c in again.columns] == list(range(len(blocks)))
    for one, other in zip(blocks, again.columns, strict=True):
        assert_same(one, other)


@given(st.lists(columns(), min_size=1, max_size=3))
def test_json_reports_say_the_same_as_blocks(blocks: list[Columns]) -> None:
    def value(x: float) -> Any:
        return x if np.isfinite(x) else "NaN" if np.isnan(x) else "Infinity" if x > 0 else "-Infinity"

    reports = [
        {
            "counter": c.counter, "step": step, "wall_time": wall,
            "scalars": {tag: value(v) for tag, v in zip(c.tags, row, strict=True)},
            "at": {name: at[i] for name, at in ((n, a.tolist()) for n, a in c.at.items())},
        }
        for c in blocks
        for i, (step, wall, row) in enumerate(
            zip(c.steps.tolist(), c.wall_times.tolist(), c.values.tolist(), strict=True)
        )
    ]  # fmt: skip
    for content_type, encode in ((JSON, msgspec.json.encode), (MSGPACK, msgspec.msgpack.encode)):
        found = decode_batch(encode({"reports": reports}), content_type, now=NOW).columns
        assert {c.block for c in found} == {0}
        assert [c.row + i for c in found for i in range(len(c))] == list(range(len(reports)))
        steps = np.concatenate([c.steps for c in found])
        np.testing.assert_array_equal(steps, np.concatenate([c.steps for c in blocks]))
        values = np.concatenate([c.values.ravel() for c in found])
        np.testing.assert_array_equal(values, np.concatenate([c.values.ravel() for c in blocks]))
        walls = np.concatenate([c.wall_times for c in found])
        np.testing.assert_array_equal(walls, np.concatenate([c.wall_times for c in blocks]))


def test_one_report_takes_the_defaults() -> None:
    (c,) = from_json({"step": 3, "scalars": {"loss": 1, "acc": "NaN"}}).columns
    assert (c.counter, c.tags, c.steps.tolist(), c.wall_times.tolist()) == ("global_step", ("loss", "acc"), [3], [NOW])
    np.testing.assert_array_equal(c.values, [[1.0, np.nan]])


def test_stretches_of_like_reports_become_columns() -> None:
    shapes = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("a", "x")]
    found = from_json({"reports": [{"step": i, "counter": c, "scalars": {t: i}} for i, (c, t) in enumerate(shapes)]})
    assert [(c.counter, c.tags, c.row, len(c)) for c in found.columns] == [
        ("a", ("x",), 0, 2), ("a", ("y",), 2, 1), ("b", ("y",), 3, 1), ("a", ("x",), 4, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("step", "expected"), [
    (0, 0), (3.0, 3), (-0.0, 0), (2**53, 2**53), (2**53 + 1, 2**53 + 1), (2**63 - 1, 2**63 - 1), (1e15, 10**15),
])  # fmt: skip
def test_steps_are_exact(step: float, expected: int) -> None:
    reports = [{"step": 0, "scalars": {"a": 1}}, {"step": step, "scalars": {"a": 1}, "at": {}}]
    (c,) = from_json({"reports": reports}).columns
    assert c.steps.tolist() == [0, expected]
    assert c.steps.dtype == np.int64
    (single,) = from_json({"step": 1, "scalars": {"a": 1}, "at": {"epoch": step}}).columns
    assert single.at["epoch"].tolist() == [expected]


def test_a_mix_of_large_ints_and_floats_keeps_the_ints_exact() -> None:
    reports = [{"step": s, "scalars": {"a": 1}} for s in (2.0, 2**53 + 1, 2**63 - 1)]
    (c,) = from_json({"reports": reports}).columns
    assert c.steps.tolist() == [2, 2**53 + 1, 2**63 - 1]


def test_a_step_beyond_the_range_is_named_among_others() -> None:
    reports = [{"step": s, "scalars": {"a": 1}} for s in (1, 2, 2**63)]
    with pytest.raises(InvalidBatchError) as caught:
        from_json({"reports": reports})
    assert caught.value.field == "$.reports[2].step"


def test_absent_wall_times_are_the_servers() -> None:
    body = {"counter": "c", "tags": ["a"], "steps": b"\1" + bytes(15), "values": bytes(16)}
    (c,) = decode_batch(msgspec.msgpack.encode({"blocks": [body]}), MSGPACK, now=NOW).columns
    assert c.wall_times.tolist() == [NOW, NOW]
    reports = [{"step": 1, "scalars": {"a": 1}}, {"step": 2, "scalars": {"a": 1}, "wall_time": 7.0}]
    (c,) = from_json({"reports": reports}).columns
    assert c.wall_times.tolist() == [NOW, 7.0]


def test_decoded_columns_copy_nothing() -> None:
    body = encode_batch(Batch(columns=(Columns("c", ("a",), np.arange(4), np.zeros(4), np.arange(4.0).reshape(4, 1)),)))
    (c,) = decode_batch(body, MSGPACK, now=NOW).columns
    assert not c.values.flags.owndata
    assert not c.values.flags.writeable


@pytest.mark.parametrize(("second", "field"), [
    ({"step": 2, "scalars": {"a": 1, "b": True}}, "$.reports[1].scalars.b"),
    ({"step": 2, "scalars": {"a": 1, "b": [2]}}, "$.reports[1].scalars.b"),
    ({"step": "2", "scalars": {"a": 1}}, "$.reports[1].step"),
    ({"step": 2.5, "scalars": {"a": 1}}, "$.reports[1].step"),
    ({"scalars": {"a": 1}}, "$.reports[1].step"),
    ({"step": 2}, "$.reports[1].scalars"),
    ({"step": 2, "scalars": {"a\n": 1}}, "$.reports[1].scalars"),
    ({"step": 2, "scalars": {"a": 1}, "counter": "step"}, "$.reports[1].counter"),
    ({"step": 2, "scalars": {"a": 1}, "at": {"e": "x"}}, "$.reports[1].at.e"),
    ({"step": 2, "scalars": {"a": 1}, "at": {"e": -1}}, "$.reports[1].at.e"),
    ({"step": 2, "scalars": {"a": 1}, "at": {"=": 1}}, "$.reports[1].at"),
    ({"step": 2, "scalars": {"a": 1}, "oops": 1}, "$.reports[1].oops"),
])  # fmt: skip
def test_the_field_is_named(second: Any, field: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        from_json({"reports": [{"step": 1, "scalars": {"a": 1}}, second]})
    assert not isinstance(caught.value, UndecodableBodyError)
    assert caught.value.field == field
    assert str(caught.value) == f"{field}: {caught.value.detail}"


@pytest.mark.parametrize(("body", "said"), [
    ({"alerts": [{"title": "a", "level": "fatal"}]}, "$.alerts[0].level: 'fatal' is none of info, warn, error"),
    ({"status": "done"}, "$.status: 'done' is none of running, finished, failed"),
    ({"open": {"resume": "yes"}}, "$.open.resume: 'yes' is none of new, continue, must"),
])  # fmt: skip
def test_of_a_choice_that_is_none_the_choices_are_told(body: Any, said: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        from_json(body)
    assert str(caught.value) == said


def test_text_that_is_not_utf8_is_shown() -> None:
    with pytest.raises(UndecodableBodyError, match=r"train/lo\\xff"):
        decode_batch(b'{"step": 1, "scalars": {"train/lo\xff": 1}}', JSON, now=NOW)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(InvalidBatchError) as caught:
        from_json({"step": 1, "scalars": {"a": "x" * 10_000}})
    assert len(caught.value.detail) < 300


def test_checksums_tell_bodies_apart() -> None:
    bodies = [b"", b"a", b"b", b"ab", b"ba", bytes(100), bytes(101)]
    found = {checksum(body) for body in bodies}
    assert len(found) == len(bodies)
    assert all(0 <= value < 2**63 for value in found)
    long = np.random.default_rng(1).bytes(100_000)
    assert checksum(long) == (zlib.crc32(long) << 31) | (zlib.adler32(long) & 0x7FFFFFFF)


def nested(depth: int) -> Any:
    document: Any = 1
    for _ in range(depth):
        document = {"a": document}
    return document


@pytest.mark.parametrize(("document", "field"), [
    ({"a": "\ud800"}, "$.config"), ({"a": object()}, "$.config.a"), ({"a": "x" * limits.TEXT_BYTES_MAX}, "$.config"),
    ({"a": {"b": [1, float("nan")]}}, "$.config.a.b[1]"), ({"a": float("-inf")}, "$.config.a"),
    ({"a": 2**64}, "$.config.a"), ({"a": -(2**63) - 1}, "$.config.a"), ({"a": b"bytes"}, "$.config.a"),
    ({"a": {1: 2}}, "$.config.a"), ({"a": msgspec.msgpack.Ext(5, b"")}, "$.config.a"),
    (nested(100_000), "$.config" + ".a" * 40),
])  # fmt: skip
def test_documents_that_are_none(document: Any, field: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        check_document(document, "$.config")
    assert caught.value.field == field


@pytest.mark.parametrize("document", [
    {}, {"a": [None, True, -(2**63), 2**64 - 1, 1e308, "ß", {"b": [[]]}]}, nested(limits.DOCUMENT_DEPTH_MAX),
])  # fmt: skip
def test_documents_can_be_encoded_in_both_ways(document: Any) -> None:
    check_document(document, "$.config")
    assert msgspec.json.decode(msgspec.json.encode(document)) == document
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(document)) == document


def test_text_is_bounded_in_bytes() -> None:
    check_text("ß" * (limits.TEXT_BYTES_MAX // 2), "$.notes")
    with pytest.raises(InvalidBatchError, match=r"\$\.notes"):
        check_text("ß" * (limits.TEXT_BYTES_MAX // 2) + "x", "$.notes")
    with pytest.raises(InvalidBatchError, match="surrogate"):
        check_text("\udfff", "$.notes")


def test_other_messages_decode_by_the_same_rules() -> None:
    assert decode_message(b'{"step": 1, "scalars": {}}', JSON, Report).step == 1
    with pytest.raises(InvalidBatchError) as caught:
        decode_message(b'{"counters": {"a": {}, "b": {"total": "x"}}}', JSON, Open)
    assert caught.value.field == "$.counters.b.total"


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "Infinity"])
def test_a_bare_nan_is_answered_with_how_to_write_it(value: str) -> None:
    """It is what Python's json.dumps makes of a loss that is no number."""
    with pytest.raises(UndecodableBodyError, match='non-finite ones are the strings "NaN"'):
        decode_batch(f'{{"step": 1, "scalars": {{"loss": {value}}}}}'.encode(), JSON, now=0.0)
    with pytest.raises(UndecodableBodyError) as caught:
        decode_batch(b'{"step": 1, "scalars": {"NaN": 1', JSON, now=0.0)
    assert "non-finite" not in str(caught.value)


# ── alerts ───────────────────────────────────────────────────────────────────────────────────────────────────────


def alerts_of(*alerts: Any) -> tuple[Alert, ...]:
    return decode_batch(msgspec.json.encode({"alerts": alerts}), JSON, now=NOW).alerts


def test_an_alert_gets_the_servers_time_and_whole_steps() -> None:
    told, bare = alerts_of({"title": "a", "wall_time": 1.5, "at": {"epoch": 3.0}}, {"title": "b"})
    assert (told.wall_time, told.at, type(told.at["epoch"])) == (1.5, {"epoch": 3}, int)
    assert (bare.wall_time, bare.text, bare.level, bare.at) == (NOW, "", "warn", {})


@pytest.mark.parametrize(
    ("alert", "field"),
    [
        ({}, "title"),
        ({"title": ""}, "title"),
        ({"title": "two\nlines"}, "title"),
        ({"title": "é" * (limits.ALERT_TITLE_BYTES_MAX // 2) + "x"}, "title"),
        ({"title": "a", "text": "x" * (limits.ALERT_TEXT_BYTES_MAX + 1)}, "text"),
        ({"title": "a", "level": "fatal"}, "level"),
        ({"title": "a", "wall_time": "NaN"}, "wall_time"),
        ({"title": "a", "at": {"step": 1}}, "at"),
        ({"title": "a", "at": {"tag:loss": 1}}, "at"),
        ({"title": "a", "at": {"epoch": -1}}, "at.epoch"),
        ({"title": "a", "at": {"epoch": 1.5}}, "at.epoch"),
        ({"title": "a", "at": {f"c{i}": 1 for i in range(limits.ALERT_COUNTERS_MAX + 1)}}, "at"),
        ({"title": "a", "colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_with_an_alert_is_named(alert: Any, field: str) -> None:
    with pytest.raises(InvalidBatchError) as caught:
        alerts_of({"title": "good"}, alert)
    assert caught.value.field == f"$.alerts[1].{field}"


def test_alerts_of_a_batch_are_bounded_and_take_their_limits() -> None:
    most = {"title": "t" * limits.ALERT_TITLE_BYTES_MAX, "text": "x\n" * (limits.ALERT_TEXT_BYTES_MAX // 2)}
    assert len(alerts_of(*[most] * limits.ALERTS_PER_BATCH_MAX)) == limits.ALERTS_PER_BATCH_MAX
    with pytest.raises(InvalidBatchError, match="101 alerts; at most 100"):
        alerts_of(*[most] * (limits.ALERTS_PER_BATCH_MAX + 1))


def test_an_alert_whose_time_is_infinite_is_none() -> None:
    body = encode_batch(Batch(alerts=(Alert(title="a", wall_time=float("inf")),)))
    with pytest.raises(InvalidBatchError, match="finite seconds"):
        decode_batch(body, MSGPACK, now=NOW)

"""Every kind of bad input: a clear 4xx that names the field, nothing stored, and the next good request works."""

import gzip
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard

from tallyboard.wire import JSON, MSGPACK, limits
from tests.service import Answer, RunningService

GOOD = {"step": 1, "scalars": {"loss": 0.5}}


def json_of(document: Any) -> bytes:
    return msgspec.json.encode(document)


def ints(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}d", *values)


def block(**changes: Any) -> bytes:
    """A MessagePack batch of one block with two reports of one tag, changed."""
    good = {
        "counter": "global_step", "tags": ["loss"], "steps": ints(1, 2), "wall_times": floats(1.0, 2.0),
        "values": floats(0.5, 0.25),
    }  # fmt: skip
    fields = {name: value for name, value in (good | changes).items() if value is not None}
    return msgspec.msgpack.encode({"blocks": [fields]})


def report(**changes: Any) -> bytes:
    """A JSON report, changed."""
    return json_of({name: value for name, value in (GOOD | changes).items() if value is not ...})


LONG = "x" * (limits.TAG_BYTES_MAX + 1)
STEP_TOO_LARGE = 2**63

JSON_BODIES: dict[str, tuple[bytes, int, str]] = {
    # wrong types
    "not an object": (b"[1]", 422, "$"),
    "a number": (b"1", 422, "$"),
    "null": (b"null", 422, "$"),
    "step a string": (report(step="1"), 422, "$.step"),
    "step a bool": (report(step=True), 422, "$.step"),
    "step a list": (report(step=[1]), 422, "$.step"),
    "step null": (report(step=None), 422, "$.step"),
    "step missing": (report(step=...), 422, "$.step"),
    "scalars missing": (report(scalars=...), 422, "$.scalars"),
    "scalars a list": (report(scalars=[1]), 422, "$.scalars"),
    "scalars empty": (report(scalars={}), 422, "$.scalars"),
    "value a word": (report(scalars={"a": 1, "b": "high"}), 422, "$.scalars.b"),
    "value nan in lower case": (report(scalars={"a": "nan"}), 422, "$.scalars.a"),
    "value a number in quotes": (report(scalars={"a": "0.5"}), 422, "$.scalars.a"),
    "value null": (report(scalars={"a": None}), 422, "$.scalars.a"),
    "value a bool": (report(scalars={"a": True}), 422, "$.scalars.a"),
    "value an object": (report(scalars={"a": {}}), 422, "$.scalars.a"),
    "value too large for a float64": (b'{"step": 1, "scalars": {"a": 1e999}}', 422, "$.scalars.a"),
    "counter a number": (report(counter=1), 422, "$.counter"),
    "wall_time a string": (report(wall_time="now"), 422, "$.wall_time"),
    "at a string": (report(at={"epoch": "1"}), 422, "$.at.epoch"),
    "at a list": (report(at=[1]), 422, "$.at"),
    "reports an object": (json_of({"reports": GOOD}), 422, "$.reports"),
    "second report wrong": (json_of({"reports": [GOOD, {"step": 2, "scalars": {"loss": "x"}}]}), 422,
                            "$.reports[1].scalars.loss"),
    "seq a string": (report(producer="p", seq="1"), 422, "$.seq"),
    "partial a number": (report(partial=1), 422, "$.partial"),
    "status unknown": (report(status="paused"), 422, "$.status"),
    "summary a list": (report(summary=[1]), 422, "$.summary"),
    # misspelt and contradictory
    "unknown field": (report(scalar={"a": 1}), 422, "$.scalar"),
    "unknown field of a report": (json_of({"reports": [GOOD | {"stepp": 1}]}), 422, "$.reports[0].stepp"),
    "one report and a list": (report(reports=[GOOD]), 422, "$.scalars"),
    "nothing at all": (b"{}", 422, "$"),
    "empty list": (json_of({"reports": []}), 422, "$"),
    "blocks in JSON": (json_of({"blocks": [{"counter": "c", "tags": ["a"], "steps": "", "values": ""}]}), 422,
                       "$.blocks"),
    "producer without seq": (report(producer="p"), 422, "$.seq"),
    "seq without producer": (report(seq=1), 422, "$.seq"),
    "seq zero": (report(producer="p", seq=0), 422, "$.seq"),
    # negative, fractional, too large steps
    "step negative": (report(step=-1), 422, "$.step"),
    "step fractional": (report(step=1.5), 422, "$.step"),
    "step too large": (report(step=STEP_TOO_LARGE), 422, "$.step"),
    "step huge float": (report(step=1e300), 422, "$.step"),
    "step of many digits": (b'{"step": ' + b"9" * 500 + b', "scalars": {"a": 1}}', 422, "$.step"),
    "third step fractional": (json_of({"reports": [GOOD, GOOD | {"step": 2}, GOOD | {"step": 2.5}]}), 422,
                              "$.reports[2].step"),
    "at negative": (report(at={"epoch": -1}), 422, "$.at.epoch"),
    "at fractional": (report(at={"epoch": 0.5}), 422, "$.at.epoch"),
    # wall times
    "wall_time NaN as a word": (report(wall_time="NaN"), 422, "$.wall_time"),
    "wall_time too large": (b'{"step": 1, "scalars": {"a": 1}, "wall_time": 1e999}', 422, "$.wall_time"),
    # names
    "tag empty": (report(scalars={"": 1}), 422, "$.scalars"),
    "tag with a newline": (report(scalars={"a\nb": 1}), 422, "$.scalars"),
    "tag with NUL": (report(scalars={"a\0b": 1}), 422, "$.scalars"),
    "tag with C1 control": (report(scalars={"a\x85b": 1}), 422, "$.scalars"),
    "tag too long": (report(scalars={LONG: 1}), 422, "$.scalars"),
    "tag a lone surrogate": (b'{"step": 1, "scalars": {"\\ud800": 1}}', 400, "$"),
    "tag invalid UTF-8": (b'{"step": 1, "scalars": {"lo\xff": 1}}', 400, "$"),
    "tag overlong UTF-8": (b'{"step": 1, "scalars": {"\xc0\xaf": 1}}', 400, "$"),
    "counter empty": (report(counter=""), 422, "$.counter"),
    "counter reserved": (report(counter="wall_time"), 422, "$.counter"),
    "counter with =": (report(counter="a=b"), 422, "$.counter"),
    "counter with a control character": (report(counter="a\x1bb"), 422, "$.counter"),
    "counter too long": (report(counter=LONG), 422, "$.counter"),
    "at counter reserved": (report(at={"step": 1}), 422, "$.at"),
    "producer too long": (report(producer=LONG, seq=1), 422, "$.producer"),
    # too much
    "too many tags": (report(scalars={f"t{i}": 1 for i in range(limits.TAGS_PER_REPORT_MAX + 1)}), 422, "$.scalars"),
    "too many reports": (json_of({"reports": [{"step": i, "scalars": {"a": 1}}
                                              for i in range(limits.ROWS_PER_BATCH_MAX + 1)]}), 422, "$.reports"),
    "summary too large": (report(summary={"text": "x" * limits.TEXT_BYTES_MAX}), 422, "$.summary"),
    # not JSON
    "empty": (b"", 400, "$"),
    "truncated": (json_of(GOOD)[:-3], 400, "$"),
    "trailing": (json_of(GOOD) + b"}", 400, "$"),
    "bare NaN": (b'{"step": 1, "scalars": {"a": NaN}}', 400, "$"),
    "text": (b"step=1&loss=0.5", 400, "$"),
    "UTF-16": ('{"step": 1}'.encode("utf-16"), 400, "$"),
    "a deep nest": (b'{"summary": {"a": ' + b"[" * 100_000, 400, "$"),
    "MessagePack said to be JSON": (block(), 400, "$"),
}  # fmt: skip

MSGPACK_BODIES: dict[str, tuple[bytes, int, str]] = {
    # wrong types
    "steps a list": (block(steps=[1, 2]), 422, "$.blocks[0].steps"),
    "steps missing": (block(steps=None), 422, "$.blocks[0].steps"),
    "values missing": (block(values=None), 422, "$.blocks[0].values"),
    "values a string": (block(values="abcdefgh"), 422, "$.blocks[0].values"),
    "counter missing": (block(counter=None), 422, "$.blocks[0].counter"),
    "tags a string": (block(tags="loss"), 422, "$.blocks[0].tags"),
    "a tag a number": (block(tags=[1]), 422, "$.blocks[0].tags[0]"),
    "key a number": (msgspec.msgpack.encode({1: 2}), 422, "$"),
    "an array": (msgspec.msgpack.encode([1]), 422, "$"),
    "unknown field of a block": (block(step=ints(1)), 422, "$.blocks[0].step"),
    "blocks and reports": (msgspec.msgpack.encode({**msgspec.msgpack.decode(block()), "reports": [GOOD]}), 422,
                           "$.reports"),
    # ragged columns
    "a value too few": (block(values=floats(1.0)), 422, "$.blocks[0].values"),
    "a value too many": (block(values=floats(1.0, 2.0, 3.0)), 422, "$.blocks[0].values"),
    "values for one tag of two": (block(tags=["loss", "acc"]), 422, "$.blocks[0].values"),
    "a wall time too few": (block(wall_times=floats(1.0)), 422, "$.blocks[0].wall_times"),
    "a step too few": (block(steps=ints(1)), 422, "$.blocks[0].values"),
    "at too short": (block(at={"epoch": ints(1)}), 422, "$.blocks[0].at.epoch"),
    "steps of 7 bytes": (block(steps=b"\0" * 7), 422, "$.blocks[0].steps"),
    "values of 9 bytes": (block(values=b"\0" * 9), 422, "$.blocks[0].values"),
    "wall times of 15 bytes": (block(wall_times=b"\0" * 15), 422, "$.blocks[0].wall_times"),
    "no rows": (block(steps=b"", values=b"", wall_times=b""), 422, "$.blocks[0].steps"),
    "no tags": (block(tags=[], values=b""), 422, "$.blocks[0].tags"),
    # steps, times
    "step negative": (block(steps=ints(-1, 2)), 422, "$.blocks[0].steps"),
    "steps decrease within a block": (block(steps=ints(2, 1)), 409, ""),
    "wall time NaN": (block(wall_times=floats(1.0, float("nan"))), 422, "$.blocks[0].wall_times"),
    "wall time Inf": (block(wall_times=floats(float("inf"), 1.0)), 422, "$.blocks[0].wall_times"),
    "wall time -Inf": (block(wall_times=floats(float("-inf"), 1.0)), 422, "$.blocks[0].wall_times"),
    "report wall_time NaN": (msgspec.msgpack.encode(GOOD | {"wall_time": float("nan")}), 422, "$.wall_time"),
    "report step NaN": (msgspec.msgpack.encode(GOOD | {"step": float("nan")}), 422, "$.step"),
    "report step Inf": (msgspec.msgpack.encode(GOOD | {"step": float("inf")}), 422, "$.step"),
    "at negative": (block(at={"epoch": ints(1, -2)}), 422, "$.blocks[0].at.epoch"),
    # names
    "tag twice": (block(tags=["loss", "loss"], values=floats(1.0, 2.0, 3.0, 4.0)), 422, "$.blocks[0].tags"),
    "tag with a control character": (block(tags=["lo\x07ss"]), 422, "$.blocks[0].tags"),
    "tag invalid UTF-8": (block(tags=["loss"]).replace(b"\xa4loss", b"\xa4lo\xff\xfe"), 400, "$"),
    "counter reserved": (block(counter="relative"), 422, "$.blocks[0].counter"),
    "too many tags": (block(tags=[f"t{i}" for i in range(limits.TAGS_PER_REPORT_MAX + 1)], steps=ints(1),
                            wall_times=floats(1.0), values=b"\0" * 8 * (limits.TAGS_PER_REPORT_MAX + 1)), 422,
                      "$.blocks[0].tags"),
    "too many blocks": (msgspec.msgpack.encode(
        {"blocks": msgspec.msgpack.decode(block())["blocks"] * (limits.BLOCKS_PER_BATCH_MAX + 1)}), 422, "$.blocks"),
    "too many rows": (block(steps=np.arange(limits.ROWS_PER_BATCH_MAX + 1).tobytes(), wall_times=None,
                            values=np.zeros(limits.ROWS_PER_BATCH_MAX + 1).tobytes()), 422, "$.blocks[0].steps"),
    # rewinds and opens in a batch
    "rewind of nothing": (msgspec.msgpack.encode({"rewind": {"next_steps": {}}}), 422, "$.rewind.next_steps"),
    "rewind to a negative step": (msgspec.msgpack.encode({"rewind": {"next_steps": {"epoch": -1}}}), 422,
                                  "$.rewind.next_steps.epoch"),
    "open with a bad total": (msgspec.msgpack.encode({"open": {"counters": {"epoch": {"total": -3}}}}), 422,
                              "$.open.counters.epoch.total"),
    "open with an unknown resume": (msgspec.msgpack.encode({"open": {"resume": "maybe"}}), 422, "$.open.resume"),
    # not MessagePack
    "empty": (b"", 400, "$"),
    "truncated": (block()[:-1], 400, "$"),
    "truncated in a header": (block()[:9], 400, "$"),
    "trailing": (block() + b"\x00", 400, "$"),
    "reserved byte": (b"\xc1", 400, "$"),
    "length of 4 GiB": (b"\x81\xa6blocks\xdd\xff\xff\xff\xff", 400, "$"),
    "JSON said to be MessagePack": (json_of(GOOD), 400, "$"),
    "a deep nest": (b"\x81\xa7summary\x81\xa1a" + b"\x91" * 100_000, 400, "$"),
}  # fmt: skip

CODES = {400: "undecodable_body", 409: "reports_refused", 422: "invalid_body"}


def check(service: RunningService, run: str, answer: Answer, status: int, code: str, field: str) -> None:
    """The problem is as it should be, nothing was stored, and the service goes on."""
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, problem["status"], problem["code"]) == (status, status, code), problem
    assert problem.get("field", "") == field, problem
    assert len(problem["detail"]) > 10
    assert problem["title"]
    assert service.get(f"/runs/{run}").status == 404
    assert service.report(run, GOOD).json()["stored"] == 1
    assert service.points(run, "loss") == [(1, 0.5)]
    assert service.parts.ingest.budget.used == 0


@pytest.mark.parametrize(("body", "status", "field"), JSON_BODIES.values(), ids=JSON_BODIES.keys())
def test_json(service: RunningService, run_name: str, body: bytes, status: int, field: str) -> None:
    check(service, run_name, service.report_bytes(run_name, body, JSON), status, CODES[status], field)


@pytest.mark.parametrize(("body", "status", "field"), MSGPACK_BODIES.values(), ids=MSGPACK_BODIES.keys())
def test_msgpack(service: RunningService, run_name: str, body: bytes, status: int, field: str) -> None:
    check(service, run_name, service.report_bytes(run_name, body, MSGPACK), status, CODES[status], field)


@pytest.mark.parametrize("content_type", [
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/cbor",
    "application/jsonlines", "application/json; charset=latin-1", "application/json; charset=utf-16", "json", ";",
])  # fmt: skip
def test_content_types_that_are_not_taken(service: RunningService, run_name: str, content_type: str) -> None:
    answer = service.report_bytes(run_name, json_of(GOOD), content_type)
    assert "application/msgpack" in answer.json()["detail"]
    assert ("--json" in answer.json()["detail"]) == ("urlencoded" in content_type)
    assert answer.headers["accept-post"] == "application/json, application/msgpack"
    check(service, run_name, answer, 415, "unsupported_media_type", "content-type")


def test_no_content_type(service: RunningService, run_name: str) -> None:
    body = json_of(GOOD)
    head = f"POST /api/v1/scalars/{run_name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    assert b"HTTP/1.1 415" in service.raw(head.encode() + body)


@pytest.mark.parametrize("encoding", ["br", "deflate", "gzip, zstd", "compress", "gzipp"])
def test_content_encodings_that_are_not_taken(service: RunningService, run_name: str, encoding: str) -> None:
    answer = service.report_bytes(run_name, json_of(GOOD), JSON, content_encoding=encoding)
    assert answer.headers["accept-encoding"] == "gzip, zstd"
    check(service, run_name, answer, 415, "unsupported_encoding", "content-encoding")


PACKED_GZIP = gzip.compress(json_of(GOOD))
PACKED_ZSTD = zstandard.compress(json_of(GOOD))


DAMAGED: dict[str, tuple[str, bytes]] = {
    "gzip empty": ("gzip", b""),
    "zstd empty": ("zstd", b""),
    "gzip not compressed": ("gzip", json_of(GOOD)),
    "zstd not compressed": ("zstd", json_of(GOOD)),
    "zstd said to be gzip": ("gzip", PACKED_ZSTD),
    "gzip said to be zstd": ("zstd", PACKED_GZIP),
    "gzip without its end": ("gzip", PACKED_GZIP[:-1]),
    "zstd without its end": ("zstd", PACKED_ZSTD[:-1]),
    "gzip header only": ("gzip", PACKED_GZIP[:12]),
    "gzip with another checksum": ("gzip", PACKED_GZIP[:-8] + b"\0\0\0\0" + PACKED_GZIP[-4:]),
    "gzip and more": ("gzip", PACKED_GZIP + b"x"),
    "zstd and more": ("zstd", PACKED_ZSTD + b"x"),
    "zstd with a byte changed": ("zstd", PACKED_ZSTD[:5] + b"\xff" + PACKED_ZSTD[6:]),
}


@pytest.mark.parametrize(("encoding", "body"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_compression(service: RunningService, run_name: str, encoding: str, body: bytes) -> None:
    answer = service.report_bytes(run_name, body, JSON, content_encoding=encoding)
    check(service, run_name, answer, 400, "damaged_body", "")


def bomb(encoding: str, nbytes: int) -> bytes:
    data = b" " * nbytes
    return gzip.compress(data, 9) if encoding == "gzip" else zstandard.ZstdCompressor(level=19).compress(data)


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
@pytest.mark.parametrize("nbytes", [limits.BODY_BYTES_MAX + 1, 512 * limits.MIB])
def test_bombs_do_not_go_off(service: RunningService, run_name: str, encoding: str, nbytes: int) -> None:
    packed = bomb(encoding, nbytes)
    assert len(packed) < limits.MIB
    answer = service.report_bytes(run_name, packed, JSON, content_encoding=encoding)
    assert str(limits.BODY_BYTES_MAX) in answer.json()["detail"]
    check(service, run_name, answer, 413, "body_too_large", "")


def test_a_zstd_frame_that_wants_a_huge_window_is_refused(service: RunningService, run_name: str) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=30, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(json_of(GOOD)) + compressor.flush()
    answer = service.report_bytes(run_name, packed, JSON, content_encoding="zstd")
    check(service, run_name, answer, 400, "damaged_body", "")


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_not(service: RunningService, run_name: str) -> None:
    good = json_of(GOOD)
    too_large = good + b" " * (limits.BODY_BYTES_MAX + 1 - len(good))
    check(service, run_name, service.report_bytes(run_name, too_large, JSON), 413, "body_too_large", "")
    at_the_limit = json_of(GOOD | {"step": 2})
    at_the_limit += b" " * (limits.BODY_BYTES_MAX - len(at_the_limit))
    assert service.report_bytes(run_name, at_the_limit, JSON).status == 200


def test_a_chunked_body_over_the_limit_is_refused(service: RunningService, run_name: str) -> None:
    pieces = (b" " * limits.MIB for _ in range(limits.BODY_BYTES_MAX // limits.MIB + 2))
    response = service.pool.request(
        "POST", f"{service.url}/api/v1/scalars/{run_name}", body=pieces, chunked=True, headers={"Content-Type": JSON}
    )
    answer = Answer(response.status, response.headers, response.data)
    check(service, run_name, answer, 413, "body_too_large", "")


NAME = (422, "invalid_run_name")
PATH = (400, "invalid_path")
LONG_SEGMENT = "x" * (limits.RUN_SEGMENT_BYTES_MAX + 1)


@pytest.mark.parametrize(("path", "status", "code"), [
    ("..", *NAME), ("a/../b", *NAME), ("%2e%2e/%2e%2e/etc/passwd", *NAME),
    ("a/%2E%2E%2Fb", *NAME), ("a/.", *NAME), ("a/.hidden", *NAME),
    ("/etc/passwd", *NAME), ("%2Fetc/passwd", *NAME), ("a//b", *NAME),
    ("a/", *NAME), ("", *NAME), ("a%5Cb", *NAME),
    ("C:%5Cx", *NAME), ("a%00b", *PATH), ("a%0Ab", *PATH),
    ("a%C2%85b", *NAME), ("a/%20b", *NAME), ("a/b%20", *NAME),
    ("events.out.tfevents.1", *NAME), ("a/my.tfevents/b", *NAME),
    (LONG_SEGMENT, *NAME), ("/".join("abcdefghijk"), *NAME),
    ("/".join(["y" * 190] * 3), *NAME),
    ("a%FFb", *PATH), ("%C0%AE%C0%AE/x", *PATH), ("a%ED%A0%80", *PATH),
])  # fmt: skip
@pytest.mark.parametrize(("method", "route"), [
    ("POST", "scalars"), ("POST", "rewind"), ("POST", "heartbeat"), ("GET", "refused"),
    ("PUT", "runs"), ("GET", "runs"), ("PATCH", "runs"), ("DELETE", "runs"),
])  # fmt: skip
def test_names_that_are_no_run(
    service: RunningService, method: str, route: str, path: str, status: int, code: str
) -> None:
    body = json_of(GOOD)
    head = (
        f"{method} /api/v1/{route}/{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    response = service.raw(head.encode() + body)
    top, _, content = response.partition(b"\r\n\r\n")
    problem = msgspec.json.decode(content)
    assert top.startswith(b"HTTP/1.1 %d" % status), response
    assert (problem["code"], problem["field"]) == (code, "run" if status == 422 else "path")
    assert all(".." not in run["run"] for run in service.get("/runs?limit=500").json()["runs"])


def test_raw_bytes_in_the_path_do_no_harm(service: RunningService) -> None:
    for path in (b"/api/v1/runs/a\xff", b"/api/v1/runs/\xc3\xa9", b"/api/v1/runs/a b", b"/\x00", b"//", b"*"):
        response = service.raw(b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert response.split(b" ")[1][:1] in (b"4", b""), response
    assert service.request("GET", "/healthz").status == 200


OTHER_BODIES: list[tuple[str, str, Any, int, str]] = [
    ("PUT", "/runs/{run}", {"resume": "maybe"}, 422, "$.resume"),
    ("PUT", "/runs/{run}", {"config": [1]}, 422, "$.config"),
    ("PUT", "/runs/{run}", {"config": {"x": "y" * limits.TEXT_BYTES_MAX}}, 422, "$.config"),
    (
        "PUT",
        "/runs/{run}",
        {"config": {"x": [1, {"seed": 2**64 - 1, "b": 10**30}]}},
        422,
        "$.config.x[1].b",
    ),
    ("PUT", "/runs/{run}", {"counters": {"epoch": {"total": "x"}}}, 422, "$.counters.epoch.total"),
    ("PUT", "/runs/{run}", {"counters": {"step": {}}}, 422, "$.counters"),
    ("PUT", "/runs/{run}", {"counters": {"epoch": {"total": -1}}}, 422, "$.counters.epoch.total"),
    ("PUT", "/runs/{run}", {"tags": ["a\nb"]}, 422, "$.tags"),
    ("PUT", "/runs/{run}", {"notes": "n" * (limits.TEXT_BYTES_MAX + 1)}, 422, "$.notes"),
    ("PUT", "/runs/{run}", {"name": "x"}, 422, "$.name"),
    ("PATCH", "/runs/{run}", {}, 422, "$"),
    ("PATCH", "/runs/{run}", {"status": "paused"}, 422, "$.status"),
    ("PATCH", "/runs/{run}", {"status": None}, 422, "$.status"),
    ("PATCH", "/runs/{run}", {"archived": "yes"}, 422, "$.archived"),
    ("PATCH", "/runs/{run}", {"tags": [1]}, 422, "$.tags[0]"),
    ("PATCH", "/runs/{run}", {"tags": [""]}, 422, "$.tags"),
    ("PATCH", "/runs/{run}", {"config": None}, 422, "$.config"),
    ("PATCH", "/runs/{run}", {"created_at": 1}, 422, "$.created_at"),
    ("PATCH", "/runs/{run}", {"summary": {"x": "y" * limits.TEXT_BYTES_MAX}}, 422, "$.summary"),
    ("POST", "/rewind/{run}", {}, 422, "$.next_steps"),
    ("POST", "/rewind/{run}", {"next_steps": {}}, 422, "$.next_steps"),
    ("POST", "/rewind/{run}", {"next_steps": {"epoch": -1}}, 422, "$.next_steps.epoch"),
    ("POST", "/rewind/{run}", {"next_steps": {"epoch": "1"}}, 422, "$.next_steps.epoch"),
    ("POST", "/rewind/{run}", {"next_steps": {"epoch": 1.5}}, 422, "$.next_steps.epoch"),
    ("POST", "/rewind/{run}", {"next_steps": {"wall_time": 1}}, 422, "$.next_steps"),
    ("POST", "/rewind/{run}", {"next_steps": {"epoch": 1}, "id": ""}, 422, "$.id"),
    ("POST", "/rewind/{run}", {"next_steps": {"epoch": 1}, "producer": "a\tb"}, 422, "$.producer"),
    ("POST", "/heartbeat/{run}", {"producer": 5}, 422, "$.producer"),
    ("POST", "/heartbeat/{run}", {"produser": "p"}, 422, "$.produser"),
]


@pytest.mark.parametrize(("method", "path", "document", "status", "field"), OTHER_BODIES)
def test_other_bodies(
    service: RunningService, run_name: str, method: str, path: str, document: Any, status: int, field: str
) -> None:
    answer = service.send(method, path.replace("{run}", run_name), document)
    check(service, run_name, answer, status, "invalid_body", field)


@pytest.mark.parametrize(("method", "path", "field"), [
    ("PUT", "/runs/a/b?resume=maybe", "resume"), ("GET", "/runs?limit=0", "limit"),
    ("GET", "/runs?limit=5001", "limit"),
    ("GET", "/runs?limit=x", "limit"), ("GET", "/runs?status=paused", "status"),
    ("GET", "/runs?archived=perhaps", "archived"), ("GET", "/runs?projekt=x", "projekt"),
    ("GET", "/runs?cursor=%25%25", "cursor"), ("GET", "/runs?cursor=_____", "cursor"),
    ("GET", "/refused/a/b?limit=0", "limit"), ("GET", "/refused/a/b?limit=1001", "limit"),
])  # fmt: skip
def test_query_parameters(service: RunningService, method: str, path: str, field: str) -> None:
    answer = service.request(method, f"/api/v1{path}")
    assert (answer.status, answer.json()["code"], answer.json()["field"]) == (422, "invalid_query", field)


def test_a_producer_in_the_query_must_be_a_name(service: RunningService) -> None:
    answer = service.request("PUT", "/api/v1/runs/a/b?producer=")
    assert (answer.status, answer.json()["code"], answer.json()["field"]) == (422, "invalid_body", "producer")


def test_query_bytes_must_be_utf8(service: RunningService) -> None:
    answer = service.get("/scalars?run=a%FF")
    assert (answer.status, answer.json()["code"], answer.json()["field"]) == (*PATH, "query")

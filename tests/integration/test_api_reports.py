"""Reporting over HTTP: every form of a body, receipts, replays, rewinds, heartbeats, refusals."""

import gzip
import json
from urllib.parse import quote

import msgspec
import numpy as np
import pytest
import zstandard

from tallyboard.wire import MSGPACK, Batch, Columns, encode_batch
from tests.conftest import StartService
from tests.service import RunningService
from tests.stores import on

pytestmark = on("sqlite", "postgres")


def batch_bytes(steps: range, *, producer: str | None = None, seq: int | None = None, partial: bool = False) -> bytes:
    n = len(steps)
    columns = Columns(
        "global_step", ("loss", "acc"), np.array(steps), np.full(n, 1e9), np.arange(2.0 * n).reshape(n, 2)
    )
    return encode_batch(Batch(producer=producer, seq=seq, partial=partial, columns=(columns,)))


def test_the_one_line_curl_works_on_a_fresh_service(start_service: StartService) -> None:
    service = start_service()
    body = '{"step": 1, "scalars": {"loss": 0.5}}'
    answer = service.raw(  # byte for byte what `curl localhost:PORT/api/v1/scalars/mnist/try1 --json BODY` sends
        f"POST /api/v1/scalars/mnist/try1 HTTP/1.1\r\nHost: localhost:{service.port}\r\nUser-Agent: curl/8.5.0\r\n"
        f"Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body.encode()
    )
    receipt = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert receipt["counters"] == {"global_step": {"last_step": 1, "attempt": 1}}
    assert service.points("mnist/try1", "loss") == [(1, 0.5)]


def test_one_report_says_counter_time_and_at(service: RunningService, run_name: str) -> None:
    assert service.report(run_name, {"step": 7, "scalars": {"loss": 1.0}}).status == 200
    answer = service.report(
        run_name,
        {"counter": "epoch", "step": 1.0, "scalars": {"val": 2.5}, "wall_time": 5.5, "at": {"global_step": 7.0}},
    )
    assert answer.status == 200
    chart = service.get(f"/scalars?run={quote(run_name)}&tag=val&x=global_step").json()
    (series,) = chart["series"]
    assert series["counter"] == "epoch"
    assert series["points"] == {"step": [1], "wall_time": [5.5], "value": [2.5], "x": [7]}
    assert series["x_source"] == "recorded"


@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "Application/JSON"])
def test_json_may_say_its_charset(service: RunningService, run_name: str, content_type: str) -> None:
    answer = service.report_bytes(run_name, b'{"step": 1, "scalars": {"loss": 0.5}}', content_type)
    assert answer.status == 200


@pytest.mark.parametrize("content_type", [MSGPACK, "application/x-msgpack", "application/vnd.msgpack"])
def test_msgpack_goes_by_all_its_names(service: RunningService, run_name: str, content_type: str) -> None:
    answer = service.report_bytes(run_name, batch_bytes(range(5)), content_type)
    assert answer.json()["stored"] == 10
    assert service.points(run_name, "acc") == [(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0), (4, 9.0)]


@pytest.mark.parametrize(("encoding", "pack"), [
    ("gzip", gzip.compress), ("x-gzip", gzip.compress), ("zstd", zstandard.compress),
    ("gzip", lambda body: gzip.compress(body[:999]) + gzip.compress(body[999:])),
    ("zstd", lambda body: zstandard.compress(body[:999]) + zstandard.compress(body[999:])),
])  # fmt: skip
@pytest.mark.parametrize("reports", [10, 20_000])
def test_bodies_may_be_compressed(
    service: RunningService, run_name: str, encoding: str, pack: "type[bytes]", reports: int
) -> None:
    packed = pack(batch_bytes(range(reports)))
    answer = service.report_bytes(run_name, packed, content_encoding=encoding)
    assert (answer.status, answer.json()["accepted"]) == (200, reports)
    points = service.points(run_name, "loss")
    assert points == [(step, 2.0 * step) for step in range(reports)]


def test_a_chunked_body_needs_no_length(service: RunningService, run_name: str) -> None:
    body = batch_bytes(range(50_000))
    pieces = [body[i : i + 100_000] for i in range(0, len(body), 100_000)]
    response = service.pool.request(
        "POST", f"{service.url}/api/v1/scalars/{run_name}", body=iter(pieces), chunked=True,
        headers={"Content-Type": MSGPACK},
    )  # fmt: skip
    assert response.status == 200
    assert msgspec.json.decode(response.data)["accepted"] == 50_000
    assert service.parts.ingest.budget.used == 0


def test_the_receipt_may_be_msgpack(service: RunningService, run_name: str) -> None:
    answer = service.report_bytes(run_name, batch_bytes(range(3)), accept=MSGPACK)
    assert answer.headers["content-type"] == MSGPACK
    assert answer.json()["accepted"] == 3


def test_non_finite_values_come_back_as_they_went(service: RunningService, run_name: str) -> None:
    values = ["NaN", "Infinity", "-Infinity", 1e308]
    reports = [{"step": i, "scalars": {"loss": value}} for i, value in enumerate(values)]
    assert service.report(run_name, {"reports": reports}).status == 200
    assert service.points(run_name, "loss") == list(enumerate(values))


def test_a_refused_report_says_what_to_do_and_stores_nothing(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"step": 5, "scalars": {"loss": 1.0}})
    answer = service.report(
        run_name,
        {"reports": [{"step": 6, "scalars": {"loss": 1.0}}, {"step": 3, "scalars": {"loss": 1.0}}]},
    )
    problem = answer.json()
    assert (answer.status, problem["code"], problem["refused_count"]) == (409, "reports_refused", 1)
    (refusal,) = problem["refused"]
    assert (refusal["row"], refusal["counter"], refusal["step"], refusal["last_step"]) == (1, "global_step", 3, 6)
    assert (refusal["reason"], refusal["tags"]) == ("step_decreased", ["loss"])
    assert answer.headers["content-type"] == "application/problem+json"
    assert service.points(run_name, "loss") == [(5, 1.0)]


def test_partial_stores_the_good_and_keeps_the_refused(service: RunningService, run_name: str) -> None:
    reports = [{"step": step, "scalars": {"loss": float(step)}} for step in (1, 2, 1, 3)]
    receipt = service.report(run_name, {"partial": True, "reports": reports}).json()
    assert (receipt["accepted"], receipt["refused_count"]) == (3, 1)
    kept = service.get(f"/refused/{run_name}").json()
    assert [(item["producer"], item["refusal"]["row"]) for item in kept["refused"]] == [("anonymous", 2)]
    assert service.points(run_name, "loss") == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert service.get(f"/runs/{run_name}").json()["health"]["refused_kept"] == 1


def test_numbered_batches_are_stored_once(service: RunningService, run_name: str) -> None:
    first, second = batch_bytes(range(3), producer="p", seq=1), batch_bytes(range(3, 5), producer="p", seq=2)
    assert not service.report_bytes(run_name, first).json()["replayed"]
    assert service.report_bytes(run_name, first).json()["replayed"]
    assert service.report_bytes(run_name, second).json()["accepted"] == 2
    reused = service.report_bytes(run_name, batch_bytes(range(3, 6), producer="p", seq=2))
    assert (reused.status, reused.json()["code"]) == (409, "seq_reused")
    gap = service.report_bytes(run_name, batch_bytes(range(9, 10), producer="p", seq=5))
    assert (gap.status, gap.json()["code"], gap.json()["expected_seq"]) == (409, "seq_gap", 3)
    assert [step for step, _ in service.points(run_name, "loss")] == [0, 1, 2, 3, 4]


def test_a_rewind_supersedes_and_repeats_harmlessly(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"reports": [{"step": s, "scalars": {"loss": float(s)}} for s in range(6)]})
    service.report(run_name, {"counter": "epoch", "step": 1, "scalars": {"val": 1.0}})
    rewind = {"id": "r1", "next_steps": {"global_step": 3}, "reason": "preempted"}
    answer = service.send("POST", f"/rewind/{run_name}", rewind)
    assert answer.json()["not_rewound"] == {"epoch": {"last_step": 1, "attempt": 1}}
    assert answer.json()["counters"]["global_step"] == {"last_step": 2, "attempt": 2}
    assert service.send("POST", f"/rewind/{run_name}", rewind).status == 200
    service.report(run_name, {"step": 3, "scalars": {"loss": 33.0}})
    assert service.points(run_name, "loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 33.0)]
    counter = service.get(f"/runs/{run_name}").json()["counters"]["global_step"]
    assert [(a["start"], a["last_step"], a["last_visible"], a["limit"]) for a in counter["attempts"]] == [
        (0, 5, 2, 3),
        (3, 3, 3, None),
    ]


def test_a_rewind_may_hand_the_counter_to_a_producer(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"step": 5, "scalars": {"loss": 1.0}})
    taken = service.report_bytes(run_name, batch_bytes(range(6, 7), producer="new", seq=1))
    assert taken.json()["refused"][0]["reason"] == "counter_taken"
    service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 2}, "producer": "new"})
    assert service.report_bytes(run_name, batch_bytes(range(2, 4), producer="new", seq=1)).status == 200


def test_a_heartbeat_is_heard(service: RunningService, run_name: str) -> None:
    service.report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
    reported = service.get(f"/runs/{run_name}").json()["health"]["last_seen"]
    heard = service.request("POST", f"/api/v1/heartbeat/{run_name}").json()
    assert heard["run"] == run_name
    assert service.get(f"/runs/{run_name}").json()["health"]["last_seen"] == heard["last_seen"] > reported
    assert service.send("POST", f"/heartbeat/{run_name}", {"producer": "p"}).status == 200


@pytest.mark.parametrize("path", ["/rewind/test/nobody", "/heartbeat/test/nobody"])
def test_what_needs_a_run_does_not_make_one(service: RunningService, path: str) -> None:
    body = {"next_steps": {"global_step": 1}} if "rewind" in path else {}
    answer = service.send("POST", path, body)
    assert (answer.status, answer.json()["code"]) == (404, "run_not_found")
    assert service.get("/runs/test/nobody").status == 404


@pytest.mark.parametrize("name", ["test/Größe 1", "test/a b", "test/100%", "test/x+y&z?#", "test/日本語", "test/a%2Fb"])
def test_names_survive_the_path(service: RunningService, name: str) -> None:
    assert service.report(name, {"step": 1, "scalars": {"λ/loss": 0.5}}).json()["run"] == name
    assert service.get(f"/runs/{quote(name, safe='')}").json()["run"] == name
    assert service.points(name, "λ/loss") == [(1, 0.5)]

"""What runs, projects and tokens may take, at a real service with lowered limits: each is said, and harms no other."""

import gzip
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import msgspec
import pytest
import zstandard

import tallyboard
from tallyboard.wire import JSON, MSGPACK, InvalidNameError, limits
from tallyboard.wire.names import check_kind
from tallyboard_server.access.errors import TokensTooManyError
from tallyboard_server.access.rules import check_room
from tallyboard_server.access.sessions import SESSIONS_MAX, Sessions
from tallyboard_server.access.tokens import PROJECT_TOKENS_MAX, TOKENS_MAX
from tallyboard_server.api import rates, safety
from tallyboard_server.api.body import DOCUMENT_BYTES_MAX
from tallyboard_server.api.rates import BURST_S
from tallyboard_server.principal import SERVICE, Principal, Token
from tallyboard_server.settings import Settings
from tests.conftest import StartService
from tests.service import Answer, RunningService, read_response, serving, until

RUNS = 3
AT_ONCE, WAITING = 2, 1
BODY_BYTES = 8 * limits.MIB


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service on which everything is soon full."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"), port=0, tags_per_run_max=3, counters_per_run_max=2,
        attempts_per_counter_max=2, producers_per_run_max=2, runs_per_project_max=RUNS, body_bytes_max=BODY_BYTES,
        run_requests_at_once_max=AT_ONCE, run_requests_waiting_max=WAITING, tensorboard=False,
    )  # fmt: skip
    with serving(settings) as running:
        yield running


def reported(service: RunningService, run: str, step: int = 1, tag: str = "loss", **more: Any) -> Answer:
    return service.report(run, {"step": step, "scalars": {tag: 1.0}, **more})


def code(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.json()["code"]


def test_tags_of_a_run(small: RunningService) -> None:
    for tag in ("a", "b", "c"):
        assert reported(small, "tags", tag=tag).status == 200
    refused = reported(small, "tags", tag="d")
    assert code(refused) == (409, "reports_refused")
    assert refused.json()["refused"][0]["reason"] == "too_many_tags"
    assert "at most 3 tags" in refused.json()["detail"]
    assert reported(small, "tags", step=2, tag="a").status == 200


def test_counters_of_a_run(small: RunningService) -> None:
    for counter in ("one", "two"):
        assert reported(small, "counters", tag=counter, counter=counter).status == 200
    refused = reported(small, "counters", tag="three", counter="three")
    assert code(refused) == (409, "reports_refused")
    assert refused.json()["refused"][0]["reason"] == "too_many_counters"
    assert code(small.send("PUT", "/runs/counters", {"counters": {"three": {}}})) == (409, "run_limit")


def test_attempts_of_a_counter(small: RunningService) -> None:
    assert reported(small, "attempts").status == 200
    rewind = {"next_steps": {"global_step": 0}}
    assert small.send("POST", "/rewind/attempts", rewind).status == 200
    refused = small.send("POST", "/rewind/attempts", rewind)
    assert code(refused) == (409, "run_limit")
    assert "2 attempts" in refused.json()["detail"]


def test_producers_of_a_run(small: RunningService) -> None:
    for number in (1, 2):
        counter = f"c{number}"
        sent = {
            "producer": f"p{number}",
            "seq": 1,
            "reports": [{"counter": counter, "step": 1, "scalars": {counter: 1}}],
        }
        assert small.report("producers", sent).status == 200
    refused = small.report("producers", {"producer": "p3", "seq": 1, "summary": {"x": 1}})
    assert code(refused) == (409, "run_limit")
    assert "2 producers" in refused.json()["detail"]


def test_runs_of_a_project(small: RunningService) -> None:
    """However one comes about; what is there goes on, and what is deleted makes room."""
    for number in range(RUNS):
        assert reported(small, f"full/run{number}").status == 200
    opened = {"producer": "p", "seq": 1, "open": {"resume": "new"}}
    for refused in (
        reported(small, "full/more"),
        small.send("PUT", "/runs/full/more", {}),
        small.send("PUT", "/runs/full/run0?resume=new", {}),
        small.report("full/run0", opened),
    ):
        assert code(refused) == (409, "project_full")
        assert "TALLYBOARD_RUNS_PER_PROJECT_MAX" in refused.json()["detail"]
    assert small.get("/runs/full/more").status == 404
    assert reported(small, "full/run0", step=2).status == 200
    assert reported(small, "fuller/run", step=2).status == 200, "another project, though its name begins alike"
    assert small.request("DELETE", "/api/v1/runs/full/run1").status == 204
    assert reported(small, "full/more").status == 200
    assert code(reported(small, "full/yet-more")) == (409, "project_full")


def test_runs_of_a_project_that_come_together(small: RunningService) -> None:
    """Runs that one transaction creates are counted, too."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection(("127.0.0.1", small.port), 10)) for _ in range(8)]
        for number, connection in enumerate(opened):
            connection.sendall(request_of(f"together/run{number}", GOOD))
        answers = [read_response(connection) for connection in opened]
    assert sorted(answer.split(b" ")[1] for answer in answers) == [b"200"] * RUNS + [b"409"] * (8 - RUNS)
    assert len(small.get("/runs?project=together").json()["runs"]) == RUNS


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_bytes_of_a_body(small: RunningService, encoding: str) -> None:
    """Before and after decompression; the operator's limit, below the protocol's."""
    body = b'{"step": 1, "scalars": {"loss": 1.0}' + b" " * BODY_BYTES + b"}"
    pack: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.compress}
    packed = pack[encoding](body) if encoding in pack else body
    refused = small.report_bytes("large/body", packed, JSON, Content_Encoding=encoding)
    assert code(refused) == (413, "body_too_large")
    assert str(BODY_BYTES) in refused.json()["detail"]


def test_bytes_of_a_body_of_documents(service: RunningService, run_name: str) -> None:
    assert reported(service, run_name).status == 200
    for method, path in (("POST", "rewind"), ("POST", "alerts"), ("PUT", "runs"), ("PATCH", "runs")):
        refused = service.send(method, f"/{path}/{run_name}", {"notes": "x" * DOCUMENT_BYTES_MAX})
        assert code(refused) == (413, "body_too_large")


def test_bytes_of_metadata(service: RunningService, run_name: str) -> None:
    """A string of that many bytes is SummaryMetadata with a summary_description of four bytes less."""
    for size, status in ((limits.METADATA_BYTES_MAX, 200), (limits.METADATA_BYTES_MAX + 1, 422)):
        text = b"d" * (size - 4)
        metadata = b"\x1a" + bytes([len(text) & 0x7F | 0x80, len(text) >> 7 & 0x7F | 0x80, len(text) >> 14]) + text
        assert len(metadata) == size
        value = b"\x42\x05\x08\x07\x42\x01x"  # tensor {dtype: DT_STRING, string_val: "x"}
        block = {"counter": "c", "tag": f"t{size}", "metadata": metadata, "steps": (1).to_bytes(8, "little"),
                 "values": [value]}  # fmt: skip
        answer = service.report_bytes(run_name, msgspec.msgpack.encode({"events": [block]}), MSGPACK)
        assert answer.status == status, answer.body


def test_charts_wait_for_each_other(service: RunningService, run_name: str) -> None:
    """One that comes when as many as may are being made is answered once one of them is done."""
    assert reported(service, run_name).status == 200
    reads = service.parts.chart_reads
    assert reads.total_tokens == Settings.model_fields["chart_reads_at_once_max"].default
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        total, reads.total_tokens = reads.total_tokens, 0
        try:
            connection.sendall(f"GET /api/v1/scalars?run={run_name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert until(lambda: reads.statistics().tasks_waiting == 1)
            assert reported(service, run_name, step=2).status == 200, "reports do not wait for charts"
        finally:
            service.parts.live._loop.call_soon_threadsafe(setattr, reads, "total_tokens", total)
        assert read_response(connection).startswith(b"HTTP/1.1 200")


def test_verifications_that_wait(service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "VERIFICATIONS_WAITING_MAX", 1)
    assert reported(service, run_name).status == 200
    limiter = service.parts.verifications
    with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
        total, limiter.total_tokens = limiter.total_tokens, 0
        try:
            connection.sendall(f"GET /api/v1/verify/{run_name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert until(lambda: limiter.statistics().tasks_waiting == 1)
            assert code(service.get(f"/verify/{run_name}")) == (503, "too_busy")
        finally:
            service.parts.live._loop.call_soon_threadsafe(setattr, limiter, "total_tokens", total)
        assert until(lambda: limiter.statistics().tasks_waiting == 0)
    assert service.get(f"/verify/{run_name}").status == 200


@pytest.mark.parametrize(("name", "most"), [
    ("tag", limits.TAG_BYTES_MAX), ("counter", limits.COUNTER_BYTES_MAX), ("producer", limits.PRODUCER_BYTES_MAX),
])  # fmt: skip
def test_bytes_of_names(service: RunningService, run_name: str, name: str, most: int) -> None:
    for size, status in ((most, 200), (most + 1, 422)):
        text = "x" * size
        report = {"counter": text if name == "counter" else "c", "step": size,
                  "scalars": {text if name == "tag" else f"loss-{name}": 1.0}}  # fmt: skip
        sent = {"reports": [report]} | ({"producer": text, "seq": 1} if name == "producer" else {})
        assert service.report(run_name, sent).status == status


def test_bytes_and_parts_of_a_runs_name(service: RunningService) -> None:
    whole = "/".join("x" * 100 for _ in range(5)) + "/" + "y" * (limits.RUN_NAME_BYTES_MAX - 505)
    for good in (whole, "s" * limits.RUN_SEGMENT_BYTES_MAX, "/".join("d" * limits.RUN_DEPTH_MAX)):
        assert reported(service, good).status == 200
    assert len(whole) == limits.RUN_NAME_BYTES_MAX
    for bad in (f"{whole}y", "s" * (limits.RUN_SEGMENT_BYTES_MAX + 1), "/".join("d" * (limits.RUN_DEPTH_MAX + 1))):
        assert code(reported(service, bad)) == (422, "invalid_run_name")


def test_bytes_of_a_kind() -> None:
    """It is TensorBoard's plugin name, part of a tag's metadata."""
    assert check_kind("k" * limits.KIND_BYTES_MAX)
    with pytest.raises(InvalidNameError, match=str(limits.KIND_BYTES_MAX)):
        check_kind("k" * (limits.KIND_BYTES_MAX + 1))


# ── one run's share ──────────────────────────────────────────────────────────────────────────────────────────────

GOOD = b'{"step": 1, "scalars": {"loss": 0.5}}'


def head_of(run: str, length: int) -> bytes:
    lines = [f"POST /api/v1/scalars/{run} HTTP/1.1", "Host: localhost", f"Content-Type: {JSON}"]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def request_of(run: str, body: bytes) -> bytes:
    return head_of(run, len(body)) + body


def test_a_run_has_its_share_and_others_theirs(small: RunningService) -> None:
    """Requests that dawdle hold up their own run, in a line that ends somewhere; another run does not notice."""
    fairness = small.parts.fairness
    with ExitStack() as stack:

        def ask(step: int, *, whole: bool) -> socket.socket:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", small.port), 10))
            body = b'{"step": %d, "scalars": {"loss": 0.5}}' % step
            connection.sendall(request_of("mine/run", body) if whole else head_of("mine/run", len(body)))
            return connection

        dawdling = [ask(step, whole=False) for step in range(1, 1 + AT_ONCE)]
        assert until(lambda: len(fairness) == 1 and small.parts.traffic.in_flight == AT_ONCE)
        waiting = ask(10, whole=True)
        assert until(lambda: fairness.stats()["fair_share_waiting"] == WAITING)
        assert small.parts.traffic.in_flight == AT_ONCE, "whoever waits takes no place of those that are served"
        refused = small.report("mine/run", {"step": 11, "scalars": {"loss": 0.5}})
        assert code(refused) == (503, "overloaded")
        assert int(refused.headers["retry-after"]) >= 1
        assert "mine/run" in refused.json()["detail"]
        assert reported(small, "yours/run").status == 200
        assert small.get("/runs").status == 200
        waiting.settimeout(0.1)
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        dawdling[0].close()
        waiting.settimeout(10)
        assert read_response(waiting).startswith(b"HTTP/1.1 200")
    assert until(lambda: len(fairness) == 0)
    assert reported(small, "mine/run", step=12).status == 200


# ── tokens and sessions ──────────────────────────────────────────────────────────────────────────────────────────────


def test_tokens_in_use() -> None:
    """Those that were revoked or have expired are none."""
    in_use = [Token(str(i), "", "read", None, b"", 0.0, "") for i in range(TOKENS_MAX - 1)]
    over = [Token("r", "", "read", None, b"", 0.0, "", revoked_at=1.0), Token("e", "", "read", None, b"", 0, "", 1.0)]
    check_room([*in_use, *over], SERVICE, 2.0)
    with pytest.raises(TokensTooManyError, match=str(TOKENS_MAX)):
        check_room([*in_use, over[0], Token("n", "", "read", None, b"", 0.0, "")], SERVICE, 2.0)


def test_tokens_in_use_of_a_project() -> None:
    """Its own admins can't go beyond that, not by way of projects within it either; those of others and of all can."""
    in_use = [Token(str(i), "", "read", f"p/{i}", b"", 0.0, "") for i in range(PROJECT_TOKENS_MAX)]
    for project in ("p", "p/1", "p/new"):
        check_room(in_use[1:], Principal("boss", "admin", project=project), 2.0)
        with pytest.raises(TokensTooManyError, match=f"{PROJECT_TOKENS_MAX} tokens of project 'p'"):
            check_room(in_use, Principal("boss", "admin", project=project), 2.0)
    for other in (Principal("boss", "admin", project="pp"), SERVICE):
        check_room(in_use, other, 2.0)


def test_browsers_that_are_logged_in() -> None:
    sessions = Sessions(lambda: 0.0)
    cookies = [sessions.begin("token") for _ in range(SESSIONS_MAX + 1)]
    assert len(sessions) == SESSIONS_MAX
    assert sessions.token_of(cookies[0]) is None
    assert sessions.token_of(cookies[1]) == sessions.token_of(cookies[-1]) == "token"


# ── rates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_more_requests_than_the_rate_are_told_to_come_back(
    start_service: StartService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "REFUSAL_PAUSE_S", 0.0)
    service = start_service(rate_per_token=5.0, tensorboard=False)
    answers = [reported(service, run_name, step) for step in range(30)]
    good = [answer for answer in answers if answer.status == 200]
    assert 5 * BURST_S <= len(good) < 20
    refused = next(answer for answer in answers if answer.status != 200)
    assert code(refused) == (429, "rate_limited")
    assert refused.headers["retry-after"] == "1"
    assert "5 requests a second" in refused.json()["detail"]
    assert all(service.request("GET", "/healthz").status == 200 for _ in range(20)), "a probe is always answered"
    time.sleep(1.0)
    assert reported(service, run_name, 100).status == 200
    with socket.create_connection(("127.0.0.1", service.port), 10, ("127.0.0.2", 0)) as other:
        other.sendall(request_of(run_name, b'{"step": 101, "scalars": {"loss": 0.5}}'))
        assert read_response(other).startswith(b"HTTP/1.1 200"), "another address has its own"


def test_a_token_may_have_a_rate_of_its_own(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "REFUSAL_PAUSE_S", 0.0)
    service = start_service(token="admins", tensorboard=False)
    made = service.send("POST", "/tokens", {"scope": "write", "rate": 2.0})
    assert made.status == 201, made.body
    slow = {"Authorization": f"Bearer {made.json()['token']}"}
    statuses = [service.get("/runs", slow).status for _ in range(20)]
    assert statuses[:4] == [200] * 4
    assert statuses[-1] == 429
    assert [service.get("/runs").status for _ in range(20)] == [200] * 20, "the admins' has the service's"


@pytest.mark.usefixtures("no_run_left")
def test_a_client_that_is_throttled_loses_nothing(start_service: StartService, run_name: str) -> None:
    service = start_service(rate_per_token=2.0, tensorboard=False)
    while service.get("/runs").status != 429:
        pass
    run = tallyboard.init(run_name, url=service.url, strict=True)
    step = run.counter("global_step")
    for _ in range(500):
        step.increment()
        run.log({"loss": step.value / 2})
    run.finish()
    assert run.stats().accepted == 500
    assert service.parts.traffic.with_status(429) >= 2, "one of ours, and one of the client's at least"
    assert until(lambda: service.get("/runs").status == 200)
    time.sleep(0.6)
    assert service.points(run_name, "loss") == [(i, i / 2) for i in range(1, 501)]

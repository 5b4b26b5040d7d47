"""Bodies that come too slowly, end early or come all at once: bounded in time and memory, and forgotten after."""

import socket
import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from tallyboard.wire import JSON, limits
from tests.access_kit import FOREIGN, OWN, bearer, guarded
from tests.conftest import StartService
from tests.service import RunningService, read_response, until

GOOD = b'{"step": 1, "scalars": {"loss": 0.5}}'


def head(run: str, length: int | None, *more: str) -> bytes:
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    lines = [f"POST /api/v1/scalars/{run} HTTP/1.1", "Host: localhost", f"Content-Type: {JSON}", size, *more, "", ""]
    return "\r\n".join(lines).encode()


def settle(service: RunningService) -> None:
    """Wait (bounded) until no request is under way."""
    for _ in range(1000):
        if service.parts.traffic.in_flight == 0 and service.parts.ingest.budget.used == 0:
            return
        time.sleep(0.01)


def test_a_slow_body_is_given_up(start_service: StartService) -> None:
    service = start_service(body_timeout_s=0.3)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head("a/slow", 1000) + GOOD)
        response = read_response(connection)
        assert connection.recv(10) == b""
    problem = msgspec.json.decode(response.partition(b"\r\n\r\n")[2])
    assert (problem["status"], problem["code"]) == (408, "body_timeout")
    settle(service)
    assert service.parts.ingest.budget.used == 0
    assert service.get("/runs/a/slow").status == 404
    assert service.report("a/slow", {"step": 1, "scalars": {"loss": 1.0}}).status == 200


def test_a_body_that_drips_is_given_up_too(start_service: StartService) -> None:
    service = start_service(body_timeout_s=0.5)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head("a/drip", None))
        connection.settimeout(0.05)
        response = b""
        for _ in range(200):
            try:
                connection.sendall(b"1\r\n \r\n")
                response += connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
            if response:
                break
    assert b"HTTP/1.1 408" in response
    settle(service)
    assert service.parts.ingest.budget.used == 0


def test_a_connection_that_closes_early_leaves_nothing(service: RunningService) -> None:
    for length in (len(GOOD) + 1, None):
        data = GOOD if length is not None else b"%x\r\n%s\r\n" % (len(GOOD), GOOD)
        service.raw(head("early/run", length) + data, then_close=True)
    settle(service)
    assert service.parts.ingest.budget.used == 0
    assert service.parts.traffic.in_flight == 0
    assert service.get("/runs/early/run").status == 404


def test_a_length_over_the_limit_is_refused_before_a_byte_is_sent(service: RunningService) -> None:
    response = service.raw(head("big/run", limits.BODY_BYTES_MAX + 1, "Expect: 100-continue"))
    assert response.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in response.lower()


def test_a_length_within_the_limit_may_expect_to_continue(service: RunningService) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head("expect/run", len(GOOD), "Expect: 100-continue"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(GOOD)
        assert read_response(connection).startswith(b"HTTP/1.1 200")


def test_beyond_the_budget_bodies_wait_outside(start_service: StartService) -> None:
    service = start_service(budget_bytes_max=2 * limits.BODY_BYTES_MAX)
    held = []
    try:
        for run in ("a/held", "a/held-too"):  # two bodies that never come hold the whole budget
            held.append(socket.create_connection(("127.0.0.1", service.port), timeout=10))
            held[-1].sendall(head(run, limits.BODY_BYTES_MAX))
        for _ in range(1000):
            if service.parts.ingest.budget.used == 2 * limits.BODY_BYTES_MAX:
                break
            time.sleep(0.01)
        answer = service.report("a/b", {"step": 1, "scalars": {"loss": 1.0}})
        assert (answer.status, answer.json()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert service.get("/runs").status == 200
    finally:
        for connection in held:
            connection.close()
    settle(service)
    assert service.report("a/b", {"step": 1, "scalars": {"loss": 1.0}}).status == 200


def test_bodies_of_one_projects_tokens_leave_room_for_others(tmp_path: Path) -> None:
    """Two bodies that never come hold the project's share, and refuse its own reports, by whichever token, alone."""
    with guarded(tmp_path, budget_bytes_max=4 * limits.BODY_BYTES_MAX, tensorboard=False) as there:
        service = there.service
        _, within = there.make("write", f"{OWN}/within")
        body = {"step": 1, "scalars": {"loss": 1.0}}

        def reported(token: str, run: str) -> tuple[int, str]:
            service.headers |= bearer(token)
            answer = service.report(run, body)
            return answer.status, answer.json().get("code", "")

        with ExitStack() as stack:
            for run in ("held", "held-too"):
                held = stack.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
                authorization = f"Authorization: Bearer {there.own['write']}"
                held.sendall(head(f"{OWN}/{run}", limits.BODY_BYTES_MAX, authorization))
            assert until(lambda: service.parts.ingest.budget.used == 2 * limits.BODY_BYTES_MAX)
            for token in (there.own["write"], within):
                assert reported(token, f"{OWN}/within/a") == (503, "overloaded")
            assert reported(there.whole["write"], f"{FOREIGN}/a") == (200, "")
        settle(service)
        assert service.parts.ingest.budget.used == 0
        assert reported(within, f"{OWN}/within/a") == (200, "")


def test_chunks_count_against_the_budget_as_they_come(start_service: StartService) -> None:
    service = start_service(budget_bytes_max=2 * limits.BODY_BYTES_MAX)
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(head("a/chunks", None) + b"%x\r\n" % limits.MIB + b" " * limits.MIB + b"\r\n")
        for _ in range(1000):
            if service.parts.ingest.budget.used >= limits.MIB:
                break
            time.sleep(0.01)
        assert limits.MIB <= service.parts.ingest.budget.used <= 2 * limits.MIB
    settle(service)
    assert service.parts.ingest.budget.used == 0


def test_requests_may_follow_each_other_after_an_error(service: RunningService) -> None:
    bad = b'{"step": -1, "scalars": {"loss": 0.5}}'
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        for body, status in ((bad, b"422"), (GOOD, b"200"), (bad, b"422"), (GOOD, b"200")):
            connection.sendall(head("kept/alive", len(body)) + body)
            assert read_response(connection).split(b" ")[1] == status

"""A real service on whose socket anything arrives: it answers in its own words or closes, and goes on as before."""

import gc
import os
import random
import socket
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import msgspec
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallyboard.wire import limits
from tallyboard_server.settings import Settings
from tests.service import RunningService, read_response, serving

TOKEN = "correct-horse"
RUN = "fuzz/one"
EXAMPLES = 120
HANGS_AFTER_S = 10.0
"""Of silence, when all was sent that there is: no answer takes as long."""
GROWTH_BYTES_MAX = 32 * limits.MIB

many = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service behind a token, with one run."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data"), port=0, token=TOKEN)) as running:
        reports = [{"step": step, "scalars": {"loss": step / 7, "acc": 1.0}} for step in range(20)]
        assert running.report(RUN, {"reports": reports}).status == 200
        yield running


def goes_on(service: RunningService) -> None:
    """It answers, from the store too, nothing is in the making, and no thread has been lost."""
    assert service.get(f"/runs/{RUN}").json()["counters"]["global_step"]["last_step"] == 19
    assert service.parts.ingest.budget.used == 0
    assert service.request("GET", "/readyz").status == 200


def exchanged(service: RunningService, data: bytes) -> bytes:
    """What comes back for bytes after which nothing more will come; an assertion if that takes forever."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=HANGS_AFTER_S) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return read_response(connection)
        except (ConnectionResetError, BrokenPipeError):  # closed before all of it was read
            return b""
        except TimeoutError:
            raise AssertionError(f"silence after {data[:200]!r}") from None


def status(response: bytes) -> int:
    """Of a response; 0 if there is none."""
    return int(response.split(b" ", 2)[1]) if response.startswith(b"HTTP/1.1 ") else 0


REQUESTS = [
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /api/v1/runs/fuzz/one HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer correct-horse\r\n\r\n",
    b"POST /api/v1/scalars/fuzz/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer correct-horse\r\n"
    b'Content-Type: application/json\r\nContent-Length: 36\r\n\r\n{"step": 1, "scalars": {"loss": 0.5}}',
    b"POST /api/v1/scalars/fuzz/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer correct-horse\r\n"
    b'Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"st\r\n0\r\n\r\n',
    b"GET /tensorboard/data/runs HTTP/1.1\r\nHost: localhost\r\nCookie: tallyboard=x; a=b\r\nRange: bytes=0-9\r\n\r\n",
]


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """A request with pieces cut out, doubled, changed, or put in."""
    data = bytearray(draw(st.sampled_from(REQUESTS)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        piece = draw(
            st.binary(min_size=1, max_size=6)
            | st.sampled_from([b"\r\n", b"\n", b"\0", b": ", b"\r\n ", b"%00", b"..", b"Content-Length: 99\r\n"])
        )
        cut = draw(st.integers(0, 12))
        data[at : at + cut] = piece
    return bytes(data)


@given(st.binary(max_size=400) | mangled())
@many
def test_bytes_on_the_socket_are_answered_or_closed(guarded: RunningService, data: bytes) -> None:
    assert status(exchanged(guarded, data)) < 500


def test_it_has_not_grown_and_goes_on(guarded: RunningService) -> None:
    """Twice the same flood: what the second takes beyond the first stays."""
    dice = random.Random(8)
    process = psutil.Process(os.getpid())
    seen = []
    for _ in range(3):
        for _ in range(60):
            noise = dice.randbytes(dice.randrange(1, 20_000))
            exchanged(guarded, dice.choice(REQUESTS)[: dice.randrange(1, 90)] + noise)
        gc.collect()
        seen.append(process.memory_info().rss)
        goes_on(guarded)
    assert seen[2] - seen[0] < GROWTH_BYTES_MAX


HEADERS = st.sampled_from(
    [
        "Accept",
        "Accept-Encoding",
        "If-None-Match",
        "Authorization",
        "Cookie",
        "Content-Type",
        "Content-Encoding",
        "Content-Length",
        "Range",
        "Last-Event-ID",
        "Origin",
        "Host",
        "Expect",
        "X-Forwarded-For",
        "Forwarded",
    ]
)
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "Bearer ",
            "Basic ",
            TOKEN,
            "*",
            "*/*",
            ",",
            ";",
            "=",
            '"',
            "W/",
            "q=",
            "0.5",
            "-1",
            "1e309",
            "application/msgpack",
            "gzip",
            "identity",
            "bytes=",
            "-",
            "tallyboard",
            "tallyboard_6007",
            "\\",
            "é",
            "\t",
            "%00",
            "9" * 30,
            "A==",
            "://",
        ]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=6),
    max_size=6,
).map("".join)
PATHS = st.sampled_from(
    [
        "/",
        "/api/v1/runs",
        f"/api/v1/runs/{RUN}",
        f"/api/v1/scalars?run={RUN}&tag=loss",
        "/tensorboard/",
        f"/api/v1/export/{RUN}",
        "/metrics",
        "/login",
        "/docs",
    ]
)


@given(PATHS, st.lists(st.tuples(HEADERS, FRAGMENTS), max_size=4), st.booleans())
@many
def test_any_headers(guarded: RunningService, path: str, headers: list[tuple[str, str]], known: bool) -> None:
    lines = [f"GET {path} HTTP/1.1", *(() if any(n == "Host" for n, _ in headers) else ("Host: localhost",))]
    lines += [f"Authorization: Bearer {TOKEN}"] if known else []
    lines += [f"{name}: {value}" for name, value in headers]
    answered = exchanged(guarded, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    assert status(answered) < 500, answered


@given(
    st.sampled_from(
        ["/api/v1/runs/", "/api/v1/export/", "/api/v1/blobs/", "/api/v1/nothing/", "/assets/", "/tensorboard/"]
    ),
    st.lists(
        st.sampled_from(
            ["%2e", "%2F", "..", "/", "%00", "%", "%zz", "%ff", "%c3%a9", "%ed%a0%80", "a", "//", "%5c", ";", "%u0041"]
        ),
        max_size=8,
    ).map("".join),
)
@many
def test_any_percent_encoding(guarded: RunningService, route: str, rest: str) -> None:
    head = f"GET {route}{rest} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    answered = exchanged(guarded, head.encode())
    assert status(answered) < 500, answered
    assert b"root:" not in answered


EXPRESSION = st.lists(
    st.sampled_from(
        [
            "config.lr",
            "last.loss",
            "name",
            "(",
            ")",
            " and ",
            " or ",
            "not ",
            "<",
            "=",
            "!=",
            "~",
            "in ",
            "[",
            "]",
            ",",
            '"',
            "'",
            "\\",
            "1",
            "-",
            "1e999",
            "9" * 40,
            "nan",
            "ago",
            "3d",
            ".",
            "*",
            "$",
            "é",
            "\u202e",
            "null",
            "true",
        ]
    )
    | st.text(max_size=3),
    max_size=9,
).map("".join)


@given(
    st.sampled_from(["filter", "columns", "sort", "cursor", "q", "tag", "x", "from", "to", "buckets", "since"]),
    EXPRESSION,
)
@many
def test_any_expression(guarded: RunningService, name: str, text: str) -> None:
    asked = quote(text.encode("utf-8", "replace"))
    for path in (f"/runs?columns=name&{name}={asked}", f"/scalars?run={RUN}&tag=loss&{name}={asked}"):
        answer = guarded.get(path)
        assert answer.status in (200, 400, 422), (path, answer.body)


COUNTS = st.integers(-1, 2**63 - 1) | st.sampled_from([0, 1, 2, 2**31, 2**32, 2**53])


@given(st.lists(COUNTS, min_size=9, max_size=9), st.integers(0, 2))
@many
def test_a_cursor_that_was_tampered_with(guarded: RunningService, numbers: list[int], lines: int) -> None:
    """With the real question, and anything as to what was seen of the run."""
    path = f"/scalars?run={RUN}&tag=loss"
    cursor = guarded.get(path).json()["cursor"]
    version, question, runs = msgspec.msgpack.decode(
        zlib.decompress(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    )
    run: list[Any] = [
        runs[0][0],
        *numbers[:3],
        *([number] * lines for number in numbers[3:7]),
        [bool(numbers[7] % 2)] * lines,
    ]
    run.append([numbers[8]] * lines)
    changed = urlsafe_b64encode(zlib.compress(msgspec.msgpack.encode([version, question, [run]]))).decode().rstrip("=")
    answer = guarded.get(f"{path}&since={changed}")
    assert answer.status in (200, 422), answer.body


def test_after_all_that_it_goes_on(guarded: RunningService) -> None:
    goes_on(guarded)

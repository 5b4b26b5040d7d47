"""Cookies of browsers that gave the token: until when they are good, and that nobody can make one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.api import sessions
from tallyboard_server.api.login import checked_next
from tallyboard_server.api.sessions import GOOD_S, TRIES_MAX, TRIES_S, Sessions, Tries

TOKEN = "s3cret-token"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def made(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Sessions:
    monkeypatch.setattr(sessions, "_ROUNDS", 1)
    return Sessions(TOKEN, clock)


def header(of: Sessions, value: str) -> bytes:
    return f"theme=dark; {of.cookie_name}={value}; a=b".encode("latin-1")


def test_a_cookie_is_good_for_thirty_days_and_says_nothing_of_the_token(made: Sessions, clock: Clock) -> None:
    value = made.begin()
    assert TOKEN not in value + made.cookie_name
    assert made.holds(header(made, value))
    clock.now += GOOD_S - 1
    assert made.holds(header(made, value))
    clock.now += 1
    assert not made.holds(header(made, value))


def test_it_holds_over_a_restart_and_ends_with_the_token(made: Sessions, clock: Clock) -> None:
    value = made.begin()
    assert Sessions(TOKEN, clock).holds(header(made, value))
    other = Sessions(f"{TOKEN}2", clock)
    assert other.cookie_name != made.cookie_name
    assert not other.holds(header(other, value))


def test_a_cookie_that_was_changed_anywhere_is_none(made: Sessions) -> None:
    value = made.begin()
    until, _, seal = value.partition(".")
    for place in range(len(value)):
        for sign in "0a.;é":
            changed = f"{value[:place]}{sign}{value[place + 1 :]}"
            assert changed == value or not made.holds(header(made, changed)), changed
    later = str(int(until) + 1)
    for text in (
        "",
        ".",
        until,
        seal,
        f"{later}.{seal}",
        f".{seal}",
        f"{until}.",
        f"{until}.{seal}{seal}",
        "9" * 5_000,
    ):
        assert not made.holds(header(made, text)), text
    assert not made.holds(f"{made.cookie_name}x={value}".encode())
    assert not made.holds(b"")


@given(st.binary(max_size=300))
def test_no_header_is_too_odd(data: bytes) -> None:
    of = Sessions.__new__(Sessions)
    of._key, of._clock, of.cookie_name = b"key", lambda: 0.0, "tallyboard_x"
    assert not of.holds(data)
    assert not of.holds(b"tallyboard_x=" + data)


def test_the_token_is_compared_whole(made: Sessions) -> None:
    assert made.is_token(TOKEN.encode())
    for wrong in ("", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "tökén"):
        assert not made.is_token(wrong.encode())


def test_wrong_tokens_are_bounded_by_address_and_forgotten(clock: Clock) -> None:
    tries = Tries(clock)
    for _ in range(TRIES_MAX):
        assert tries.wait_s("a") == 0.0
        tries.failed("a")
    assert tries.wait_s("a") == TRIES_S
    assert tries.wait_s("b") == 0.0
    clock.now += TRIES_S - 1
    assert tries.wait_s("a") == 1.0
    clock.now += 2
    assert tries.wait_s("a") == 0.0
    tries.failed("a")
    assert tries.wait_s("a") == 0.0
    for i in range(5_000):
        tries.failed(f"address {i}")
    assert len(tries._wrong) == 1_000


@pytest.mark.parametrize("then", [
    "", "docs", "tensorboard/", "?runs=a%2Fb&x=step", "docs?a=1", "tensorboard/x.html", "a/b/c/",
])  # fmt: skip
def test_places_below_the_service_are_gone_to(then: str) -> None:
    assert checked_next(then) == then


@pytest.mark.parametrize("then", [
    "//evil.example", "/docs", "\\\\evil.example", "/\\evil.example", "https://evil.example", "https:evil.example",
    "javascript:alert(1)", "..", "../", "docs/../../other", "./..", "docs/./x", "%2e%2e/", "a//b", " docs", "docs\n",
    "docs#x", "\tdocs", "docs\r\nSet-Cookie: a=b", "x" * 5_000, "dócs", "@evil.example", ".evil.example", "\x00",
])  # fmt: skip
def test_no_other_place_is(then: str) -> None:
    assert checked_next(then) == ""


@given(st.text(max_size=40))
def test_whatever_is_asked_for_stays_in_one_line_and_below(text: str) -> None:
    then = checked_next(text)
    assert then.isascii()
    assert not set('\r\n\\ "<>') & set(then)
    path = then.partition("?")[0]
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert ":" not in path

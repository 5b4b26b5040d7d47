"""Requests a second, by a clock that the test moves."""

import asyncio

import pytest

from tallyboard_server.api.problems import RateLimitedError
from tallyboard_server.api.rates import BURST_S, REFUSAL_PAUSE_S, Rates
from tallyboard_server.principal import Principal

ONE = Principal("one", "admin", token="1")
TWO = Principal("two", "admin", token="2")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(rates: Rates, principal: Principal, times: int) -> int:
    """How many of so many requests at one moment were let through."""
    for number in range(times):
        try:
            rates.take(principal)
        except RateLimitedError:
            return number
    return times


def test_a_burst_passes_then_the_rate() -> None:
    clock = Clock()
    rates = Rates(10.0, clock)
    assert taken(rates, ONE, 100) == 10 * BURST_S
    for _ in range(20):
        clock.now += 0.1
        assert taken(rates, ONE, 5) == 1
    clock.now += 1.0
    assert taken(rates, ONE, 100) == 10
    clock.now += 1000.0
    assert taken(rates, ONE, 100) == 10 * BURST_S


def test_what_was_refused_does_not_count() -> None:
    clock = Clock()
    rates = Rates(1.0, clock)
    assert taken(rates, ONE, 10) == 2
    for _ in range(1000):
        assert taken(rates, ONE, 1) == 0
    clock.now += 1.0
    assert taken(rates, ONE, 10) == 1


def test_it_says_when_to_come_back() -> None:
    clock = Clock()
    rates = Rates(0.5, clock)
    assert taken(rates, ONE, 10) == 1
    with pytest.raises(RateLimitedError) as caught:
        rates.take(ONE)
    assert caught.value.retry_after_s == pytest.approx(2.0)
    assert "0.5 requests a second" in str(caught.value)
    clock.now += caught.value.retry_after_s
    rates.take(ONE)


def test_others_are_not_touched_and_a_token_may_have_its_own() -> None:
    rates = Rates(5.0, Clock())
    assert taken(rates, ONE, 100) == 10
    assert taken(rates, TWO, 5) == 5
    assert taken(rates, Principal("slow", "admin", token="3", rate=1.0), 100) == 2
    assert taken(rates, Principal("free", "admin", token="4", rate=0.0), 100) == 100
    assert taken(rates, Principal("anybody", "admin", address="10.0.0.1"), 100) == 10
    assert taken(rates, Principal("anybody", "admin", address="10.0.0.2"), 100) == 10
    assert taken(rates, Principal("one, from elsewhere", "admin", token="1", address="10.0.0.3"), 1) == 0


def test_a_refusal_is_held_back_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    limited = Rates(1.0, Clock())

    async def ask() -> None:
        await limited.admit(ONE)
        await limited.admit(ONE)
        assert slept == []
        with pytest.raises(RateLimitedError):
            await limited.admit(ONE)
        assert slept == [REFUSAL_PAUSE_S]

    asyncio.run(ask())


def test_without_a_rate_nothing_is_counted() -> None:
    rates = Rates(0.0, Clock())
    assert taken(rates, ONE, 1000) == 1000
    assert len(rates) == 0


def test_so_many_are_remembered_and_who_is_quiet_is_not() -> None:
    clock = Clock()
    rates = Rates(1.0, clock, keys_max=10)
    for number in range(25):
        rates.take(Principal("x", "admin", address=str(number)))
        assert len(rates) <= 10
    clock.now += 10.0
    rates.take(ONE)
    assert len(rates) == 1, "all the others' buckets are full again"

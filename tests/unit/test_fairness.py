"""A run's turns: in order, within its share, bounded, and of no concern to others."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from starlette.requests import Request

from tallyboard_server.api.fairness import CROWDED_BYTES_PER_S, UNPACKED_RATIO, FairShare, weight
from tallyboard_server.ingest.errors import OverloadedError

KIB = 1024


class Job:
    """A request that is worked on from when it is let in until it is told to end."""

    def __init__(self, share: FairShare, run: str = "a", nbytes: int = 1) -> None:
        self.begun = False
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._work(share, run, nbytes))

    async def _work(self, share: FairShare, run: str, nbytes: int) -> None:
        async with share.turn(run, nbytes):
            self.begun = True
            await self._end.wait()

    async def end(self) -> None:
        self._end.set()
        await self.task
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def on_a_loop(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_so_many_at_once_then_in_order() -> None:
    async def check() -> None:
        share = FairShare(2, KIB, 10)
        jobs = [Job(share) for _ in range(5)]
        await settle()
        assert [job.begun for job in jobs] == [True, True, False, False, False]
        await jobs[1].end()
        assert [job.begun for job in jobs] == [True, True, True, False, False]
        for job in (jobs[0], *jobs[2:]):
            await job.end()
        assert len(share) == 0
        assert share.stats() == {"fair_share_waiting": 0, "fair_share_waited_total": 3, "fair_share_refused_total": 0}

    on_a_loop(check())


def test_so_many_bytes_at_once_and_a_larger_one_alone() -> None:
    async def check() -> None:
        share = FairShare(10, 100, 10)
        small, large, after = Job(share, nbytes=60), Job(share, nbytes=1000), Job(share, nbytes=1)
        await settle()
        assert (small.begun, large.begun, after.begun) == (True, False, False), "nobody overtakes"
        await small.end()
        assert (large.begun, after.begun) == (True, False)
        await large.end()
        assert after.begun
        await after.end()

    on_a_loop(check())


def test_a_crowding_run_rests_between_its_requests_while_others_report() -> None:
    async def check() -> None:
        loop = asyncio.get_running_loop()
        share = FairShare(1, CROWDED_BYTES_PER_S // 20, 10)  # so that one as large as the share rests for 50 ms
        jobs = [Job(share, nbytes=share.bytes_max) for _ in range(3)]
        await settle()
        await jobs[0].end()
        assert jobs[1].begun, "alone it need not rest"
        other = Job(share, "b")
        await settle()
        assert other.begun
        ended_at = loop.time()
        await jobs[1].end()
        assert [job.begun for job in jobs] == [True, True, False]
        assert len(share) == 2
        while not jobs[2].begun:  # noqa: ASYNC110 - what is tested is when it begins by itself
            await asyncio.sleep(0.001)
        assert loop.time() - ended_at >= 0.049
        await jobs[2].end()
        await other.end()
        assert len(share) == 0

    on_a_loop(check())


def test_others_do_not_wait() -> None:
    async def check() -> None:
        share = FairShare(1, KIB, 10)
        jobs = [Job(share, "a"), Job(share, "a"), Job(share, "b"), Job(share, "c")]
        await settle()
        assert [job.begun for job in jobs] == [True, False, True, True]
        for job in jobs:
            await job.end()

    on_a_loop(check())


def test_the_line_is_bounded() -> None:
    async def check() -> None:
        share = FairShare(1, KIB, 2, pause_s=0.001)
        jobs = [Job(share) for _ in range(3)]
        await settle()
        with pytest.raises(OverloadedError, match="run 'a'") as caught:
            async with share.turn("a", 1):
                pass
        assert caught.value.retry_after_s > 0
        for job in jobs:
            await job.end()
        assert len(share) == 0

    on_a_loop(check())


def test_the_wait_is_bounded_and_makes_room() -> None:
    async def check() -> None:
        share = FairShare(1, 100, 2, wait_s=0.01)
        first = Job(share)
        await settle()
        with pytest.raises(OverloadedError):
            async with share.turn("a", 1):
                pass
        assert share.stats()["fair_share_waiting"] == 0
        await first.end()
        assert len(share) == 0

    on_a_loop(check())


@pytest.mark.parametrize("let_in", [False, True])
def test_who_goes_away_leaves_no_trace(let_in: bool) -> None:
    """Also in the very moment in which its turn has come."""

    async def check() -> None:
        share = FairShare(1, 100, 10)
        first, gone, last = Job(share), Job(share, nbytes=200), Job(share)
        await settle()
        if let_in:
            first._end.set()
            await asyncio.sleep(0)
        gone.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone.task
        await settle()
        if not let_in:
            await first.end()
        await settle()
        assert last.begun
        await last.end()
        assert len(share) == 0

    on_a_loop(check())


@pytest.mark.parametrize(("headers", "expected"), [
    ({"content-length": "100"}, 100), ({}, 5000), ({"transfer-encoding": "chunked"}, 5000),
    ({"content-length": "100", "content-encoding": "gzip"}, 100 * UNPACKED_RATIO),
    ({"content-length": "100", "content-encoding": "identity"}, 100), ({"content-length": "x"}, 5000),
])  # fmt: skip
def test_what_a_request_weighs(headers: dict[str, str], expected: int) -> None:
    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    assert weight(Request(scope), 5000) == expected

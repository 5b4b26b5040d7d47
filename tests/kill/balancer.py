"""A load balancer of the tests' own: each request goes to another service by chance, and meets what networks do."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.faults.proxy import Fault, FaultProxy, run_proxy

FAULTS: Sequence[Fault] = ("refuse", "delay", "duplicate", "reorder", "lose answer")
PROBABILITY = 0.04
ANSWER_TIMEOUT_S = 3.0
"""What takes longer is given up, as by a balancer's read timeout; its client tries again, mostly elsewhere, while the
first service may still be at work on it."""


class Balancer(FaultProxy):
    """FaultProxy before several services: one that refuses connections is passed over, as nginx does it.

    duplicate: two services, which may be the same, get the request at the same time.
    """

    def __init__(self, ports: Sequence[int], seed: int, probability: float) -> None:
        super().__init__(ports[0], seed, FAULTS, probability)
        self._ports = list(ports)

    async def _ask(self, request: bytes, *, whole: bool = True) -> bytes:
        ports = self._chance.sample(self._ports, len(self._ports))
        for port in ports[:-1]:
            try:
                return await asyncio.wait_for(self._ask_one(port, request, whole=whole), ANSWER_TIMEOUT_S)
            except ConnectionRefusedError:
                continue
        return await asyncio.wait_for(self._ask_one(ports[-1], request, whole=whole), ANSWER_TIMEOUT_S)

    async def _repeat(self, request: bytes) -> None:
        self._send_later(request, 0.0)


@contextmanager
def balanced(ports: Sequence[int], seed: int, probability: float = PROBABILITY) -> Iterator[Balancer]:
    """A balancer in a thread of its own, until the block ends."""
    balancer = Balancer(ports, seed, probability)
    with run_proxy(balancer):
        yield balancer

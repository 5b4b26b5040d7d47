"""Chart readers: each asks GET /scalars for a stretch of some curve, again as soon as it has the answer."""

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

import msgspec
import numpy as np
import urllib3

from tallyboard.wire import MSGPACK, Float64
from tests.bench.load import HOST

POINTS_WANTED: Final = 10_000
"""Reports in the stretch that one answer covers: more than a chart has pixels."""
_LOOK_EVERY: Final = 20
_TIMEOUT_S: Final = 30.0


@dataclass(slots=True)
class Read:
    """What readers got: seconds of each answer, points in all of them, and errors."""

    latencies: Float64
    points: int
    errors: list[str]


@dataclass(slots=True)
class _Reader:
    port: int
    runs: tuple[str, ...]
    tags: tuple[str, ...]
    seed: int
    latencies: list[float] = field(default_factory=list)
    points: int = 0
    error: str | None = None

    def read_until(self, end: float) -> None:
        """Ask, again and again, for a random stretch of a random curve among what is there by now."""
        rng = random.Random(self.seed)
        with urllib3.HTTPConnectionPool(HOST, self.port, maxsize=1, retries=False, timeout=_TIMEOUT_S) as pool:
            newest: dict[str, int] = {}
            while time.perf_counter() < end:
                run = rng.choice(self.runs)
                if run not in newest or len(self.latencies) % _LOOK_EVERY == 0:
                    newest[run] = self._newest(pool, run)
                first = rng.randrange(max(1, newest[run] - POINTS_WANTED + 1)) + 1
                begun = time.perf_counter()
                query = {"run": run, "tag": rng.choice(self.tags), "from": first, "to": first + POINTS_WANTED - 1}
                response = pool.request("GET", f"/api/v1/scalars?{urlencode(query)}", headers={"Accept": MSGPACK})
                if response.status != 200:
                    self.error = f"{response.status} {response.data[:200].decode(errors='replace')}"
                    return
                self.latencies.append(time.perf_counter() - begun)
                self.points += sum(series["count"] for series in msgspec.msgpack.decode(response.data)["series"])

    def _newest(self, pool: urllib3.HTTPConnectionPool, run: str) -> int:
        response = pool.request("GET", f"/api/v1/runs/{run}")
        if response.status != 200:
            return 1
        counters = msgspec.json.decode(response.data)["counters"].values()
        return max((counter["last_step"] or 1 for counter in counters), default=1)


def read_charts(port: int, runs: tuple[str, ...], tags: tuple[str, ...], readers: int, seconds: float) -> Read:
    """Read with so many readers at once for so long; to be called in a process of its own."""
    end = time.perf_counter() + seconds
    found = [_Reader(port, runs, tags, seed) for seed in range(readers)]
    threads = [threading.Thread(target=reader.read_until, args=(end,)) for reader in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Read(
        np.array([seconds for reader in found for seconds in reader.latencies]),
        sum(reader.points for reader in found),
        [reader.error for reader in found if reader.error is not None],
    )

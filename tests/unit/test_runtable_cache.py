"""What is kept of runs: by version, merged, bounded, and whatever several threads do at once."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tallyboard_server.model import Producer, RunMeta, RunState, frozen
from tallyboard_server.runtable import ValueCache
from tallyboard_server.runtable.reading import pulse


def state(run_id: int) -> RunState:
    return RunState(run_id, f"p/{run_id}", RunMeta(created_at=1.0, updated_at=2.0))


def test_values_of_the_same_version_join() -> None:
    cache = ValueCache()
    cache.put(1, 5, state(1), {"a": 1})
    both = cache.put(1, 5, state(1), {"b": 2.0})
    assert both.values == {"a": 1, "b": 2.0}
    assert cache.get(1, 5) == both
    assert cache.get(1, 4) is None
    assert cache.get(2, 5) is None


def test_a_newer_version_replaces_and_an_older_one_does_not() -> None:
    cache = ValueCache()
    cache.put(1, 5, state(1), {"a": 1})
    cache.put(1, 6, state(1), {"b": 2})
    assert cache.put(1, 5, state(1), {"a": 3}).values == {"a": 3}
    newest = cache.get(1, 6)
    assert newest is not None
    assert newest.values == {"b": 2}
    assert cache.get(1, 5) is None


def test_the_least_recently_used_goes_when_there_is_no_room() -> None:
    cache = ValueCache(weight_max=40)
    for run_id in (1, 2, 3):
        cache.put(run_id, 1, state(run_id), {"a": 0.5})
    cache.get(1, 1)
    cache.put(4, 1, state(4), {"a": 0.5})
    assert [run_id for run_id in (1, 2, 3, 4) if cache.get(run_id, 1)] == [1, 3, 4]
    cache.put(5, 1, state(5), {"notes": "x" * 10_000})
    assert [run_id for run_id in (1, 3, 4, 5) if cache.get(run_id, 1)] == [5]
    cache.put(5, 2, state(5), {"a": 1})
    for run_id in (6, 7, 8):
        cache.put(run_id, 1, state(run_id), {"a": 1})
    assert [run_id for run_id in (6, 7, 8) if cache.get(run_id, 1)] == [6, 7, 8]
    assert len(cache) == 3


def test_threads_see_whole_values_only() -> None:
    cache = ValueCache(weight_max=200)
    wrong: list[Any] = []
    begin = threading.Barrier(4)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        begin.wait(10)
        for _ in range(3_000):
            run_id, version = dice.randrange(20), dice.randrange(3)
            known = cache.get(run_id, version) or cache.put(run_id, version, state(run_id), {"v": (run_id, version)})
            if known.values != {"v": (run_id, version)}:
                wrong.append(known)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert wrong == []
    assert 0 < len(cache) <= 20


def test_a_pulse_keeps_what_tells_whether_a_run_lives() -> None:
    producers = {name: Producer(name, last_seen=seen, receipt=b"x" * 100) for name, seen in (("a", 1.0), ("b", 3.0))}
    meta = RunMeta(created_at=1.0, updated_at=2.0, status="failed", notes="n", config={"lr": 1}, summary={"x": 1})
    kept = pulse(RunState(7, "p/r", meta, pos=3, producers=frozen(producers)))
    assert (kept.name, kept.meta.status, kept.meta.created_at, kept.meta.updated_at) == ("p/r", "failed", 1.0, 2.0)
    assert {name: producer.last_seen for name, producer in kept.producers.items()} == {"b": 3.0}
    assert (kept.meta.config, kept.meta.notes, kept.producers["b"].receipt) == ({}, None, b"")

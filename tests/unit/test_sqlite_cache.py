"""The cache of run states: bounded by what states really hold, and never older than what a reader sees."""

from dataclasses import replace

from tallyboard_server.contract import new_run
from tallyboard_server.model import Producer, RunState, frozen
from tallyboard_server.store.sql.cache import BASE_WEIGHT, UNIT_BYTES, StateCache

LARGE = frozen({f"layer{i}.size": f"value {i}" for i in range(300)})


def state(run_id: int, **meta: object) -> RunState:
    made = new_run(run_id, f"p/{run_id}", now=0.0)
    return replace(made, meta=replace(made.meta, **meta))  # type: ignore[arg-type]


def held(cache: StateCache, runs: int) -> list[int]:
    return [run_id for run_id in range(1, runs + 1) if cache.get(run_id, 1) is not None]


def test_large_documents_count_against_the_bound() -> None:
    cache = StateCache(weight_max=100 * BASE_WEIGHT)
    for run_id in range(1, 51):
        cache.put(run_id, 1, state(run_id))
    assert len(held(cache, 50)) == 50
    for run_id in range(1, 51):
        cache.put(run_id, 2, state(run_id, config=LARGE, provenance=frozen({"argv": ["x" * 40] * 20})))
    assert 1 <= len(cache) < 15
    assert cache.get(50, 2) is not None


def test_receipts_count_too() -> None:
    cache = StateCache(weight_max=100 * BASE_WEIGHT)
    for run_id in range(1, 51):
        producer = Producer("w", 1, (1,), b"r" * 100 * UNIT_BYTES)
        cache.put(run_id, 1, replace(state(run_id), producers=frozen({"w": producer})))
    assert len(cache) == 8  # 10 for the run, 1 for the producer, 100 for the receipt, 1 for its documents


def test_the_weight_follows_the_documents() -> None:
    """Also when they shrink, or stay the same object from batch to batch."""
    cache = StateCache(weight_max=10 * BASE_WEIGHT + 1_000)
    large = state(1, config=LARGE)
    for version in range(1, 20):
        cache.put(1, version, replace(large, pos=version), newest=True)
    cache.put(1, 20, state(1), newest=True)
    for run_id in range(2, 100):
        cache.put(run_id, 1, state(run_id))
    assert len(cache) == 99


def test_what_the_writer_put_is_not_replaced_by_a_reader() -> None:
    cache = StateCache()
    newest, older = state(1), state(1)
    cache.put(1, 5, newest, newest=True)
    cache.put(1, 5, older)
    cache.put(1, 4, older)
    assert cache.newest(1) == (5, newest)
    assert cache.get(1, 5) is newest
    assert cache.id_of("p/1") == 1
    cache.forget(1)
    assert cache.newest(1) is None
    assert cache.id_of("p/1") is None

"""What every store must do with points that are no scalars."""

from contextlib import suppress
from dataclasses import replace

import numpy as np

from tallyboard.wire import Blob
from tallyboard.wire.summaries import blob_of, key_of_hash
from tallyboard_server.model import Counter, RunState, Tag, frozen
from tallyboard_server.store.protocol import Store
from tests.contract.blocks import Reopen, block
from tests.contract.test_store import create
from tests.stores import ENGINES, on

pytestmark = on(*ENGINES)


def some(*texts: str) -> dict[float, Blob]:
    blobs = [blob_of(text.encode()) for text in texts]
    return {key_of_hash(blob.hash): blob for blob in blobs}


def save(store: Store, state: RunState, blobs: dict[float, Blob]) -> None:
    with store.transaction() as transaction:
        transaction.save(state, (), (), blobs)


def test_blobs_are_kept_once_and_by_run(reopen: Reopen) -> None:
    store = reopen()
    one, other = create(store, "p/one"), create(store, "p/other")
    save(store, one, some("a", "b"))
    save(store, one, some("b", "c"))
    save(store, other, some("c"))
    store = reopen()
    with store.snapshot() as view:
        wanted = some("a", "b", "c", "d")
        assert view.blobs(one.id, list(wanted)) == some("a", "b", "c")
        assert view.blobs(other.id, list(wanted)) == some("c")
        assert view.blobs(one.id, []) == {}
        assert view.blob_sizes(one.id, [*wanted, *wanted]) == dict.fromkeys(some("a", "b", "c"), 1)


def test_the_first_under_a_key_stays(store: Store) -> None:
    state = create(store)
    ((key, blob),) = some("a").items()
    save(store, state, {key: blob})
    save(store, state, {key: Blob(b"other", b"hash")})
    with store.snapshot() as view:
        assert view.blobs(state.id, [key]) == {key: blob}


def test_hashes_are_seen_within_the_transaction_and_gone_with_it(store: Store) -> None:
    state = create(store)
    blobs = some("a")
    with suppress(InterruptedError), store.transaction() as transaction:
        transaction.save(state, (), (), blobs)
        seen = transaction.blob_hashes(state.id, list(some("a", "b")))
        raise InterruptedError
    assert seen == {key: blob.hash for key, blob in blobs.items()}
    with store.transaction() as transaction:
        assert transaction.blob_hashes(state.id, list(blobs)) == {}


def test_many_keys_at_once(store: Store) -> None:
    state = create(store)
    blobs = some(*(str(i) for i in range(1000)))
    save(store, state, blobs)
    with store.snapshot() as view:
        assert view.blobs(state.id, list(blobs)) == blobs


def test_pages_hold_every_blob_once_and_are_bounded(store: Store) -> None:
    state = create(store)
    blobs = some(*(f"{i}" * 10 for i in range(10)))
    save(store, state, blobs)
    found: dict[float, Blob] = {}
    after = None
    sizes = []
    with store.snapshot() as view:
        while page := view.blob_page(state.id, after=after, bytes_max=25):
            sizes.append(len(page))
            assert not page.keys() & found.keys()
            found |= page
            after = list(page)[-1]
        assert view.blob_page(state.id, after=None, bytes_max=1).keys() <= blobs.keys()
        assert len(view.blob_page(state.id, after=None, bytes_max=1)) == 1
    assert found == blobs
    assert sizes == [2] * 5


def test_a_deleted_runs_blobs_go_in_slices(store: Store) -> None:
    gone, stays = create(store, "p/gone"), create(store, "p/stays")
    big = {key: Blob(blob.data * 3_000_000, blob.hash) for key, blob in some(*"abcdefg").items()}
    save(store, gone, big)
    save(store, stays, some("a"))
    with store.transaction() as transaction:
        transaction.delete_run(gone)
    left = []
    for _ in range(20):
        with store.transaction() as transaction:
            more = transaction.purge()
        with store.snapshot() as view:
            left.append(len(view.blob_sizes(gone.id, list(big))))
            assert len(view.blob_sizes(stays.id, list(some("a")))) == 1
        if not more:
            break
    assert left[0] == 5  # 3 MB each, about 8 MiB a slice
    assert left[-1] == 0


def test_a_tag_comes_back_with_its_kind(reopen: Reopen) -> None:
    store = reopen()
    state = create(store)
    tags = {"i": Tag(1, "i", 1, 0, 1, "images", b"\x00meta\xff"), "loss": Tag(2, "loss", 1, 0, 1)}
    save(store, replace(state, tags=frozen(tags), counters=frozen({"tag:i": Counter(1, "tag:i")})), {})
    with reopen().snapshot() as view:
        found = view.load("p/run")
    assert found is not None
    assert dict(found.tags) == tags
    assert found.counters["tag:i"].is_implicit


def test_keys_pass_merges_bit_for_bit(store: Store) -> None:
    state = create(store)
    keys = np.array(sorted(some(*(str(i) for i in range(64)))))
    batches = [
        replace(block(pos + 1, [2 * pos, 2 * pos + 1]), values=keys[2 * pos : 2 * pos + 2, None]) for pos in range(32)
    ]
    for made in batches:
        with store.transaction() as transaction:
            transaction.save(replace(state, pos=made.pos), [made])
    with store.snapshot() as view:
        sources = view.whole_batches(state.id, 1, 1, up_to_pos=32, rows_max=1000)
    with store.transaction() as transaction:
        transaction.merge(store.prepare_merge(state.id, sources))
    with store.snapshot() as view:
        (merged,) = view.blocks(state.id, 1, 1, tag_id=1)
    assert merged.values[:, 0].tobytes() == keys.tobytes()

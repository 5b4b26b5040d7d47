"""Groups, cells and pruning as every store must have them; nothing here knows which store it is."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tallyboard_server.checksum import add, checksum
from tallyboard_server.model import Attempt, Block, Counter, RunState, frozen
from tallyboard_server.store.protocol import Group, Store
from tests.contract.blocks import block, points, run_state
from tests.contract.test_store import append, merge_all, purge, read
from tests.stores import ENGINES, on

pytestmark = on(*ENGINES)

PARTS = (range(10), range(10, 25), range(25, 26), range(26, 400))


def a_run(store: Store, *starts: int) -> RunState:
    """A run whose counter has an attempt from each of these steps on."""
    none = np.empty(0, np.int32), np.empty(0)
    attempts = tuple(Attempt(i + 1, "w", start, None, None, *none) for i, start in enumerate(starts))
    counters = frozen({"global_step": Counter(1, "global_step", None, attempts)})
    with store.transaction() as transaction:
        state = replace(run_state(transaction.next_run_id(), "p/run"), counters=counters)
        transaction.save(state)
    return state


@pytest.fixture
def merged(store: Store) -> tuple[RunState, list[Block]]:
    """A run of four groups and a block that is not merged."""
    state = a_run(store, 0)
    blocks = []
    for pos, steps in enumerate(PARTS, 1):
        blocks.append(block(pos, steps, (1, 2)))
        state = append(store, state, blocks[-1:])
        merge_all(store, state)
    blocks.append(block(5, [400, 401], (2,)))
    return append(store, state, blocks[-1:]), blocks


def groups(store: Store, state: RunState) -> list[Group]:
    with store.snapshot() as view:
        return view.groups(state.id, 1, 1)


def blocks_of(store: Store, *chosen: Group) -> list[Block]:
    with store.snapshot() as view:
        return [made for group in chosen for made in view.group_blocks(group)]


def apply(store: Store, work: Callable[[Any], Any]) -> Any:
    with store.transaction() as transaction:
        return work(transaction)


def put(store: Store, merge: object) -> None:
    apply(store, lambda transaction: transaction.merge(merge))


def compact(store: Store, state: RunState, chosen: list[Group]) -> None:
    put(store, store.prepare_merge(state.id, blocks_of(store, *chosen), chosen))


def test_a_merge_makes_a_group(store: Store, merged: tuple[RunState, list[Block]]) -> None:
    state, _ = merged
    found = groups(store, state)
    assert [(g.batch, g.rows, g.first_step, g.last_step) for g in found] == [
        (pos, len(steps), steps[0], steps[-1]) for pos, steps in enumerate(PARTS, 1)
    ]
    assert all(group.version > 0 for group in found)
    with store.snapshot() as view:
        assert view.growing_groups(state.id, 1, 1, limit=10) == [found]
        assert view.growing_groups(state.id, 1, 1, limit=2) == [found[2:]]
        assert view.growing_attempts(state.id, min_groups=4) == [(1, 1)]
        assert view.growing_attempts(state.id, min_groups=5) == []
        assert view.groups(state.id, 1, 1, after_batch=2, limit=1) == [found[2]]


def test_compaction_changes_nothing_that_a_reader_sees(
    reopen: Callable[[], Store], store: Store, merged: tuple[RunState, list[Block]]
) -> None:
    state, blocks = merged
    compact(store, state, groups(store, state)[1:3])
    assert [(g.batch, g.rows) for g in groups(store, state)] == [(1, 10), (2, 16), (4, 374)]
    assert points(read(store, state)) == points(blocks)
    compact(store, state, groups(store, state))
    assert [(g.batch, g.rows) for g in groups(store, state)] == [(1, 400)]
    store = reopen()
    assert points(read(store, state)) == points(blocks)
    with store.transaction() as transaction:
        assert transaction.last_step_before(state.id, 1, 1, 26) == 25
        assert transaction.last_step_before(state.id, 1, 1, 10**6) == 401


def test_a_compaction_whose_groups_changed_does_nothing(store: Store, merged: tuple[RunState, list[Block]]) -> None:
    state, blocks = merged
    old = groups(store, state)
    merges = [store.prepare_merge(state.id, blocks_of(store, *part), part) for part in (old[:2], old[1:3], old)]
    prune = store.prepare_prune(old[1], blocks_of(store, old[1]), lambda made: np.zeros(len(made.steps), bool))
    for merge in [*merges, merges[0]]:  # the first takes the sources of the others away
        put(store, merge)
    assert apply(store, lambda transaction: transaction.prune(prune)) == 0
    assert [(g.batch, g.rows) for g in groups(store, state)] == [(1, 25), (3, 1), (4, 374)]
    assert points(read(store, state)) == points(blocks)


def test_groups_with_one_missing_between_them_are_not_merged(
    store: Store, merged: tuple[RunState, list[Block]]
) -> None:
    state, blocks = merged
    first, _, third, _ = groups(store, state)
    compact(store, state, [first, third])
    assert len(groups(store, state)) == 4
    assert points(read(store, state)) == points(blocks)


def test_cells_are_as_coarse_as_allowed_and_not_coarser(store: Store, merged: tuple[RunState, list[Block]]) -> None:
    state, blocks = merged
    with store.snapshot() as view:
        whole = view.cells(state.id, 1, 1, [1, 2, 3], rows_max=10**6)
        assert whole.keys() == {1, 2}
        assert whole[1].count.tolist() == [10, 15, 1, 374]
        assert whole[2].count.tolist() == [10, 15, 1, 374, 2]
        finer = view.cells(state.id, 1, 1, [1], rows_max=128)[1]
        assert finer.count.max() <= 128
        assert finer.count.sum() == 400
        cut = view.cells(state.id, 1, 1, [1, 2], first_step=5, last_step=300, rows_max=10**6)
        assert (cut[1].first.steps[0], cut[1].last.steps[-1], cut[1].count.sum()) == (5, 300, 296)
        single = view.cells(state.id, 1, 1, [2], first_step=390, last_step=400)[2]
        wanted = [value for tag, step, _, value, _ in points(blocks) if tag == 2 and 390 <= step <= 400]
        assert single.first.values.tolist() == wanted
        assert view.cells(state.id, 1, 1, [1], first_step=500) == {}
        assert view.cells(state.id, 1, 2, [1]) == {}
        assert view.points_at_most(state.id, 1, 1, [1, 2]) == {1: 400, 2: 402}
        assert view.points_at_most(state.id, 1, 1, [1], first_step=3, last_step=30)[1] >= 28


def attempt_of(store: Store, state: RunState, number: int = 1) -> tuple[Attempt, int]:
    with store.snapshot() as view:
        found = view.load(state.name)
    assert found is not None
    return found.counters["global_step"].attempts[number - 1], found.epoch


def test_pruning_is_accounted_for(
    reopen: Callable[[], Store], store: Store, merged: tuple[RunState, list[Block]]
) -> None:
    state, blocks = merged
    sent = sum(checksum(made) for made in blocks) % 2**64
    last = groups(store, state)[-1]

    def keep(made: Block) -> Any:  # every second step of tag 1, every fourth of tag 2
        return made.steps[:, None] % np.array([2, 4])[made.tag_ids - 1] == 0

    prune = store.prepare_prune(last, blocks_of(store, last), keep)
    gone = 187 + 281
    assert apply(store, lambda transaction: transaction.prune(prune)) == gone
    assert apply(store, lambda transaction: transaction.prune(prune)) == 0
    store = reopen()
    attempt, epoch = attempt_of(store, state)
    left = read(store, state)
    assert (attempt.pruned_scalars, epoch) == (gone, 1)
    assert sum(made.values.size for made in left) == sum(made.values.size for made in blocks) - gone
    assert add(sum(checksum(made) for made in left) % 2**64, attempt.pruned_checksum) == sent
    steps = {tag: [step for of_tag, step, *_ in points(left) if of_tag == tag and 26 <= step < 400] for tag in (1, 2)}
    assert steps == {1: list(range(26, 400, 2)), 2: list(range(28, 400, 4))}
    with store.snapshot() as view:
        assert view.points_at_most(state.id, 1, 1, [1, 2]) == {1: 26 + 187, 2: 26 + 93 + 2}


def test_pruning_what_is_superseded_leaves_the_epoch(store: Store) -> None:
    state = a_run(store, 0, 50)
    state = append(store, state, [block(1, range(100), (1,))])
    merge_all(store, state)
    (group,) = groups(store, state)
    hidden = store.prepare_prune(group, blocks_of(store, group), lambda made: made.steps < 50)
    assert apply(store, lambda transaction: transaction.prune(hidden)) == 50
    assert attempt_of(store, state)[1] == 0
    (group,) = groups(store, state)
    assert (group.rows, group.last_step) == (50, 49)
    everything = store.prepare_prune(group, blocks_of(store, group), lambda made: np.zeros(len(made.steps), bool))
    assert apply(store, lambda transaction: transaction.prune(everything)) == 50
    attempt, epoch = attempt_of(store, state)
    assert (attempt.pruned_scalars, epoch) == (100, 1)
    assert attempt.pruned_checksum == checksum(block(1, range(100), (1,)))
    assert groups(store, state) == []
    assert read(store, state) == []
    assert attempt_of(store, state, 2)[0].pruned_scalars == 0


def test_pruning_nothing_does_nothing(store: Store, merged: tuple[RunState, list[Block]]) -> None:
    state, _ = merged
    (group, *_) = groups(store, state)
    prune = store.prepare_prune(group, blocks_of(store, group), lambda made: np.ones(len(made.steps), bool))
    assert apply(store, lambda transaction: transaction.prune(prune)) == 0
    assert groups(store, state)[0] == group


def test_a_deleted_run_takes_its_groups_along(store: Store, merged: tuple[RunState, list[Block]]) -> None:
    state, _ = merged
    (group, *_) = groups(store, state)
    prune = store.prepare_prune(group, blocks_of(store, group), lambda made: made.steps < 5)
    apply(store, lambda transaction: transaction.delete_run(state))
    assert apply(store, lambda transaction: transaction.prune(prune)) == 0
    assert purge(store)
    assert groups(store, state) == []
    with store.snapshot() as view:
        assert view.cells(state.id, 1, 1, [1, 2]) == {}
        assert view.points_at_most(state.id, 1, 1, [1, 2]) == {}

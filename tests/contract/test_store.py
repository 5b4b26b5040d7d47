"""What every store must do, run on each implementation; nothing here knows which one it is."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import strategies as st

from tallyboard_server.model import Attempt, Block, Counter, RunState, frozen
from tallyboard_server.store.protocol import Generation, Listening, Store, StoreError
from tests.contract.blocks import Reopen, block, points, refusal, rich_state, run_state
from tests.examples import given_on_engines
from tests.stores import ENGINES, Stores, on

pytestmark = on(*ENGINES)


def create(store: Store, name: str = "p/run") -> RunState:
    with store.transaction() as transaction:
        state = run_state(transaction.next_run_id(), name)
        transaction.save(state)
    return state


def append(store: Store, state: RunState, *batches: list[Block]) -> RunState:
    for batch in batches:
        state = replace(state, pos=batch[-1].pos)
        with store.transaction() as transaction:
            transaction.save(state, batch)
    return state


def read(store: Store, state: RunState, **options: int | None) -> list[Block]:
    with store.snapshot() as view:
        return list(view.blocks(state.id, 1, 1, **options))  # type: ignore[arg-type]


def generation(run_id: int, number: int, **changes: object) -> Generation:
    made = Generation(run_id, number, f"events.{number}", 1000 + number, 1, 0, 0, 0, 0, "live", 5.0)
    return replace(made, **changes)  # type: ignore[arg-type]


def assert_same_state(found: RunState | None, wanted: RunState) -> None:
    assert found is not None
    for name, counter in wanted.counters.items():
        other = found.counters[name]
        assert len(other.attempts) == len(counter.attempts)
        for ours, theirs in zip(counter.attempts, other.attempts, strict=True):
            assert theirs.tail_tags.tolist() == ours.tail_tags.tolist()
            assert theirs.tail_values.tobytes() == ours.tail_values.tobytes()
            blank = {"tail_tags": None, "tail_values": None}
            assert replace(theirs, **blank) == replace(ours, **blank)  # type: ignore[arg-type]
    plain = {"counters": {n: replace(c, attempts=()) for n, c in wanted.counters.items()}}
    other_plain = {"counters": {n: replace(c, attempts=()) for n, c in found.counters.items()}}
    assert replace(found, **other_plain) == replace(wanted, **plain)  # type: ignore[arg-type]


def test_a_state_comes_back_whole(reopen: Reopen) -> None:
    store = reopen()
    with store.transaction() as transaction:
        state = rich_state(transaction.next_run_id(), "p/rich")
        transaction.save(state)
    with store.snapshot() as view:
        assert_same_state(view.load("p/rich"), state)
    with reopen().snapshot() as view:
        assert_same_state(view.load("p/rich"), state)
        assert_same_state(view.load_by_id(state.id), state)


def test_a_changed_state_comes_back_changed(reopen: Reopen) -> None:
    store = reopen()
    with store.transaction() as transaction:
        state = rich_state(transaction.next_run_id(), "p/rich")
        transaction.save(state)
    counter = state.counters["global_step"]
    newer = replace(counter.attempts[1], last_step=7, last_visible=7, reports=1)
    changed = replace(
        state,
        epoch=4,
        meta=replace(state.meta, status="running", updated_at=300.0, config=frozen({})),
        counters=frozen(
            {
                **state.counters,
                "global_step": replace(counter, attempts=(counter.attempts[0], newer)),
                "tokens": Counter(3, "tokens", 10),
            }
        ),
        tags=frozen({**state.tags, "loss": replace(state.tags["loss"], first_step=1)}),
        producers=frozen({"p2": replace(state.producers["p1"], name="p2", seq=1)}),
    )
    with store.transaction() as transaction:
        transaction.save(changed)
    with reopen().snapshot() as view:
        assert_same_state(view.load("p/rich"), changed)


def test_nothing_remains_of_a_transaction_that_raised(store: Store) -> None:
    state = append(store, create(store), [block(1, [1])])
    with suppress(KeyError), store.transaction() as transaction:
        transaction.save(replace(state, pos=2), [block(2, [2])], [refusal(1)])
        transaction.save(run_state(transaction.next_run_id(), "p/other"))
        raise KeyError
    with store.snapshot() as view:
        assert_same_state(view.load(state.name), state)
        assert view.load("p/other") is None
        assert [b.pos for b in view.journal(state.id, after_pos=0, bytes_max=1000)] == [1]
        assert view.refused(state.id) == []


def test_a_transaction_sees_its_own_changes(store: Store) -> None:
    state = create(store)
    with store.transaction() as transaction:
        ahead = replace(state, epoch=9)
        transaction.save(ahead)
        assert transaction.load(state.name) is ahead
        transaction.save(run_state(transaction.next_run_id(), "p/new"))
        assert transaction.taken("p/new")
        assert not transaction.taken("p/newer")


def test_a_snapshot_does_not_move(store: Store) -> None:
    state = append(store, create(store), [block(1, [1])])
    with store.snapshot() as view:
        assert view.head(state.id) is not None
        append(store, state, [block(2, [2])])
        assert [b.pos for b in view.journal(state.id, after_pos=0, bytes_max=10**6)] == [1]
        found = view.load(state.name)
        assert found is not None
        assert found.pos == 1
    with store.snapshot() as view:
        assert [b.pos for b in view.journal(state.id, after_pos=0, bytes_max=10**6)] == [1, 2]


def test_the_journal_gives_blocks_back_bit_for_bit(store: Store) -> None:
    odd = replace(
        block(1, [0, 2**63 - 1], (3, 1)),
        values=np.array([[np.nan, -0.0], [np.inf, 5e-324]]),
        wall_times=np.array([-1.5, 1e300]),
        at={4: np.array([7, 2**62]), 2: np.array([0, 1])},
    )
    state = append(store, create(store), [odd])
    with store.snapshot() as view:
        (found,) = view.journal(state.id, after_pos=0, bytes_max=1)
    for name in ("tag_ids", "steps", "wall_times", "values"):
        assert getattr(found, name).tobytes() == getattr(odd, name).tobytes()
    assert {k: v.tolist() for k, v in found.at.items()} == {4: [7, 2**62], 2: [0, 1]}
    assert found.values.shape == (2, 2)


def test_the_journal_is_paged_by_bytes_and_never_stands_still(store: Store) -> None:
    state = append(store, create(store), *([block(pos, range(pos, pos + 1))] for pos in range(1, 6)))
    with store.snapshot() as view:
        one = view.journal(state.id, after_pos=0, bytes_max=1)
        assert [b.pos for b in one] == [1]
        two = view.journal(state.id, after_pos=1, bytes_max=one[0].nbytes + 1)
        assert [b.pos for b in two] == [2, 3]
        assert view.journal(state.id, after_pos=5, bytes_max=10**6) == []


def test_the_journal_is_cut_between_batches_only(store: Store) -> None:
    state = run_state(1, "p/r", pos=3)
    with store.transaction() as transaction:
        transaction.save(state, [block(1, [5, 6]), block(2, [1, 2]), block(3, [3])])
    with store.transaction() as transaction:
        transaction.save(replace(state, pos=4), [block(4, [7])])
    with store.snapshot() as view:
        assert [b.pos for b in view.journal(1, after_pos=0, bytes_max=1)] == [1, 2, 3]
        assert [b.pos for b in view.journal(1, after_pos=3, bytes_max=1)] == [4]


def test_runs_do_not_mix(store: Store) -> None:
    first, second = create(store, "p/a"), create(store, "p/b")
    append(store, first, [block(1, [1])])
    append(store, second, [block(1, [5], (2,))])
    assert points(read(store, first)) == points([block(1, [1])])
    assert points(read(store, second)) == points([block(1, [5], (2,))])


def test_blocks_of_a_range_and_a_tag(store: Store) -> None:
    state = append(
        store, create(store), [block(1, range(10), (1, 2))], [block(2, range(10, 20), (2,))], [block(3, [20], (1,))]
    )
    assert {b.pos for b in read(store, state, first_step=12, last_step=15)} == {2}
    of_one = read(store, state, tag_id=1)
    assert [b.tag_ids.tolist() for b in of_one] == [[1], [1]]
    assert points(of_one) == [p for p in points(read(store, state)) if p[0] == 1]
    assert read(store, state, tag_id=7) == []


def merge_all(store: Store, state: RunState, rows_max: int = 10**6, up_to_pos: int = 2**31) -> int:
    with store.snapshot() as view:
        sources = view.whole_batches(state.id, 1, 1, up_to_pos=up_to_pos, rows_max=rows_max)
    if sources:
        merge = store.prepare_merge(state.id, sources)
        with store.transaction() as transaction:
            transaction.merge(merge)
    return len(sources)


def test_merging_changes_nothing_that_a_reader_sees(reopen: Reopen) -> None:
    store = reopen()
    batches = [
        [block(1, [1, 3, 5], (1, 2)), block(2, [2, 4], (2, 3), at={2: np.array([1, 1])})],
        [block(3, [5, 6], (3,))],
        [block(4, [6, 9], (1, 2)), block(5, [7], (1, 2))],
        [block(6, [9], (4,))],
    ]
    state = append(store, create(store), *batches)
    before = points(read(store, state))
    assert merge_all(store, state, up_to_pos=5) == 5
    assert points(read(store, state)) == before
    for tag in range(1, 6):
        assert points(read(store, state, tag_id=tag)) == [p for p in before if p[0] == tag]
    with store.snapshot() as view:
        assert [b.pos for b in view.journal(state.id, after_pos=0, bytes_max=10**6)] == [6]
    store = reopen()
    assert points(read(store, state)) == before
    firsts = [int(b.steps[0]) for b in read(store, state)]
    assert firsts == sorted(firsts)


def test_a_merge_never_splits_a_batch(store: Store) -> None:
    state = append(store, create(store), [block(1, [1]), block(2, [1], (2,))], [block(3, [2]), block(4, [2], (2,))])
    with store.snapshot() as view:
        assert [b.pos for b in view.whole_batches(state.id, 1, 1, up_to_pos=3, rows_max=10**6)] == [1, 2]
        assert [b.pos for b in view.whole_batches(state.id, 1, 1, up_to_pos=4, rows_max=1)] == [1, 2]
        assert [b.pos for b in view.whole_batches(state.id, 1, 1, up_to_pos=4, rows_max=3)] == [1, 2, 3, 4]
        assert view.whole_batches(state.id, 1, 1, up_to_pos=1, rows_max=10) == []


@pytest.mark.parametrize(
    ("up_to_pos", "min_blocks", "expected"),
    [
        (0, 1, []),
        (7, 10, []),
        (8, 10, [(1, 1)]),
        (40, 10, [(1, 1), (1, 2), (2, 1)]),
        (40, 11, [(1, 1)]),
        (9, 1, [(1, 1)]),
    ],
)
def test_attempts_with_enough_blocks_are_mergeable(
    store: Store, up_to_pos: int, min_blocks: int, expected: list[tuple[int, int]]
) -> None:
    """9 blocks of an attempt that is superseded, 10 of the one after it, 10 of another counter; and another run's."""
    other, state = create(store, "p/other"), create(store)
    none = np.empty(0, np.int32), np.empty(0)
    attempts = tuple(Attempt(number, "w", 0, None, None, *none) for number in (1, 2))
    counters = {"one": Counter(1, "one", None, attempts), "two": Counter(2, "two", None, attempts[:1])}
    places = [(1, 1)] * 9 + [(1, 2)] * 10 + [(2, 1)] * 10
    blocks = [
        replace(block(pos, [pos]), counter_id=place[0], attempt=place[1]) for pos, place in enumerate(places, start=1)
    ]
    append(store, replace(state, counters=frozen(counters)), *([one] for one in blocks))
    append(store, replace(other, counters=frozen(counters)), *([block(pos, [pos])] for pos in range(1, 30)))
    with store.snapshot() as view:
        assert view.mergeable(state.id, up_to_pos=up_to_pos, min_blocks=min_blocks) == expected


def test_a_merge_of_a_run_that_was_deleted_meanwhile_does_nothing(store: Store) -> None:
    state = append(store, create(store), [block(1, [1])], [block(2, [2])])
    with store.snapshot() as view:
        merge = store.prepare_merge(state.id, view.whole_batches(state.id, 1, 1, up_to_pos=2, rows_max=10))
    with store.transaction() as transaction:
        transaction.delete_run(state)
    with store.transaction() as transaction:
        transaction.merge(merge)
    assert read(store, state) == [] or purge(store)
    assert read(store, state) == []


def test_the_same_merge_twice_does_nothing_the_second_time(store: Store) -> None:
    state = append(store, create(store), [block(1, [1])], [block(2, [2])])
    with store.snapshot() as view:
        sources = view.whole_batches(state.id, 1, 1, up_to_pos=2, rows_max=10)
    for _ in range(2):
        with store.transaction() as transaction:
            transaction.merge(store.prepare_merge(state.id, sources))
    assert points(read(store, state)) == points(sources)


def purge(store: Store) -> bool:
    for _ in range(1000):
        with store.transaction() as transaction:
            if not transaction.purge():
                return True
    return False


def test_a_deleted_run_leaves_a_tombstone_and_nothing_else(reopen: Reopen) -> None:
    store = reopen()
    state = append(store, create(store), *([block(pos, [pos])] for pos in range(1, 9)))
    merge_all(store, state, up_to_pos=4)
    with store.transaction() as transaction:
        transaction.save(replace(rich_state(state.id, state.name), pos=8), [], [refusal(1)])
        transaction.save_generation(generation(state.id, 1))
    with store.transaction() as transaction:
        transaction.delete_run(state)
        assert transaction.load(state.name) is None
        assert transaction.is_deleted(state.name)
    assert purge(store)
    store = reopen()
    with store.snapshot() as view:
        assert view.load(state.name) is None
        assert view.load_by_id(state.id) is None
        assert view.is_deleted(state.name)
        assert view.run_names() == []
        assert view.refused(state.id) == []
        assert view.journal(state.id, after_pos=0, bytes_max=10**6) == []
        assert view.deleted_run_ids() == [(state.id, state.name)]
    assert read(store, state) == []
    with store.transaction() as transaction:
        transaction.drop_generation(state.id, 1)
    assert purge(store)
    with store.snapshot() as view:
        assert view.deleted_run_ids() == []


def test_a_deleted_name_can_be_created_again_under_a_new_id(reopen: Reopen) -> None:
    store = reopen()
    state = append(store, create(store), [block(1, [1])])
    with store.transaction() as transaction:
        transaction.delete_run(state)
    store = reopen()
    again = create(store)
    assert again.id > state.id
    assert purge(store)
    append(store, again, [block(1, [7])])
    assert points(read(store, again)) == points([block(1, [7])])
    with store.snapshot() as view:
        assert not view.is_deleted(state.name)


def test_deleting_and_creating_in_one_transaction(store: Store) -> None:
    state = append(store, create(store), [block(1, [1])])
    with store.transaction() as transaction:
        transaction.delete_run(state)
        again = run_state(transaction.next_run_id(), state.name)
        transaction.save(again)
        assert not transaction.is_deleted(state.name)
    with store.snapshot() as view:
        assert_same_state(view.load(state.name), again)
        assert not view.is_deleted(state.name)


def test_uids_name_runs(store: Store) -> None:
    with store.transaction() as transaction:
        state = rich_state(transaction.next_run_id(), "p/rich")
        transaction.save(state)
        assert transaction.name_of_uid("uid-1") == "p/rich"
    with store.transaction() as transaction:
        assert transaction.name_of_uid("uid-1") == "p/rich"
        assert transaction.name_of_uid("uid-2") is None


def test_the_newest_refusals_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard.wire.limits.REFUSED_KEPT_PER_RUN_MAX", 5)
    state = create(store)
    for start in (0, 4, 8):
        with store.transaction() as transaction:
            transaction.save(state, [], [refusal(row) for row in range(start, start + 4)])
    with store.snapshot() as view:
        assert [kept.refusal.row for kept in view.refused(state.id)] == [11, 10, 9, 8, 7]
        assert view.refused(state.id, limit=1) == [refusal(11)]


def test_generations_are_kept_replaced_and_dropped(reopen: Reopen) -> None:
    store = reopen()
    state = create(store)
    with store.transaction() as transaction:
        transaction.save_generation(generation(state.id, 1))
        transaction.save_generation(generation(state.id, 2, state="building"))
    with store.transaction() as transaction:
        transaction.save_generation(generation(state.id, 2, length=77, exported_pos=3))
        transaction.drop_generation(state.id, 1)
    with reopen().snapshot() as view:
        assert view.generations(state.id) == [generation(state.id, 2, length=77, exported_pos=3)]
        assert view.generations(state.id + 1) == []


def test_runs_are_paged_by_name_and_by_id(store: Store) -> None:
    states = [create(store, name) for name in ("b/2", "a/1", "b/10", "b%/1", "é/1")]
    with store.snapshot() as view:
        assert view.run_names() == ["a/1", "b%/1", "b/10", "b/2", "é/1"]
        assert view.run_names(prefix="b/") == ["b/10", "b/2"]
        assert view.run_names(prefix="b%") == ["b%/1"]
        assert view.run_names(prefix="b/", after="b/10") == ["b/2"]
        assert view.run_names(limit=2) == ["a/1", "b%/1"]
        heads = view.heads(limit=2)
        assert [head.name for head in heads] == ["b/2", "a/1"]
        assert [head.run_id for head in view.heads(after_id=heads[-1].run_id)] == [s.id for s in states[2:]]
        assert view.head(10**6) is None


def test_a_version_tells_of_every_change(store: Store) -> None:
    states = [create(store, name) for name in ("b/2", "a/1", "b/10")]
    with store.snapshot() as view:
        before = view.run_versions()
        assert [found.name for found in before] == view.run_names()
        assert [found.run_id for found in before] == [states[1].id, states[2].id, states[0].id]
        assert view.run_versions(prefix="b/", after="b/10", limit=1) == before[2:]
    changed = replace(states[0], meta=replace(states[0].meta, notes="new"))
    with store.transaction() as transaction:
        transaction.save(changed)
    with store.snapshot() as view:
        after = view.run_versions()
    assert after[:2] == before[:2]
    assert after[2].version > before[2].version


def test_how_long_a_counter_has_not_moved_is_saved(reopen: Reopen) -> None:
    store = reopen()
    with store.transaction() as transaction:
        state = rich_state(transaction.next_run_id(), "p/rich")
        transaction.save(state)
    counter = state.counters["global_step"]
    older, newest = counter.attempts
    moved_not = replace(counter, attempts=(older, replace(newest, unmoved=newest.unmoved + 9)))
    changed = replace(state, counters=frozen({**state.counters, "global_step": moved_not}))
    with store.transaction() as transaction:
        transaction.save(changed)
    with reopen().snapshot() as view:
        assert_same_state(view.load("p/rich"), changed)


def test_a_closed_store_says_so(store: Store) -> None:
    store.close()
    with pytest.raises(StoreError, match="closed"), store.snapshot():
        pass
    with pytest.raises(StoreError, match="closed"), store.transaction():
        pass


@st.composite
def histories(draw: st.DrawFn) -> list[list[list[int]]]:
    """Batches of blocks of steps: non-decreasing within a block, and from batch to batch, not between blocks."""
    history, floor = [], 0
    for _ in range(draw(st.integers(1, 6))):
        batch = [
            sorted(draw(st.lists(st.integers(floor, floor + 12), min_size=1, max_size=6)))
            for _ in range(draw(st.integers(1, 3)))
        ]
        floor = max(map(max, batch))
        history.append(batch)
    return history


@given_on_engines(
    60, elsewhere=15, history=histories(), cuts=st.lists(st.integers(0, 20), max_size=3), rows_max=st.integers(1, 20)
)
def test_last_step_before_and_merging_agree_with_brute_force(
    stores: Stores,
    tmp_path_factory: pytest.TempPathFactory,
    history: list[list[list[int]]],
    cuts: list[int],
    rows_max: int,
) -> None:
    with stores.opened(tmp_path_factory.mktemp("store")) as store:
        state, pos, everything = create(store), 0, []
        for batch in history:
            blocks = [block(pos + 1 + i, steps, (1 + i,)) for i, steps in enumerate(batch)]
            pos += len(blocks)
            everything += blocks
            state = append(store, state, blocks)
            for cut in cuts:
                merge_all(store, state, rows_max, cut)
        assert points(read(store, state)) == points(everything)
        steps = [int(step) for b in everything for step in b.steps]
        with store.transaction() as transaction:
            for step in range(max(steps) + 2):
                wanted = max((s for s in steps if s < step), default=None)
                assert transaction.last_step_before(state.id, 1, 1, step) == wanted
            assert transaction.last_step_before(state.id, 1, 2, 100) is None


def test_heartbeats_are_kept_apart_from_states(reopen: Reopen) -> None:
    store = reopen()
    with store.snapshot() as view:
        assert view.heartbeats(limit=10) == ({}, 0.0)
    create(store, "p/a")
    create(store, "p/b")
    with store.transaction() as transaction:
        transaction.save_heartbeats({"p/a": 20.0, "p/b": 10.0, "p/none": 30.0}, 40.0)
    with store.transaction() as transaction:
        transaction.save_heartbeats({"p/b": 25.0}, 50.0)
    with reopen().snapshot() as view:
        heard, until = view.heartbeats(limit=10)
        assert (list(heard.items()), until) == ([("p/a", 20.0), ("p/b", 25.0)], 50.0)
        assert view.heartbeats(limit=1)[0] == {"p/b": 25.0}
        assert view.heartbeats(limit=10, since=20.5)[0] == {"p/b": 25.0}
        assert list(view.heartbeats(limit=10, since=20.0)[0]) == ["p/a", "p/b"]
    store = reopen()
    with store.transaction() as transaction:
        transaction.save_heartbeats({"p/b": 24.0, "p/a": 26.0}, 45.0)  # another has heard later ones meanwhile
    with store.snapshot() as view:
        assert view.heartbeats(limit=10) == ({"p/b": 25.0, "p/a": 26.0}, 50.0)


def test_times_of_listening_are_joined_and_the_last_gap_is_known(reopen: Reopen) -> None:
    def listen(since: float, until: float, gap_s: float = 5.0) -> Listening:
        with store.transaction() as transaction:
            return transaction.listen(since, until, gap_s)

    store = reopen()
    assert listen(100.0, 110.0) == Listening(0.0, 100.0, 110.0)
    assert listen(100.0, 120.0) == Listening(0.0, 100.0, 120.0)
    assert listen(115.0, 118.0) == Listening(0.0, 100.0, 120.0)  # another one
    assert listen(125.0, 130.0) == Listening(0.0, 100.0, 130.0)
    store = reopen()
    assert listen(136.0, 140.0) == Listening(130.0, 136.0, 140.0)
    assert listen(115.0, 141.0) == Listening(130.0, 136.0, 141.0)
    assert listen(141.5, 142.0, 0.0) == Listening(141.0, 141.5, 142.0)
    with store.snapshot() as view:
        assert view.heartbeats(limit=0) == ({}, 142.0)

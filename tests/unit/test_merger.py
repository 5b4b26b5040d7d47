"""Tiers: which groups are merged again, how often a row is, what remains; runs that are quiet or ended; lag."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard.wire import Receipt
from tallyboard_server.ingest import Ingest, Merger
from tallyboard_server.ingest.commands import Done
from tallyboard_server.ingest.errors import OverloadedError
from tallyboard_server.model import Attempt, Counter, RunState, frozen
from tallyboard_server.store import tiers
from tallyboard_server.store.merge import merge_blocks
from tallyboard_server.store.protocol import ROWS_PER_GROUP, Generation, Group
from tallyboard_server.store.sqlite import SqliteStore
from tests.contract.blocks import block, points, run_state


def group(batch: int, rows: int, version: int = 1, nbytes: int = 0) -> Group:
    return Group(1, 1, 1, batch, version, rows, nbytes, batch, batch)


def groups(*rows: int) -> list[Group]:
    return [group(index, n) for index, n in enumerate(rows)]


def test_eight_of_a_size_are_merged() -> None:
    assert tiers.due(groups(*[64] * 7)) == []
    assert tiers.due(groups(*[64] * 8)) == groups(*[64] * 8)
    assert len(tiers.due(groups(4096, *[64] * 8, 4096))) == 8
    assert len(tiers.due(groups(*[512] * 8, *[64] * 7))) == 15  # the small ones behind them go along
    assert tiers.due(groups(*[512] * 7, *[64] * 7)) == []


def test_one_large_group_is_not_written_again_for_small_ones() -> None:
    assert tiers.due(groups(4096, *[8] * 7)) == []
    assert tiers.due(groups(*[8] * 7, 16_000)) == []


def test_groups_without_envelopes_come_first() -> None:
    old = [group(1, 60_000, 0), group(2, 60_000, 0), group(3, 10, 0)]
    assert tiers.due([*old, *groups(*[64] * 8)]) == old[:1]
    assert tiers.due(old[1:]) == old[1:]


def test_what_ends_is_put_together() -> None:
    assert tiers.due(groups(5, 60, 7), closing=True) == groups(5, 60, 7)
    assert tiers.due(groups(5), closing=True) == []
    assert len(tiers.due(groups(*[16_000] * 9), closing=True)) == 4


def test_wide_rows_count_by_bytes() -> None:
    wide = [group(index, 64, nbytes=2**20) for index in range(8)]
    assert len(tiers.due(wide)) == 8
    assert len(tiers.due([replace(one, nbytes=2**21 - 1) for one in wide])) == 4


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=400), st.booleans())
def test_tiers_bound_rewriting_and_what_remains(arriving: list[int], closing: bool) -> None:
    """Whatever the sizes that come: rows are written again few times, and few groups remain."""
    held: list[tuple[Group, int]] = []  # and how often its rows were written again, at most
    written = 0

    def compact(closing: bool) -> None:
        nonlocal written
        while True:
            growing = [one for one, _ in held if one.fill < tiers.GROWN]
            stretches: list[list[Group]] = [[]]
            for one, _ in held:
                if one in growing:
                    stretches[-1].append(one)
                else:
                    stretches.append([])
            chosen = next(filter(None, (tiers.due(stretch, closing=closing) for stretch in stretches)), [])
            if not chosen:
                return
            places = [index for index, (one, _) in enumerate(held) if one in chosen]
            assert places == list(range(places[0], places[0] + len(chosen)))
            assert len(chosen) > 1
            rows = sum(one.rows for one in chosen)
            assert rows <= ROWS_PER_GROUP
            written += rows
            often = 1 + max(held[index][1] for index in places)
            held[places[0] : places[-1] + 1] = [(group(chosen[0].batch, rows), often)]

    for number, rows in enumerate(arriving):
        held.append((group(number, rows), 0))
        compact(closing=False)
    bound = math.log(ROWS_PER_GROUP * tiers.GROWN / min(arriving), tiers.FAN_IN) + 2
    assert max(often for _, often in held) <= bound
    assert len(held) <= sum(arriving) / (ROWS_PER_GROUP * tiers.GROWN) * 8 + 100
    if closing:
        compact(closing=True)
        assert len(held) <= 2 + 2 * sum(arriving) / (ROWS_PER_GROUP * tiers.GROWN)


class Kept:
    """A store with one run that an exporter has followed to its end, and a merger whose clock stands still."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore.open(path)
        none = np.empty(0, np.int32), np.empty(0)
        counter = Counter(1, "global_step", None, (Attempt(1, "w", 0, None, None, *none),))
        self.state: RunState = replace(run_state(1, "p/run"), counters=frozen({"global_step": counter}))
        self.now = 100.0
        self.merger = Merger(self.store, self.record, clock=lambda: self.now)

    def record(self, work: Any) -> None:
        with self.store.transaction() as transaction:
            work(transaction)

    def report(self, steps: range, per_block: int = 1) -> None:
        with self.store.transaction() as transaction:
            made = []
            for first in range(steps.start, steps.stop, per_block):
                pos = self.state.pos + 1
                self.state = replace(self.state, pos=pos, meta=replace(self.state.meta, updated_at=self.now))
                made.append(block(pos, range(first, min(first + per_block, steps.stop)), (1, 2)))
                transaction.save(self.state, made[-1:])
            transaction.save_generation(Generation(1, 1, "f", 1, 1, 0, 0, self.state.pos, 0, "live", 1.0))

    def end(self) -> None:
        self.state = replace(self.state, meta=replace(self.state.meta, status="finished"))
        with self.store.transaction() as transaction:
            transaction.save(self.state)

    def shape(self) -> tuple[int, list[int]]:
        """Level-0 blocks, and rows of the groups."""
        with self.store.snapshot() as view:
            level_0 = len(view.journal(1, after_pos=0, bytes_max=2**40))
            return level_0, [one.rows for one in view.groups(1, 1, 1)]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.store.close()


def test_one_row_at_a_time_becomes_few_chunks(kept: Kept) -> None:
    n = 30_000
    for first in range(0, n, 64):
        kept.report(range(first, min(first + 64, n)))
        kept.merger.merge_run(1)
    figures = kept.merger.stats()
    level_0, rows = kept.shape()
    assert level_0 < 64
    assert sum(rows) + level_0 == n
    assert len(rows) <= n / 8192 + 3 * 8
    assert figures["merge_compacted_scalars_total"] <= 4 * 2 * n
    with kept.store.snapshot() as view:
        cells = view.cells(1, 1, 1, [1], rows_max=10**6)[1]
        assert cells.count.sum() == n
        assert len(cells) <= n / 8192 + 3 * 8 + 1
    kept.now += 20
    kept.end()
    kept.merger.merge_run(1)
    level_0, rows = kept.shape()
    assert (level_0, sum(rows)) == (0, n)
    assert len(rows) <= 2


def test_a_quiet_run_keeps_nothing_at_level_0(kept: Kept) -> None:
    kept.report(range(10))
    assert kept.merger.merge_run(1) == 0
    kept.now += 61
    assert kept.merger.merge_run(1) == 10
    kept.report(range(10, 13))
    kept.now += 61
    assert kept.merger.merge_run(1) == 0  # reports that come now and then must not each cost a merge
    kept.now += 600
    assert kept.merger.merge_run(1) == 3
    assert kept.shape() == (0, [10, 3])


def test_superseded_attempts_do_not_wait_for_many_blocks(kept: Kept) -> None:
    kept.report(range(8))
    counter = kept.state.counters["global_step"]
    again = replace(counter.attempts[0], number=2)
    attempts = replace(counter, attempts=(*counter.attempts, again))
    kept.state = replace(kept.state, counters=frozen({"global_step": attempts}))
    assert kept.merger.merge_run(1) == 0
    kept.record(lambda transaction: transaction.save(kept.state))
    assert kept.merger.merge_run(1) == 8


def test_nothing_is_merged_that_event_files_need(kept: Kept) -> None:
    kept.report(range(100))
    kept.record(lambda transaction: transaction.save_generation(
        Generation(1, 1, "f", 1, 1, 0, 0, 70, 0, "live", 1.0)))  # fmt: skip
    kept.now += 1e6
    assert kept.merger.merge_run(1) == 70
    assert kept.shape() == (30, [70])


def test_an_ended_run_is_looked_at_once(kept: Kept) -> None:
    kept.report(range(10))
    kept.end()
    kept.now += 20
    kept.merger._turn()
    assert kept.shape() == (0, [10])
    assert kept.merger.stats()["merge_runs_waiting"] == 0
    kept.merger._sweep()
    assert kept.merger.stats()["merge_runs_waiting"] == 0
    kept.report(range(10, 12))
    kept.merger._sweep()
    assert kept.merger.stats()["merge_runs_waiting"] == 1


def test_a_run_that_was_killed_is_let_go_once_it_is_silent(kept: Kept) -> None:
    """Nobody ever says that it ended."""
    kept.report(range(10))
    kept.now += 599
    kept.merger._turn()
    kept.merger._sweep()
    assert kept.merger.stats()["merge_runs_waiting"] == 1
    kept.now += 2
    kept.merger._turn()
    assert kept.shape() == (0, [10])
    kept.merger._sweep()
    assert kept.merger.stats()["merge_runs_waiting"] == 0
    kept.report(range(10, 12))
    kept.merger._sweep()
    assert kept.merger.stats()["merge_runs_waiting"] == 1


def test_a_run_that_ends_after_a_long_silence_is_merged_to_the_last(kept: Kept) -> None:
    for first in (0, 10):
        kept.report(range(first, first + 10))
        kept.now += 601
        kept.merger._sweep()
        kept.merger._turn()
    kept.merger._sweep()
    assert kept.shape() == (0, [10, 10])
    assert kept.merger.stats()["merge_runs_waiting"] == 0
    kept.end()
    kept.merger._sweep()
    kept.merger._turn()
    assert kept.shape() == (0, [20])


def test_what_waits_for_merging_slows_reports_down(kept: Kept) -> None:
    ingest = Ingest(kept.store, backlog_bytes_max=1000)
    ingest.watch_backlog(kept.merger.backlog_bytes, "merges")
    kept.report(range(100))
    blocks = tuple(block(pos, range(pos, pos + 1), (1, 2)) for pos in range(1, 101))
    kept.merger.notify([Done(Receipt(run="p/run", stored=126), kept.state, blocks=blocks[:63])])
    assert kept.merger.backlog_bytes() == 0, "so few are not looked at"
    kept.merger.notify([Done(Receipt(run="p/run", stored=74), kept.state, blocks=blocks[63:])])
    assert kept.merger.stats()["merge_lag_bytes"] == kept.merger.backlog_bytes() == 1600
    with pytest.raises(OverloadedError, match="merges are 1600 bytes behind"):
        ingest._check_backlog()
    kept.merger._turn()
    assert kept.merger.backlog_bytes() == 0
    ingest._check_backlog()
    assert kept.shape() == (0, [100])


def test_a_run_that_brings_few_blocks_is_found_by_the_sweep(kept: Kept) -> None:
    kept.report(range(8))
    kept.merger.notify([Done(Receipt(run="p/run", stored=16), kept.state, blocks=(block(1, range(1), (1, 2)),) * 8)])
    assert kept.merger.stats()["merge_runs_waiting"] == 0
    kept.now += 61.0
    kept.merger._turn()  # the first one sweeps
    assert kept.shape() == (0, [8])


def test_nothing_is_kept_of_a_run_that_was_deleted(kept: Kept) -> None:
    kept.report(range(8))
    kept.merger.notify([Done(Receipt(run="p/run", stored=16), kept.state, blocks=(block(1, range(1), (1, 2)),) * 8)])
    kept.merger.notify([Done(Receipt(run="p/run"), kept.state, deleted=True)])
    assert kept.merger._few == {}


def test_tags_stand_in_one_set_each_and_ascend() -> None:
    """Two layouts of one slice overlap: they are cut by tag, and `at` is filled in where a block does not say."""
    blocks = [
        block(1, range(0, 20, 2), (1, 2), at={2: np.arange(10)}),
        block(2, range(1, 20, 2), (2, 3)),
        block(3, [19], (4, 1), at={3: np.array([5])}),
    ]
    merged = merge_blocks(blocks, 8)
    by_tag: dict[int, list[int]] = {}
    for made in merged:
        assert len(made.steps) <= 8
        for tag in made.tag_ids.tolist():
            by_tag.setdefault(tag, []).extend(made.steps.tolist())
    assert by_tag == {1: [*range(0, 20, 2), 19], 2: list(range(20)), 3: list(range(1, 20, 2)), 4: [19]}
    assert points(merged) == points(blocks)
    assert len({made.tag_ids.tobytes() for made in merged}) == 4
    (one,) = [made for made in merge_blocks(blocks) if made.tag_ids.tolist() == [1]]
    assert one.at[2].tolist() == [*range(10), -1]
    assert one.at[3].tolist() == [-1] * 10 + [5]

"""The checksum of points: as plain arithmetic has it, independent of order and blocks, sensitive to every bit."""

import struct
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.checksum import add, checksum, grown
from tallyboard_server.model import Block
from tallyboard_server.store.merge import merge_blocks
from tests.contract.blocks import block

ALL = 2**64 - 1


def by_hand(made: Block) -> int:
    """The same sum, scalar by scalar with Python's integers."""
    total = 0
    for i in range(len(made.steps)):
        row = int(made.steps[i]) * 0x9E3779B97F4A7C15 + bits(made.wall_times[i]) * 0xC2B2AE3D27D4EB4F
        for counter, column in made.at.items():
            row += (int(column[i]) * 0x165667B19E3779F9 ^ counter * 0xD6E8FEB86659FD93) & ALL
        for j, tag_id in enumerate(made.tag_ids.tolist()):
            tag = (tag_id + 1) * 0xFF51AFD7ED558CCD & ALL
            tag = (tag ^ tag >> 33) * 0xC4CEB9FE1A85EC53 & ALL
            mixed = ((bits(made.values[i, j]) + row) & ALL) ^ tag
            mixed = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & ALL
            total += mixed ^ mixed >> 29
    return total & ALL


def bits(value: float) -> int:
    (word,) = struct.unpack("<Q", struct.pack("<d", value))
    return int(word)


blocks = st.builds(
    lambda pos, steps, tags, at: block(
        pos, sorted(steps), tuple(tags), at={2: np.array(sorted(steps), np.int64) // 2} if at else {}
    ),
    st.integers(1, 100),
    st.lists(st.integers(0, 2**62), min_size=1, max_size=8, unique=True),
    st.lists(st.integers(1, 50), min_size=1, max_size=5, unique=True),
    st.booleans(),
)


@given(blocks)
def test_it_is_plain_arithmetic(made: Block) -> None:
    assert checksum(made) == by_hand(made)


@given(blocks, st.data())
def test_it_is_the_same_however_rows_and_columns_lie(made: Block, choice: st.DataObject) -> None:
    rows = np.array(choice.draw(st.permutations(range(len(made.steps)))))
    columns = np.array(choice.draw(st.permutations(range(len(made.tag_ids)))))
    turned = made.take(rows)
    turned = replace(turned, tag_ids=turned.tag_ids[columns], values=turned.values[:, columns])
    assert checksum(turned) == checksum(made)
    cut = choice.draw(st.integers(0, len(made.steps)))
    assert add(checksum(made.take(slice(0, cut))), checksum(made.take(slice(cut, None)))) == checksum(made)


def test_merging_does_not_change_it() -> None:
    made = [block(pos, range(100 * pos, 100 * pos + 90), (1, 2, 3)) for pos in range(1, 40)]
    made += [block(50, [10_000], (4,), at={2: np.array([7])})]
    merged = merge_blocks(made, rows_max=1000)
    assert len(merged) < len(made)
    assert grown(0, made) == grown(0, merged)


def test_large_blocks_are_summed_in_slabs() -> None:
    made = block(1, range(9_000), tuple(range(1, 12)))
    parts = [made.take(slice(i, i + 500)) for i in range(0, 9_000, 500)]
    assert checksum(made) == grown(0, parts)


@given(blocks, st.data())
def test_every_bit_counts(made: Block, choice: st.DataObject) -> None:
    column = choice.draw(st.sampled_from(["steps", "wall_times", "values", *(["at"] if made.at else [])]))
    old = made.at[2] if column == "at" else getattr(made, column)
    words = np.array(old).view(np.uint64)
    flat = words.reshape(-1)
    flat[choice.draw(st.integers(0, len(flat) - 1))] ^= np.uint64(1 << choice.draw(st.integers(0, 63)))
    changed = words.view(old.dtype)
    other = replace(made, at={2: changed}) if column == "at" else replace(made, **{column: changed})  # type: ignore[arg-type]
    assert checksum(other) != checksum(made)


def test_tags_and_counters_count() -> None:
    made = block(1, [5], (1, 2), at={2: np.array([3])})
    sums = {
        checksum(other)
        for other in (
            made, replace(made, tag_ids=np.array([2, 1], np.int32)), replace(made, tag_ids=np.array([1, 3], np.int32)),
            replace(made, at={3: np.array([3])}), replace(made, at={}),
        )
    }  # fmt: skip
    assert len(sums) == 5


def test_what_is_not_known_stays_unknown() -> None:
    assert grown(None, [block(1, [1])]) is None
    assert grown(5, []) == 5

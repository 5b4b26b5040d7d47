"""What bounds the memory of a client, whatever its job does."""

import pytest

from tallyboard.collect import recorder, sections
from tallyboard.delivery import batching
from tallyboard.errors import TallyboardError
from tallyboard.wire import MSGPACK, decode_batch, encode_batch, limits
from tests.unit.client_kit import recorded


def test_sections_are_closed_before_a_batch_gets_too_large() -> None:
    mine = recorded()
    for step in range(60_000):
        mine.log({"loss": 1.0}, step)
    taken = mine.recorder.take()
    assert len(taken) == 2
    assert mine.woken
    assert max(section.reports for section in taken) <= limits.ROWS_PER_BATCH_MAX // 2
    for section in taken:
        (batch,) = batching.batches(section)
        body = encode_batch(batch)
        assert len(body) <= sections.SECTION_COST_MAX + 1024
        assert len(decode_batch(body, MSGPACK, now=0.0).columns[0]) == section.reports


def test_a_section_never_has_more_lanes_than_a_batch_may_have_blocks() -> None:
    mine = recorded()
    for i in range(2_500):
        mine.log({f"tag{i}": 1.0}, i)
    taken = mine.recorder.take()
    assert sum(section.reports for section in taken) == 2_500
    assert max(len(section.rows) for section in taken) <= limits.BLOCKS_PER_BATCH_MAX


def test_tags_made_up_for_ever_are_forgotten() -> None:
    mine = recorded()
    for i in range(recorder.LANES_MAX + 10):
        mine.log({f"tag{i}": 1.0}, i)
        if i % 500 == 0:
            mine.recorder.take()
    assert len(mine.recorder._lanes) <= recorder.LANES_MAX
    assert mine.tally.stats().dropped_reports == 0


def test_a_full_buffer_drops_the_newest_and_says_so_once() -> None:
    mine = recorded(buffer_bytes_max=1_000_000)
    for step in range(200_000):
        mine.log({"loss": float(step)}, step)
    stats = mine.tally.stats()
    assert stats.dropped_reports > 0
    assert "newest reports are dropped" in mine.ears.heard[0]
    assert len(mine.ears.heard) == 1
    kept = [step for _, step, _, _ in mine.rows()]
    assert kept == list(range(200_000 - stats.dropped_reports))
    assert mine.recorder.counter("global_step").value == 199_999
    mine.log({"loss": 1.0}, 200_000)  # there is room again
    assert [step for _, step, _, _ in mine.rows()] == [200_000]


def test_rewinds_without_end_stop_at_a_bound() -> None:
    mine = recorded()
    for _ in range(sections.SECTIONS_MAX // 2):
        mine.recorder.rewind({"global_step": 0}, "", {})
    with pytest.raises(TallyboardError, match="rewinds"):
        mine.recorder.rewind({"global_step": 0}, "", {})


def test_a_full_buffer_is_noticed_however_often_somebody_flushes() -> None:
    mine = recorded(buffer_bytes_max=100_000)
    for step in range(50_000):
        mine.log({"loss": float(step)}, step)
        if step % 100 == 0:
            mine.recorder.mark()
    assert mine.tally.stats().dropped_reports > 40_000
    assert "newest reports are dropped" in mine.ears.heard[0]

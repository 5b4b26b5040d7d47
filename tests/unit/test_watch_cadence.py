"""The cadence of counters, against the plain rule over all gaps."""

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.watch.cadence import GAPS_KEPT, GAPS_MIN, Cadence

gaps = st.lists(st.floats(0.0, 1e5), max_size=3 * GAPS_KEPT)


def plain(gaps: list[float], floor_s: float) -> float | None:
    """The rule as the documentation says it."""
    lately = gaps[-GAPS_KEPT:]
    if len(lately) < GAPS_MIN:
        return None
    return max(floor_s, 10 * median(lately), 2 * max(gaps))


@given(gaps, st.floats(10.0, 1000.0))
def test_its_patience_is_the_plain_rules(gaps: list[float], floor_s: float) -> None:
    now, seen = 1e9, []
    cadence = Cadence(now)
    for gap in gaps:
        before, now = now, now + gap
        seen.append(now - before)
        cadence.move(now)
        assert cadence.silent_s(now) == 0.0
    assert cadence.patience_s(floor_s) == plain(seen, floor_s)
    assert cadence.silent_s(now + 5.0) == pytest.approx(5.0)


def test_what_was_missed_is_no_gap() -> None:
    cadence = Cadence(0.0)
    for second in range(1, 11):
        cadence.move(float(second))
    cadence.resume(90_000.0)
    cadence.move(90_001.0)
    assert cadence.patience_s(10.0) == 10.0
    cadence.move(89_000.0)  # the clock was set back
    assert cadence.silent_s(88_000.0) == 0.0

"""Since when things wait, against a list of all of them."""

from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server.ages import Ages


@given(st.lists(st.tuples(st.sampled_from(["came", "done", "wait"]), st.integers(0, 3))))
def test_the_oldest_that_waits_counts(what: list[tuple[str, int]]) -> None:
    now = 0.0
    ages: Ages[int] = Ages(lambda: now)
    waiting: dict[int, float] = {}
    for action, key in what:
        if action == "came":
            ages.came(key)
            waiting.setdefault(key, now)
        elif action == "done":
            ages.done(key)
            waiting.pop(key, None)
        else:
            now += 1.0
        assert ages.oldest_s() == max((now - since for since in waiting.values()), default=0.0)

"""Names: what may be a run, a tag, a counter, a producer."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard.wire import InvalidNameError, check_counter, check_run, check_tag, limits
from tallyboard.wire.names import check_producer, check_tags


@pytest.mark.parametrize("name", [
    "a", "mnist/try1", "a/b/c/d/e/f/g/h/i/j", "Größe/日本語 2", "a b/c..d", "a/b.", "run=3,lr=0.1", "x" * 200, "a/-b",
    "~/x", "con/nul", "a:b/c?d*e",
])  # fmt: skip
def test_runs(name: str) -> None:
    assert check_run(name) == name


@pytest.mark.parametrize("name", [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/.b", ".a/b", " a", "a ", "a/ b", "a\\b",
    "\\\\x\\y", "a\0b", "a\nb", "a\x7fb", "a\x9fb", "a\u2028b", "\ud800", "tfevents", "a/\u3000", "a\u00a0",
    "a/events.out.tfevents.1/b", "x" * 201, "ß" * 101, "/".join("abcdefghijk"), "/".join(["y" * 190] * 3)
])  # fmt: skip
def test_no_runs(name: str) -> None:
    with pytest.raises(InvalidNameError) as caught:
        check_run(name)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


@given(st.text(max_size=40))
def test_a_run_stays_inside_its_directory(name: str) -> None:
    try:
        check_run(name)
    except InvalidNameError:
        return
    path = os.path.normpath(Path("/logdir") / name)
    assert path == f"/logdir/{name}"
    assert name.encode().decode() == name


@pytest.mark.parametrize("check", [check_tag, check_counter, check_producer])
@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "\x1b[31m", "a\x80b", "\udc00", "a\u2029", "x" * 513])
def test_no_text(check: Callable[[str], str], name: str) -> None:
    with pytest.raises(InvalidNameError):
        check(name)


@pytest.mark.parametrize("check", [check_tag, check_counter, check_producer])
@pytest.mark.parametrize("name", ["loss", "train/loss", "..", "ß λ 日", " x ", "x" * 128])
def test_text(check: Callable[[str], str], name: str) -> None:
    assert check(name) == name


@pytest.mark.parametrize("name", ["step", "wall_time", "relative", "a=b", "="])
def test_counters_that_would_be_mistaken(name: str) -> None:
    with pytest.raises(InvalidNameError):
        check_counter(name)
    assert check_tag(name) == name


def test_tags_of_a_report() -> None:
    assert check_tags(("a", "b")) == ("a", "b")
    for bad in ((), ("a", "b", "a"), ("a", ""), tuple(f"t{i}" for i in range(limits.TAGS_PER_REPORT_MAX + 1))):
        with pytest.raises(InvalidNameError):
            check_tags(bad)

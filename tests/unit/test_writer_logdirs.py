"""A logdir becomes the name of a run by one rule."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard.summary_writer import logdirs
from tallyboard.wire import check_run, check_tag


@pytest.mark.parametrize(
    ("logdir", "run"),
    [
        ("mnist/try1", "mnist/try1"),
        ("try1", "try1"),
        ("runs/Nov20_14-36-00_gpu7", "Nov20_14-36-00_gpu7"),
        ("./logs/mnist/try1", "mnist/try1"),
        ("../runs/mnist/try1/", "mnist/try1"),
        ("runs", "runs"),
        ("logs/2026-11-20/runs/7", "7"),
        ("lightning_logs/version_0", "lightning_logs/version_0"),
        ("/home/me/project/runs/a/b", "a/b"),
        ("/home/me/project/exp/a/b", "exp/a/b"),
        ("/home/me/project/../elsewhere/x", "elsewhere/x"),
        ("/data/experiments/mnist/try1", "mnist/try1"),
        ("/data/logs/mnist/lr=0.1/try1", "mnist/lr=0.1/try1"),
        ("C:\\data\\logs\\mnist\\try1", "mnist/try1"),
        ("s3://bucket/deep/down/mnist/try1", "mnist/try1"),
        ("runs/.hidden/ x ", "hidden/x"),
        ("runs/a//b/./c", "a/b/c"),
        ("runs/events.out.tfevents.1", "events.out.tf_events.1"),
        ("runs/tab\there", "tab_here"),
        ("", "run"),
        ("/", "run"),
        ("a/" * 20, "/".join("a" * 10)),
        ("runs/" + "x" * 300, "x" * 200),
    ],
)
def test_the_rule(logdir: str, run: str) -> None:
    assert logdirs.run_name(logdir, "/home/me/project") == run


@given(
    st.text(st.characters() | st.sampled_from("/\\. :"), max_size=400), st.sampled_from(["/home/me/project", "/", ""])
)
def test_any_path_gives_a_name_that_can_be_used(logdir: str, working_dir: str) -> None:
    assert check_run(logdirs.run_name(logdir, working_dir))


@given(st.text(min_size=1, max_size=100))
def test_any_tag_can_be_sent_and_is_kept_but_for_what_none_may_hold(tag: str) -> None:
    cleaned = logdirs.clean(tag)
    assert check_tag(cleaned)
    assert len(cleaned) == len(tag)


def test_tags_stay_as_they_are_written() -> None:
    assert logdirs.clean("loss (train) @5/größe") == "loss (train) @5/größe"
    assert logdirs.clean("a\nb") == "a_b"
    assert logdirs.clean(3) == "3"


def test_without_a_logdir_it_is_the_scripts_with_the_time() -> None:
    logdir = logdirs.default_logdir("_lr0.1")
    assert re.fullmatch(r"runs/\w{3}\d\d_\d\d-\d\d-\d\d_.+_lr0\.1", logdir)
    assert re.fullmatch(r"train/\w{3}\d\d_.+_lr0\.1", logdirs.script_run_name(logdir, "/home/me/train.py"))
    assert logdirs.script_run_name("runs/x", "") == "runs/x"

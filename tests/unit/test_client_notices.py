"""What is said, where, and how often."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tallyboard import notices
from tallyboard.notices import Notices, caller_line, prepare


@contextmanager
def bare_logging() -> Iterator[io.StringIO]:
    """Logging as a script finds it, with a stderr of its own."""
    root, mine = logging.getLogger(), notices.logger
    before = (root.handlers, mine.handlers, mine.level, sys.stderr)
    root.handlers, mine.handlers, sys.stderr = [], [], io.StringIO()
    mine.setLevel(logging.NOTSET)
    try:
        yield sys.stderr
    finally:
        root.handlers, mine.handlers, level, sys.stderr = before
        mine.setLevel(level)


def test_notices_are_seen_by_default_and_once() -> None:
    with bare_logging() as stderr:
        for _ in range(3):
            prepare()
        Notices().say("hello")
        Notices().warn("oh")
    assert stderr.getvalue() == "tallyboard: hello\ntallyboard: oh\n"


def test_logging_of_the_program_takes_over() -> None:
    with bare_logging() as stderr:
        prepare()
        theirs = io.StringIO()
        logging.getLogger().handlers = [logging.StreamHandler(theirs)]
        Notices().say("hello")
    assert (stderr.getvalue(), theirs.getvalue()) == ("", "hello\n")


def test_a_level_of_the_program_stays() -> None:
    with bare_logging() as stderr:
        notices.logger.setLevel(logging.ERROR)
        prepare()
        Notices().say("hello")
    assert stderr.getvalue() == ""


def test_each_thing_is_said_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    mine = Notices()
    for i in range(3 * notices._ONCE_MAX):
        mine.warn_once(("kind", i // 2), f"warning {i // 2}")
    assert len(caplog.records) == notices._ONCE_MAX


def test_an_error_of_its_own_is_said_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    mine = Notices()
    for _ in range(2):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            mine.bug("log")
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_the_callers_line_is_outside_the_package() -> None:
    assert caller_line().startswith(__file__)

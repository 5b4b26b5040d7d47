"""Lines of the log: one a record whatever is logged, in text and in JSON, with the request's id."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from contextvars import copy_context
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallyboard_server import logs
from tallyboard_server.logs import FIELDS, REQUEST_ID, JsonFormatter, LogLevel, TextFormatter, configure


def record(message: str, *args: object, **parts: Any) -> logging.LogRecord:
    made = logging.LogRecord("tallyboard.x", logging.WARNING, __file__, 1, message, args, parts.get("exc_info"))
    for name, value in parts.items():
        setattr(made, name, value)
    return made


def failed(message: str) -> Any:
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


@given(st.text())
def test_whatever_is_logged_stays_on_its_line(text: str) -> None:
    for formatter in (TextFormatter(), JsonFormatter()):
        line = formatter.format(record("it says %s", text))
        assert len(line.splitlines()) == 1
        assert not {character for character in line if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0}


def test_text_says_when_what_and_for_which_request() -> None:
    def within() -> str:
        REQUEST_ID.set("abc-1")
        return TextFormatter().format(record("run %s", "a/b\n2026-01-01 ERROR forged"))

    line = copy_context().run(within)
    assert line.endswith(" WARNING tallyboard.x: run a/b\\x0a2026-01-01 ERROR forged [abc-1]")
    assert "[" not in TextFormatter().format(record("outside"))


def test_a_traceback_can_t_pass_for_lines_of_the_log() -> None:
    lines = TextFormatter().format(record("failed", exc_info=failed("x\n2026-01-01 ERROR forged\x1b[2J"))).splitlines()
    assert lines[0].endswith("failed")
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[-1] == "    2026-01-01 ERROR forged\\x1b[2J"


def test_json_is_one_object_a_line_with_its_own_fields() -> None:
    def within() -> str:
        REQUEST_ID.set("abc-1")
        return JsonFormatter().format(record("é%d", 7, exc_info=failed("bad"), **{FIELDS: {"status": 200}}))

    found = json.loads(copy_context().run(within))
    assert datetime.fromisoformat(found.pop("time")).utcoffset() is not None
    assert found.pop("exception").endswith("ValueError: bad")
    assert found == {
        "level": "warning", "logger": "tallyboard.x", "message": "é7", "request_id": "abc-1", "status": 200,
    }  # fmt: skip
    assert set(json.loads(JsonFormatter().format(record("outside")))) == {"time", "level", "logger", "message"}


@pytest.fixture
def _root_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before, level


@pytest.mark.usefixtures("_root_as_it_was")
def test_nothing_below_the_level_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json", "warning", sys.stdout)
    logging.getLogger("levels.x").info("quiet")
    logging.getLogger("levels.x").warning("loud")
    assert [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()] == ["loud"]


@pytest.mark.parametrize(("level", "told"), [("info", False), ("debug", True)])
def test_tensorboard_s_own_timings_are_told_only_to_who_looks_for_faults(level: LogLevel, told: bool) -> None:
    root, theirs = logging.getLogger(), logging.getLogger("tensorboard")
    before = root.handlers[:], root.level, theirs.level
    stream = io.StringIO()
    try:
        configure("text", level, stream)
        theirs.info("Plugin listing: is_active() for mesh took 0.000 seconds")
        theirs.warning("a plugin can't be shown")
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        theirs.setLevel(before[2])
    assert ("Plugin listing" in stream.getvalue()) is told
    assert "a plugin can't be shown" in stream.getvalue()

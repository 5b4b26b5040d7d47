"""docs/limits.md: every limit that can be set or that the protocol has stands there as it is, with a test of it."""

import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tallyboard.wire import limits
from tallyboard_server.api.problems import CONNECTION_KINDS, HTTP_KINDS, KINDS
from tallyboard_server.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "limits.md"
LINK = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")
UNITS = {"": 1, " s": 1, " KiB": limits.KIB, " MiB": limits.MIB}
NO_LIMITS = {"KIB", "MIB"}
"""Of wire/limits.py, what is a unit."""


@dataclass
class Row:
    what: str
    default: float
    settings: list[str]
    constants: list[str]
    beyond: str
    proof: str


def rows() -> list[Row]:
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("| ") or line.startswith("| what |"):
            continue
        what, default, where, beyond, proof = (cell.strip() for cell in line.strip("|").split(" | "))
        named = re.findall(r"`([\w.]+)`", where)
        settings = [name.removeprefix("TALLYBOARD_").lower() for name in named if name.startswith("TALLYBOARD_")]
        constants = [name for name in named if not name.startswith("TALLYBOARD_")]
        assert not constants or "fixed" in where, line
        number = re.fullmatch(r"([\d,]+)( s| KiB| MiB|)", default)
        assert number, f"no number: {default}"
        size = float(number[1].replace(",", "")) * UNITS[number[2]]
        found.append(Row(what, size, settings, constants, beyond, proof))
    return found


ROWS = rows()


def constant(name: str) -> Any:
    if "." not in name:
        return getattr(limits, name)
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"tallyboard_server.{module}"), attribute)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_the_default_is_the_one_that_holds(row: Row) -> None:
    assert row.settings or row.constants
    for name in row.settings:
        assert float(Settings.model_fields[name].default) == row.default
        assert Settings.model_fields[name].description
    for name in row.constants:
        assert float(constant(name)) == row.default


def test_every_limit_stands_on_the_page() -> None:
    settings = {
        name
        for name in Settings.model_fields
        if name.endswith(("_max", "_timeout_s")) or name.startswith("rate")
    }  # fmt: skip
    assert settings == {name for row in ROWS for name in row.settings}
    protocol = {name for name in vars(limits) if name.isupper()} - NO_LIMITS
    assert protocol == {name for row in ROWS for name in row.constants if "." not in name}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_what_is_answered_beyond_it_is_a_problem_that_exists(row: Row) -> None:
    kinds = [*KINDS.values(), *HTTP_KINDS.values(), *CONNECTION_KINDS.values()]
    for status, code in re.findall(r"(\d{3}) `(\w+)`", row.beyond):
        assert any((kind.status, kind.code) == (int(status), code) for kind in kinds), (status, code)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_the_proof_is_a_test_that_is_run(row: Row) -> None:
    link = LINK.fullmatch(row.proof)
    assert link, row.proof
    name, path = link.groups()
    assert re.fullmatch(r"tests/(unit|contract|integration|property)/test_\w+\.py", path), (
        "not among those that are run"
    )
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    (found,) = list(named(module, name))
    marks = [*marks_of(module), *marks_of(found)]
    assert not {mark.name for mark in marks} & {"skip", "skipif", "xfail"}


def marks_of(marked: object) -> list[pytest.Mark | pytest.MarkDecorator]:
    """The marks of a module or a test: several, or one by itself."""
    found = getattr(marked, "pytestmark", ())
    return [found] if isinstance(found, pytest.MarkDecorator) else list(found)


def named(module: ModuleType, name: str) -> list[Any]:
    """Tests of that name, of the module itself or of its classes."""
    classes = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]
    places = [vars(module), *(vars(kind) for kind in classes if kind.__name__.startswith("Test"))]
    return [place[name] for place in places if callable(place.get(name))]

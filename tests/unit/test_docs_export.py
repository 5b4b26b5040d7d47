"""The page on exports names the formats, columns, settings and options that there are."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tallyboard_server.cli.commands import app
from tallyboard_server.export import FORMATS
from tallyboard_server.export.text import COLUMNS_OF_ALL
from tallyboard_server.retention.thinning import KEPT_PER_BUCKET
from tallyboard_server.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """The names in the first column of the table with that head, cell by cell."""
    table = PAGE.partition(f"| {head} |")[2].partition("\n\n")[0]
    return [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in table.splitlines()[2:]]


def test_every_format_is_told() -> None:
    assert [name for cell in rows("format") for name in cell] == list(FORMATS)
    for line in PAGE.splitlines():
        if (name := re.match(r"\| `(\w+)` ", line)) and name[1] in FORMATS:
            assert line.endswith("| yes |" if FORMATS[name[1]].joinable else "| no |")


def test_every_column_is_told() -> None:
    assert sorted(name for cell in rows("column") for name in cell) == sorted(COLUMNS_OF_ALL)


def test_every_setting_is_told() -> None:
    told = [name for cell in rows("setting") for name in cell]
    assert sorted(told) == sorted(f"TALLYBOARD_{n.upper()}" for n in Settings.model_fields if n.startswith("retention"))
    assert f"({Settings.model_fields['retention_thin_points'].default:,})" in PAGE


def test_a_bucket_keeps_what_is_told() -> None:
    assert KEPT_PER_BUCKET == 4
    assert "at most a quarter as" in PAGE


@pytest.mark.parametrize("command", ["export", "prune"])
def test_options_named_exist(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
    named = set(re.findall(rf"tallyboard {command} ([^\n]*)", PAGE))
    options = {option for line in named for option in re.findall(r"--[a-z-]+", line)}
    assert options or command == "export"
    assert not [option for option in options if option not in shown]

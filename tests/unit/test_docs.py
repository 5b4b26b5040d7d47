"""What the durability page promises is tested: every sentence of its lists names tests that exist."""

import re
from pathlib import Path

import pytest

from tallyboard_server.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "durability.md"
LINK = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


def promises() -> list[str]:
    """The page's list items, each as one line."""
    text = re.sub(r"\n {2,}(?=\S)", " ", PAGE.read_text(encoding="utf-8"))
    return [line[2:] for line in text.splitlines() if line.startswith("- ")]


def test_the_page_promises_something() -> None:
    assert len(promises()) > 40


@pytest.mark.parametrize("promise", promises())
def test_every_promise_names_tests_that_exist(promise: str) -> None:
    links = LINK.findall(promise)
    assert links, "names no test"
    assert promise.count("](") == len(links), "a link that is none to a test"
    for name, path in links:
        assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (name, path)


def test_the_settings_it_names_exist() -> None:
    of_the_service, _, _ = PAGE.read_text(encoding="utf-8").partition("## The client")
    named = set(re.findall(r"TALLYBOARD_([A-Z_]+)", of_the_service))
    assert named
    assert named <= {name.upper() for name in Settings.model_fields}

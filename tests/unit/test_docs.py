"""What the durability page promises is tested: every sentence of its lists names tests that exist."""

import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import tallyboard
from tallyboard import preemption
from tallyboard.collect import sections
from tallyboard.delivery import sender, transmit, transport
from tallyboard.outbox import spool
from tallyboard.settings import read_settings
from tallyboard.wire import limits
from tallyboard_server.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "durability.md"
LINK = re.compile(r"\[(test_\w+)\]\(\.\./(tests/[\w/]+\.py)\)")


def promises() -> list[str]:
    """The page's list items, each as one line."""
    text = re.sub(r"\n {2,}(?=\S)", " ", PAGE.read_text(encoding="utf-8"))
    return [line[2:] for line in text.splitlines() if line.startswith("- ")]


def test_the_page_promises_something() -> None:
    assert len(promises()) > 100


@pytest.mark.parametrize("promise", promises())
def test_every_promise_names_tests_that_exist(promise: str) -> None:
    links = LINK.findall(promise)
    assert links, "names no test"
    assert promise.count("](") == len(links), "a link that is none to a test"
    for name, path in links:
        assert re.search(rf"^\s*def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), (name, path)


def test_the_settings_it_names_exist() -> None:
    of_the_service, _, of_the_client = PAGE.read_text(encoding="utf-8").partition("## The client")
    assert (named := _settings(of_the_service))
    assert named <= {name.upper() for name in Settings.model_fields}
    assert (named := _settings(of_the_client))
    asked = Asked()
    read_settings(asked)
    assert named <= {name.removeprefix("TALLYBOARD_") for name in asked.names}


def _settings(text: str) -> set[str]:
    return set(re.findall(r"TALLYBOARD_([A-Z_]+)", text))


class Asked(dict[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return default


def test_the_bounds_of_the_client_are_those_that_it_names() -> None:
    _, _, page = PAGE.read_text(encoding="utf-8").partition("## The client")
    text = " ".join(page.split())
    mib = limits.MIB
    waiting = (sections.BUFFER_BYTES_MAX + spool.MEMORY_BYTES_MAX) // mib
    for sentence in (
        f"{sections.BUFFER_BYTES_MAX // mib} MiB of recorded reports and {spool.MEMORY_BYTES_MAX // mib} MiB of frozen",
        f"else the newest, beyond {waiting} MiB",
        f"`TALLYBOARD_SPOOL_BYTES_MAX` ({spool.DISK_BYTES_MAX // mib:,} MiB)",
        f"{spool.FREE_BYTES_MIN // mib} MiB of the disk are left",
        f"Reports wait {sender.TICK_S:g} s for company",
        f"did not take in {spool.SPILL_AFTER_S:g} s, and {spool.SPILL_BYTES // mib} MiB of them",
        f"those of the last {sender.TICK_S:g} s, and of the {spool.SPILL_AFTER_S:g} s before",
        f"is synced within {spool.SYNC_EVERY_S:g} s",
        f"doubles up to {transmit.BACKOFF_S_MAX:g} s",
        f"`exit_timeout_s` ({signature(tallyboard.init).parameters['exit_timeout_s'].default:g} s),",
        f"and {sender.PUT_AWAY_S:g} s more for the disk",
        f"sends for {preemption.PREEMPT_TIMEOUT_S:g} s what it can",
    ):
        assert sentence in text, sentence
    assert transport.RETRY_AFTER_S_MAX == 5 * 60


def test_extras_are_spelled_as_in_the_readme() -> None:
    """The package is on no index yet: it is installed from its folder."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("client/examples/*.py")]
    told = {page.name: re.findall(r"pip install '?([^\s'`]+)", page.read_text(encoding="utf-8")) for page in pages}
    assert sum(map(len, told.values())) >= 10
    assert [(name, what) for name, found in told.items() for what in found if what.startswith("tallyboard")] == []

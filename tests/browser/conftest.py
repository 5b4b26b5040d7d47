"""A real Chromium, and pages of it that keep account of what went wrong."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

SCREENSHOTS = Path(__file__).parents[2] / "test-results" / "browser"
"""To be looked at by people; made anew by every run, kept out of the repository."""
TIMEOUT_MS = 20_000


@dataclass
class Visit:
    """A page with what it complained of: answers of 400 and above, errors of scripts and of the console."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Keep account from now on."""
        self.page.on("response", lambda r: self.faults.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda m: self.faults.append(m.text) if m.type == "error" else None)

    def screenshot(self, name: str) -> Path:
        """What is seen now, as a file."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; no other one is looked for."""
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to have one as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser) -> Iterator[Visit]:
    """A page of a profile of its own."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    try:
        visit = Visit(context.new_page())
        visit.watch()
        yield visit
    finally:
        context.close()

"""A real Chromium, and pages of it that keep account of what went wrong."""

import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import tallyboard
from tallyboard_server.api.static import STATIC
from tallyboard_server.cli.demo.sweeps import trials
from tallyboard_server.cli.demo.thousand import fill
from tallyboard_server.cli.http import Service
from tests.service import RunningService

SCREENSHOTS = Path(__file__).parents[2] / "test-results" / "browser"
"""To be looked at by people; made anew by every run, kept out of the repository."""
TIMEOUT_MS = 20_000
PHONE = {"width": 390, "height": 844}
SWEEP_RUNS = 200
"""Of the demo's thousand runs: enough to fill every list and plot."""


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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; no other one is looked for.

    It ends with its module: until then Playwright keeps an event loop in this thread, where others' could not run.
    """
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to have one as root
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, **context: Any) -> Iterator[Visit]:
    """A page of a profile of its own. context: `color_scheme`, `viewport` and what else new_context takes."""
    chosen: dict[str, Any] = {"viewport": {"width": 1400, "height": 900}, "reduced_motion": "reduce"} | context
    opened = browser.new_context(**chosen)
    opened.set_default_timeout(TIMEOUT_MS)
    try:
        visit = Visit(opened.new_page())
        visit.watch()
        yield visit
    finally:
        opened.close()


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """A page on which nothing may go wrong."""
    with visiting(chromium) as found:
        yield found
        assert not found.faults


@pytest.fixture(scope="session")
def dashboard() -> None:
    """The page is built."""
    assert (STATIC / "index.html").is_file(), "the dashboard is not built: make dashboard"


@pytest.fixture(scope="module")
def trained(dashboard: None, service: RunningService) -> RunningService:
    """Three runs as the Python client sends them: digits/try0 to try2, with config, totals, and two counters."""
    for number in range(3):
        train(service, f"digits/try{number}", lr=0.1 * (number + 1))
    return service


@pytest.fixture(scope="module")
def swept(dashboard: None, service: RunningService) -> RunningService:
    """SWEEP_RUNS of the demo's runs: three projects, of which some failed, diverged, were preempted or refused."""
    fill(Service(service.url), trials(SWEEP_RUNS, 1), 1, time.time())
    return service


def train(service: RunningService, name: str, *, lr: float, steps: int = 200) -> None:
    """A finished training of two epochs with an exponential loss, sent by the client."""
    config = {"lr": lr, "optimizer": "adam" if lr < 0.25 else "sgd", "net": {"depth": 2}}
    with tallyboard.init(name, url=service.url, config=config) as run:
        step, epoch = run.counter("global_step", total=steps), run.counter("epoch", total=2)
        for done in range(1, steps + 1):
            step.increment()
            run.log({"train/loss": math.exp(-lr * done / 20), "train/acc": done / steps})
            if done % (steps // 2) == 0:
                epoch.increment()
                run.log({"eval/loss": math.exp(-lr * done / 20) + lr / 10}, counter="epoch")

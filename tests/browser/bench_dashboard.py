"""Measures the dashboard's charts in a real Chromium: `make bench-dashboard`. Prints a table; asserts nothing.

50 runs × 30 tags × 10,000 points, and 950 small runs beside them in the table. The data stay where --dir says, so that
the next measurement need not write them again.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from playwright.sync_api import CDPSession, Page, sync_playwright

from tallyboard.wire import MSGPACK, Batch, Columns, Open, encode_batch
from tests.bench.machine import statement
from tests.bench.service import Service, serving

DATA: Final = Path("bench-results") / "dashboard"
RUNS: Final = 50
SMALL_RUNS: Final = 950
TAGS: Final = tuple(
    f"{part}/{what}"
    for part in ("train", "val", "grad", "optim", "system")
    for what in ("loss", "accuracy", "norm", "entropy", "lr", "throughput")
)
POINTS: Final = 10_000
ROWS: Final = 2_500
"""Reports in one batch."""
BEGIN_S: Final = 1_800_000_000.0
CHART: Final = "article[data-tag]"
TIMEOUT_MS: Final = 60_000
MERGE_TIMEOUT_S: Final = 300.0
QUIET_MS: Final = 3_000
BUSY_S: Final = 0.5
BUSY_TRIES: Final = 240
_WATCH: Final = """
    const charts = () => [...document.querySelectorAll('article[data-tag]')].filter(
        (chart) => chart.getBoundingClientRect().top < innerHeight);
    const isBusy = (chart) => chart.getAttribute('aria-busy') === 'true';
    window.firsts = {};
    const look = () => {
        const [all, now] = [charts(), performance.now()];
        if (all.some((chart) => !isBusy(chart))) window.firsts.first ??= now;
        if (all.length && !all.some(isBusy)) window.firsts.all ??= now;
        requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
    window.longest = 0;
    new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
    }).observe({entryTypes: ['longtask']});
    window.zoomed = (first) => new Promise((done) => addEventListener('pointerup', () => {
        const [begun, before, found] = [performance.now(), first.querySelector('.plot').dataset.range, {}];
        const look = () => {
            const now = performance.now() - begun;
            if (first.querySelector('.plot').dataset.range !== before) found.redrawn ??= now;
            if (found.redrawn !== undefined && !isBusy(first)) found.finer ??= now;
            if (found.finer === undefined || charts().some(isBusy)) requestAnimationFrame(look);
            else done({...found, all: now});
        };
        requestAnimationFrame(look);
    }, {once: true, capture: true}));
"""
"""Notes, frame by frame, when the first chart in sight is drawn and when all are, and the longest task; `zoomed`
does so after the pointer is let go over the first chart."""


_QUERIES: Final = """(() => { performance.setResourceTimingBufferSize(1e6);
    return performance.getEntriesByType('resource').filter(({name}) => name.endsWith('/query')).length; })()"""
"""How many questions about curves were answered."""


@dataclass(slots=True, frozen=True)
class Figure:
    """One line of the table: milliseconds of each try, and what was wanted of them."""

    name: str
    tries: tuple[float, ...]
    target_ms: float | None = None

    @property
    def text(self) -> str:
        """The line."""
        middle = statistics.median(self.tries)
        spread = f"{min(self.tries):.0f} … {max(self.tries):.0f}"
        target = "" if self.target_ms is None else f"≤ {self.target_ms:.0f} ms"
        met = "" if self.target_ms is None else "met" if middle <= self.target_ms else "NOT MET"
        return f"{self.name:<44} {middle:>8.1f} ms   {spread:>14}   {target:>10}  {met}"


def curve(run: int, tag: int, steps: "np.ndarray[Any, np.dtype[np.int64]]") -> "np.ndarray[Any, Any]":
    """A noisy decay, with a spike here and there."""
    noise = np.random.default_rng(run * 1_000 + tag).normal(size=len(steps), scale=0.03 * (1 + run % 3))
    spikes = np.where((steps * 7 + run * 131) % 3_001 == 0, 2.0, 0.0)
    return np.exp(-steps / (800.0 + 60 * run)) + 0.05 * tag + noise + spikes


def fill(service: Service) -> None:
    """Write all runs: the large ones by batches of columns, the small ones with a single report."""
    steps = np.arange(1, POINTS + 1, dtype=np.int64)
    for run in range(RUNS):
        values = np.stack([curve(run, tag, steps) for tag in range(len(TAGS))], axis=1)
        for seq, begin in enumerate(range(0, POINTS, ROWS), start=1):
            part = slice(begin, begin + ROWS)
            config = {"lr": 10.0 ** -(run % 5), "seed": run // 5}
            send(service, run_name(run), seq, steps[part], values[part], Open(config=config) if seq == 1 else None)
    for run in range(SMALL_RUNS):
        service.post(f"/scalars/small/r{run:03}", {"step": 1, "scalars": {"train/loss": run / SMALL_RUNS}})


def run_name(run: int) -> str:
    """Names as sweeps have them."""
    return f"bench/resnet18-lr{10.0 ** -(run % 5):g}-s{run // 5}"


def send(service: Service, run: str, seq: int, steps: Any, values: Any, opened: Open | None) -> None:
    """One numbered batch of columns."""
    columns = Columns("global_step", TAGS, steps, BEGIN_S + steps * 0.5, np.ascontiguousarray(values))
    batch = Batch(producer="bench", seq=seq, partial=True, open=opened, columns=(columns,))
    post(service, run, encode_batch(batch))


def post(service: Service, run: str, body: bytes) -> None:
    """A batch in MessagePack; waits while the service has too much to do."""
    url = f"{service.url}/api/v1/scalars/{run}"
    for _ in range(BUSY_TRIES):
        answer = service.pool.request("POST", url, body=body, headers={"Content-Type": MSGPACK})
        if answer.status == 200:
            return
        if answer.status != 503:
            break
        time.sleep(BUSY_S)
    raise RuntimeError(f"{run}: {answer.status} {answer.data[:300]!r}")


def until_quiet(service: Service) -> None:
    """Return once nothing waits to be merged or exported."""
    give_up = time.monotonic() + MERGE_TIMEOUT_S
    while time.monotonic() < give_up:
        figures = service.figures()
        if not any(value for name, value in figures.items() if "_lag_" in name):
            return
        time.sleep(BUSY_S)


@contextmanager
def visited(url: str) -> Iterator[Page]:
    """A new browser at its first visit."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        page = browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=True).new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.add_init_script(_WATCH)
        page.goto(url)
        page.wait_for_function("window.firsts.all !== undefined")
        yield page
        browser.close()


def settled(page: Page) -> None:
    """Return when all charts in sight are what was asked for, and drawn."""
    page.wait_for_function("!document.querySelector(\"article[data-tag][aria-busy='true']\")")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def main_thread_ms(session: CDPSession) -> float:
    """CPU time of the page's main thread so far."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return 1_000 * float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))


def zoomed_ms(page: Page, share: float) -> dict[str, float]:
    """Drag over a part of the first chart; how long until it is drawn anew, with finer curves, and all in sight are."""
    left, top, width, height = area(page)
    page.evaluate("() => { window.zooming = window.zoomed(document.querySelector('article[data-tag]')) }")
    page.mouse.move(left + width * 0.2, top + height / 2)
    page.mouse.down()
    page.mouse.move(left + width * (0.2 + share), top + height / 2, steps=5)
    page.mouse.up()
    took: dict[str, float] = page.evaluate("window.zooming")
    page.locator(f"{CHART} .u-over").first.dblclick()
    settled(page)
    return took


def area(page: Page) -> tuple[float, float, float, float]:
    """Where the first chart's curves are: left, top, width and height."""
    box = page.locator(f"{CHART} .u-over").first.bounding_box()
    if box is None:
        raise RuntimeError("there is no chart")
    return box["x"], box["y"], box["width"], box["height"]


def grow(service: Service, step: int) -> None:
    """Every large run reports one more step of every tag."""
    steps = np.array([step], dtype=np.int64)
    for run in range(RUNS):
        values = np.stack([curve(run, tag, steps) for tag in range(len(TAGS))], axis=1)
        send(service, run_name(run), POINTS // ROWS + step - POINTS, steps, values, None)


def live_ms(page: Page, session: CDPSession, tries: int, news: Callable[[int], None]) -> list[float]:
    """Main-thread time of a live update of one chart: of all that is done while news come, by the answers that came."""
    found = []
    for number in range(tries):
        page.wait_for_timeout(QUIET_MS)
        before = main_thread_ms(session)
        page.wait_for_timeout(QUIET_MS)
        idle = main_thread_ms(session) - before
        asked = page.evaluate(_QUERIES)
        news(number)
        page.wait_for_timeout(QUIET_MS)
        updates = page.evaluate(_QUERIES) - asked
        found.append(max(0.0, main_thread_ms(session) - before - 2 * idle) / max(1, updates))
    return found


def moving_ms(page: Page, session: CDPSession, moves: int) -> float:
    """Main-thread time of one move of the pointer over a chart, with the cursor in all of them."""
    left, top, width, _ = area(page)
    before = main_thread_ms(session)
    for move in range(moves):
        page.mouse.move(left + 20 + move * (width - 40) / moves, top + 60)
        page.evaluate("new Promise(requestAnimationFrame)")
    return (main_thread_ms(session) - before) / moves


def measured(service: Service, tries: int, query: str) -> Iterator[Figure]:
    """All figures, as they are found."""
    url = f"{service.url}/?{query}" + "".join(f"&run={run_name(run)}" for run in range(RUNS))
    firsts, alls = [], []
    for _ in range(tries):
        with visited(url) as page:
            times = page.evaluate("window.firsts")
            firsts.append(times["first"])
            alls.append(times["all"])
    yield Figure("first chart drawn", tuple(firsts), 1_000)
    yield Figure("all charts in sight drawn", tuple(alls), 2_500)
    with visited(url) as page:
        settled(page)
        yield Figure("longest task while loading", (page.evaluate("window.longest"),))
        session = watched(page)
        yield Figure("move of the pointer, all charts (CPU)", (moving_ms(page, session, 40),))
        zooms = [zoomed_ms(page, 0.1 + 0.02 * number) for number in range(tries)]
        yield Figure("zoom: drawn anew", tuple(zoom["redrawn"] for zoom in zooms), 200)
        yield Figure("zoom: finer curves", tuple(zoom["finer"] for zoom in zooms), 200)
        yield Figure("zoom: finer curves in all charts in sight", tuple(zoom["all"] for zoom in zooms))
    with visited(f"{url}&project=bench") as page:  # so that the table's own updates are not counted in
        settled(page)
        session = watched(page)
        last = last_step(service)
        live = live_ms(page, session, tries, lambda number: grow(service, last + 1 + number))
        yield Figure("live update, a chart (CPU)", tuple(live), 16)


def watched(page: Page) -> CDPSession:
    """A session that tells CPU time, not how long things took beside other processes."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.setTimeDomain", {"timeDomain": "threadTicks"})
    session.send("Performance.enable")
    return session


def last_step(service: Service) -> int:
    """How far the large runs have come: earlier measurements let them grow."""
    attempts = service.run(run_name(0))["counters"]["global_step"]["attempts"]
    return int(attempts[-1]["last_step"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the store, unless it is; measure; print."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser.bench_dashboard", description=__doc__)
    parser.add_argument("--tries", type=int, default=3, help="of which the median counts (3)")
    parser.add_argument("--dir", type=Path, default=DATA, help=f"where the data are, or go ({DATA})")
    parser.add_argument("--query", default="", help="more of the page's address, such as x=wall_time&smooth=0.5")
    given = parser.parse_args(arguments)
    given.dir.mkdir(parents=True, exist_ok=True)
    filled = given.dir / "filled"
    with serving(given.dir) as service:
        if not filled.exists():
            begun = time.monotonic()
            fill(service)
            until_quiet(service)
            filled.touch()
            print(f"wrote {RUNS * len(TAGS) * POINTS:,} scalars in {time.monotonic() - begun:.0f} s")
        for name, text in statement(given.dir).items():
            print(f"{name:>9}  {text}")
        for figure in measured(service, given.tries, given.query):
            print(figure.text, flush=True)


if __name__ == "__main__":
    main()

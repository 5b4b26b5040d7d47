"""Sweeps: parallel coordinates and scatter plots of real runs, by pointer and by keyboard."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PHONE, SWEEP_RUNS, Visit, visiting
from tests.browser.pixels import coloured
from tests.conftest import StartService
from tests.service import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

PAINT_MS_MAX = 50.0
"""So long a thousand runs may take to be drawn."""
DRAWN_MIN = 800
"""Coloured pixels of a plot of many runs, at least."""


def shown(page: Page) -> tuple[int, int]:
    """How many runs are in range, and of how many."""
    text = page.get_by_text(re.compile(r"^[\d,]+ of [\d,]+\+? runs")).inner_text()
    found = re.match(r"(\d+) of (\d+)", text.replace(",", ""))
    assert found
    return int(found[1]), int(found[2])


def until_drawn(visit: Visit) -> None:
    plot = visit.page.locator("main").get_by_role("group", name=re.compile("runs$"))
    expect(plot).to_be_visible()
    for _ in range(100):
        if coloured(plot) >= DRAWN_MIN:
            return
        visit.page.wait_for_timeout(100)
    raise AssertionError(f"nothing is drawn; see {visit.screenshot('not-drawn')}")


def query(page: Page) -> dict[str, list[str]]:
    page.wait_for_timeout(600)  # the URL follows with a delay
    return parse_qs(urlsplit(page.url).query)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_begins_with_what_differs(swept: RunningService, chromium: Browser, scheme: str) -> None:
    with visiting(chromium, color_scheme=scheme) as visit:
        page = visit.page
        page.goto(f"{swept.url}/?view=sweep&project=vision")
        until_drawn(visit)
        expect(page.get_by_role("button", name=re.compile("^Axis config.lr"))).to_be_visible()
        expect(page.get_by_label("Metric")).to_have_value("min.val/loss")
        expect(page.get_by_role("group", name=re.compile("^Colours:"))).to_contain_text("no value")
        visit.screenshot(f"dashboard-sweep-{scheme}")
        page.get_by_role("button", name="Scatter").click()
        until_drawn(visit)
        visit.screenshot(f"dashboard-scatter-{scheme}")
        assert not visit.faults


def test_ranges_by_pointer_select_runs(swept: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{swept.url}/?view=sweep&axis=config.lr&axis=config.optimizer&metric=min.val/loss&log=config.lr")
    until_drawn(visit)
    before, total = shown(page)
    assert (before, total) == (SWEEP_RUNS, SWEEP_RUNS)
    track = page.get_by_role("group", name="Range of min.val/loss").bounding_box()
    assert track
    x = track["x"] + track["width"] / 2
    page.mouse.move(x, track["y"] + track["height"] * 0.9)
    page.mouse.down()
    page.mouse.move(x, track["y"] + track["height"] + 5, steps=4)
    page.mouse.up()
    expect(page.get_by_text("runs in range")).to_be_visible()
    inside, _ = shown(page)
    assert 0 < inside < SWEEP_RUNS
    (within,) = query(page)["within"]
    low, high = (float(end) for end in within.split("~")[:2])
    answer = swept.get("/runs?columns=name,min.val/loss&limit=1000").json()
    wanted = sorted(name for name, loss in answer["rows"] if isinstance(loss, float) and low <= loss <= high)
    page.get_by_role("button", name=f"Select these {inside} runs").click()
    assert sorted(query(page)["run"]) == wanted
    page.get_by_role("button", name="Clear ranges").click()
    expect(page.get_by_text("runs in range")).to_be_hidden()
    assert shown(page) == (SWEEP_RUNS, SWEEP_RUNS)


def test_axes_and_ranges_by_keyboard(swept: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{swept.url}/?view=sweep&project=vision&axis=config.lr&axis=config.optimizer&metric=min.val/loss")
    until_drawn(visit)
    _, total = shown(page)
    page.get_by_role("button", name=re.compile("^Axis config.lr")).focus()
    page.keyboard.press("ArrowRight")
    assert query(page)["axis"] == ["config.optimizer", "config.lr", "min.val/loss"]
    page.keyboard.press("ArrowRight")
    assert query(page)["axis"] == ["config.optimizer", "min.val/loss", "config.lr"]
    expect(page.get_by_role("button", name=re.compile("^Axis config.lr"))).to_be_focused()
    end = page.get_by_role("slider", name="min.val/loss, to")
    end.focus()
    for _ in range(45):
        page.keyboard.press("ArrowDown")
    inside, _ = shown(page)
    assert 0 < inside < total
    page.keyboard.press("Delete")
    expect(page.get_by_text("runs in range")).to_be_hidden()
    page.get_by_role("button", name="Remove the axis config.optimizer").click()
    expect(page.get_by_role("button", name=re.compile("^Axis config.optimizer"))).to_have_count(0)


def test_an_axis_is_dragged_to_another_place(swept: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{swept.url}/?view=sweep&axis=config.lr&axis=config.optimizer&axis=config.batch_size")
    until_drawn(visit)
    heads = [page.get_by_role("button", name=re.compile(f"^Axis config.{key}")) for key in ("lr", "batch_size")]
    first, third = (head.bounding_box() for head in heads)
    assert first is not None
    assert third is not None
    page.mouse.move(first["x"] + first["width"] / 2, first["y"] + 10)
    page.mouse.down()
    page.mouse.move(third["x"] + third["width"] / 2, first["y"] + 10, steps=6)
    page.mouse.up()
    assert query(page)["axis"] == ["config.optimizer", "config.batch_size", "config.lr", "min.val/loss"]


def test_a_column_of_ones_own(swept: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{swept.url}/?view=sweep&project=vision")
    until_drawn(visit)
    page.get_by_label("Metric").select_option("Type a column…")
    page.get_by_label("Metric").fill("at_min(train/loss, val/loss)")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=re.compile(r"^Axis at_min"))).to_be_visible()
    expect(page.get_by_role("heading", name="Runs by")).to_contain_text("train/loss")
    until_drawn(visit)


def test_a_scatter_plot_tells_and_selects(start_service: StartService, visit: Visit) -> None:
    service = start_service()
    for number in range(4):
        opening = {"config": {"lr": 10.0**-number, "opt": "adam" if number % 2 else "sgd"}}
        service.send("PUT", f"/runs/grid/r{number}", opening)
        service.report(f"grid/r{number}", {"step": 1, "scalars": {"loss": "NaN" if number == 3 else number}})
    page = visit.page
    page.goto(f"{service.url}/?view=sweep&plot=scatter&across=config.lr&up=last.loss&tint=config.opt&log=config.lr")
    plot = page.get_by_role("group", name="last.loss over config.lr: 4 runs")
    box = plot.bounding_box()
    assert box
    left, bottom, width, height = box["x"] + 104, box["y"] + 372, box["width"] - 128, 356
    page.mouse.move(left + width, bottom)  # r0: lr 1, loss 0
    expect(page.get_by_text("grid/r0").nth(1)).to_be_visible()
    visit.screenshot("dashboard-scatter-hover")
    page.mouse.click(left + width, bottom)
    assert query(page)["run"] == ["grid/r0"]
    page.mouse.move(left + width / 3 - 20, bottom - height - 10)
    page.mouse.down()
    page.mouse.move(left + width + 20, bottom - height / 2 + 60, steps=4)
    page.mouse.up()
    assert sorted(query(page)["run"]) == ["grid/r1", "grid/r2"]
    page.mouse.move(left, bottom + 16)  # r3: lr 0.001, and NaN below the axis
    expect(page.get_by_text("NaN").last).to_be_visible()


def test_a_thousand_runs_are_drawn_within_a_frame_or_three(start_service: StartService, visit: Visit) -> None:
    service = start_service()
    for number in range(1_000):
        config = {"lr": 1.1 ** -(number % 83), "width": number % 7, "depth": number % 5, "opt": "abc"[number % 3]}
        assert service.send("PUT", f"/runs/many/r{number}", {"config": config | {"loss": number % 97}}).status == 201
    page = visit.page
    axes = "&".join(f"axis=config.{key}" for key in ("lr", "width", "depth", "opt"))
    page.goto(f"{service.url}/?view=sweep&{axes}&metric=config.loss")
    until_drawn(visit)
    assert shown(page) == (1_000, 1_000)
    took = page.evaluate("""() => {
        const times = [];
        for (const entry of performance.getEntriesByName('sweep painted')) times.push(entry.duration);
        return Math.min(...times);
    }""")
    assert took < PAINT_MS_MAX, f"{took:.1f} ms"
    visit.screenshot("dashboard-sweep-thousand")


def test_it_fits_a_phone(swept: RunningService, chromium: Browser) -> None:
    with visiting(chromium, viewport=PHONE) as visit:
        visit.page.goto(f"{swept.url}/?view=sweep&project=vision")
        until_drawn(visit)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        visit.screenshot("dashboard-sweep-phone")

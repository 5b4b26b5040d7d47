"""How runs do, as the dashboard shows it: counters, attempts, refusals and alerts of runs that the client sends."""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import tallyboard
from tallyboard_server.settings import Settings
from tests.browser.conftest import PHONE, Visit, visiting
from tests.service import RunningService, serving, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

STEPS = 200
TOTAL = 400
RATE = 10.0


def stands(service: RunningService) -> tuple[int, int, int]:
    """Of ward/moving, as the service has it: the last step, the attempt, and how many alerts."""
    view = service.get("/runs/ward/moving").json()
    counter = view["counters"].get("global_step", {"last_step": 0, "attempt": 0})
    return counter["last_step"], counter["attempt"], view["health"]["alerts_kept"]


def found(service: RunningService) -> list[tuple[str, str]]:
    """(run, kind) of what watchdogs found."""
    return sorted((one["run"], one["kind"]) for one in service.get("/incidents?project=ward").json()["incidents"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """With watchdogs."""
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data"), port=0)) as running:
        yield running


@pytest.fixture(scope="module")
def running(dashboard: None, service: RunningService) -> Iterator[RunningService]:
    """A run of each kind: one half-way at ten steps a second and rewound, one that stalls, one finished, one failed."""
    now = time.time()
    for name, status in (("ward/finished", "finished"), ("ward/failed", "failed")):
        service.report(name, {"step": 1, "scalars": {"loss": 1.0}})
        service.send("PATCH", f"/runs/{name}", {"status": status})
    with tallyboard.init("ward/moving", url=service.url, config={"lr": 0.1}) as moving:
        step = moving.counter("global_step", total=TOTAL)
        for done in range(1, STEPS + 1):
            step.increment()
            moving.log({"loss": 1 / done}, wall_time=now - (STEPS - done) / RATE)
        assert until(lambda: stands(service) == (STEPS, 1, 0))
        moving.rewind({"global_step": 151}, "restart")
        for done in range(151, STEPS + 1):
            moving.log({"loss": 0.5}, step=step.increment(), wall_time=now - (STEPS - done) / RATE)
        moving.alert("loss is not a number", "the last good checkpoint is ckpt-2", level="error")
        assert until(lambda: stands(service) == (STEPS, 2, 1))
        stuck = {"reports": [{"step": 0, "scalars": {"loss": float(i)}} for i in range(15)], "partial": True}
        assert service.report("ward/stuck", stuck).status == 200
        back = {"reports": [{"step": step, "scalars": {"acc": 0.5}} for step in (7, 3)], "partial": True}
        assert service.report("ward/back", back).status == 200
        assert until(lambda: len(found(service)) == 4)
        assert found(service) == [
            ("ward/back", "refused"), ("ward/failed", "failed"), ("ward/stuck", "refused"), ("ward/stuck", "unmoved"),
        ]  # fmt: skip
        yield service


def tile(page: Page, label: str) -> Locator:
    return page.get_by_role("group", name="Runs by state").get_by_role("button", name=re.compile(f"^\\d+ {label}$"))


def opened(page: Page, name: str) -> Locator:
    card = page.get_by_role("article", name=name)
    card.get_by_role("button", name=f"Details of {name}").click()
    return card


def test_the_overview_counts_runs_by_state(running: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{running.url}/?view=health&project=ward")
    for label, count in (("running", 3), ("stalled", 1), ("lost", 0), ("failed", 1), ("finished", 1),
                         ("with incidents", 3), ("with alerts", 4), ("with refusals", 2)):  # fmt: skip
        expect(tile(page, label)).to_have_text(re.compile(rf"^\s*{count}\s+{label}\s*$"))
    expect(page.get_by_role("article")).to_have_count(3)
    expect(page.get_by_role("article").first).to_have_accessible_name("ward/stuck")  # who needs somebody comes first
    tile(page, "failed").click()
    expect(page.get_by_role("article")).to_have_count(1)
    expect(page.get_by_role("article", name="ward/failed")).to_be_visible()
    expect(page).to_have_url(re.compile("show=failed"))
    expect(page.get_by_role("region", name="Newest alerts")).to_contain_text("loss is not a number")


def test_a_counter_has_a_bar_a_rate_and_an_end(running: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{running.url}/?view=health&project=ward&run=ward/moving")
    bar = page.get_by_role("progressbar", name="global_step")
    expect(bar).to_have_attribute("aria-valuenow", "50")
    expect(bar).to_have_attribute("aria-valuetext", f"{STEPS} of {TOTAL}")
    card = page.get_by_role("article", name="ward/moving")
    answer = running.get("/runs?columns=name,rates.global_step&run=ward/moving").json()
    ((_, rate),) = answer["rows"]
    assert rate == pytest.approx(RATE, rel=0.1)
    expect(card).to_contain_text(f"{rate:.3g}/s")
    expect(card).to_contain_text(re.compile(r"(19|20|21) s left"))
    expect(card).to_contain_text("2 attempts")


def test_attempts_tell_what_was_superseded_and_who_wrote(running: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{running.url}/?view=health&project=ward&run=ward/moving")
    card = opened(page, "ward/moving")
    rows = card.get_by_role("region", name="Attempts of global_step").get_by_role("row")
    expect(rows).to_have_count(3)
    view = running.get("/runs/ward/moving").json()["counters"]["global_step"]["attempts"]
    newest, first = rows.nth(1), rows.nth(2)
    expect(newest).to_contain_text("151 – 200")
    expect(first).to_contain_text("0 – 200")
    expect(first.get_by_role("cell").nth(3)).to_have_text("151")
    expect(newest).to_contain_text(f"pid {view[1]['pid']}")
    expect(newest).to_contain_text(view[1]["host"])
    expect(newest.locator("time").first).to_have_attribute("title", re.compile("UTC"))
    expect(card).to_contain_text("the last good checkpoint is ckpt-2")
    visit.screenshot("dashboard-attempts")


def test_refused_reports_stand_by_reason_with_what_to_do(running: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{running.url}/?view=health&project=ward&show=refused")
    card = opened(page, "ward/stuck")
    kept = running.get("/refused/ward/stuck").json()["refused"]
    expect(card).to_contain_text("stalled: is it incremented?")
    expect(card).to_contain_text(f"tag_repeated · {len(kept)}×")
    expect(card).to_contain_text("Is the counter incremented once per update")
    expect(card).to_contain_text(kept[0]["refusal"]["detail"])
    expect(card).to_contain_text(f"and {len(kept) - 5} before these")
    other = opened(page, "ward/back")
    expect(other).to_contain_text("step_decreased · 1×")
    expect(other).to_contain_text("last was 7")
    visit.screenshot("dashboard-refused")


def test_what_is_wrong_stands_above_all_and_comes_and_goes_by_itself(running: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{running.url}/?view=health&project=ward&show=incidents")
    wrong = page.get_by_role("region", name="Open incidents")
    expect(wrong).to_contain_text("reports are refused: step_decreased")
    expect(wrong).to_contain_text("global_step is reported, but does not move")
    expect(wrong).to_contain_text("the run failed")
    expect(page.get_by_role("article", name="ward/back")).to_contain_text("reports are refused")
    visit.screenshot("dashboard-incidents")
    running.report("ward/bad", {"step": 1, "scalars": {"<b>loss</b>": "NaN"}})
    expect(wrong).to_contain_text("<b>loss</b> is NaN", timeout=15_000)
    card = opened(page, "ward/bad")
    expect(card.get_by_role("group", name="Open incidents")).to_contain_text("<b>loss</b> is NaN")
    running.request("DELETE", "/api/v1/runs/ward/bad")
    expect(wrong).not_to_contain_text("<b>loss</b> is NaN", timeout=15_000)


def test_what_is_new_comes_by_itself(running: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{running.url}/?view=health&project=ward&run=ward/live")
    expect(page.get_by_role("button", name="Live", exact=True)).to_be_visible()
    running.send("PUT", "/runs/ward/live", {"counters": {"global_step": {"total": 10}}})
    running.report("ward/live", {"step": 1, "scalars": {"loss": 1.0}})
    bar = page.get_by_role("progressbar", name="global_step")
    expect(bar).to_have_attribute("aria-valuenow", "10", timeout=15_000)
    card = opened(page, "ward/live")
    expect(card).to_contain_text("Nothing was refused.")
    running.report("ward/live", {"step": 5, "scalars": {"loss": 1.0}})
    running.report("ward/live", {"reports": [{"step": 2, "scalars": {"loss": 1.0}}], "partial": True})
    expect(bar).to_have_attribute("aria-valuenow", "50")
    expect(card).to_contain_text("The step went back")
    running.request("DELETE", "/api/v1/runs/ward/live")
    expect(card).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(running: RunningService, chromium: Browser, scheme: str) -> None:
    with visiting(chromium, viewport=PHONE, color_scheme=scheme) as visit:
        visit.page.goto(f"{running.url}/?view=health&project=ward&run=ward/moving&watch=ward/moving")
        expect(visit.page.get_by_role("region", name="Attempts of global_step")).to_be_visible()
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        visit.screenshot(f"dashboard-health-phone-{scheme}")
        assert not visit.faults
    with visiting(chromium, color_scheme=scheme) as visit:
        visit.page.goto(f"{running.url}/?view=health&project=ward&watch=ward/stuck")
        expect(visit.page.get_by_role("region", name="Attempts of global_step")).to_be_visible()
        visit.screenshot(f"dashboard-health-{scheme}")

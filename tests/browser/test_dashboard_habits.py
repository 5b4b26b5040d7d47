"""What one expects of any page: addresses to share, keys, screen readers, phones, a login, and help for a beginner."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PHONE, Visit, visiting
from tests.conftest import StartService
from tests.service import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("dashboard")]

AXE = Path(__file__).parents[2] / "server" / "dashboard" / "node_modules" / "axe-core" / "axe.min.js"
TOKEN = "s3cret-token"
REGIONS = {
    "charts": "view=charts&all=1",
    "charts-none": "",
    "sweep": "view=sweep&project=vision&within=0.0001~0.0002~config.lr",
    "scatter": "view=sweep&plot=scatter&all=1",
    "health": "view=health&show=refused",
    "health-alerts": "view=health&show=alerts&watch=ward/one",
}
_SECONDS = re.compile(r"\d+(\.\d+)? (ms|s|min)( ago)?")


@pytest.fixture(scope="module")
def stocked(swept: RunningService) -> RunningService:
    """The sweeps, and a run that has alerts, refusals and several attempts."""
    swept.send("PUT", "/runs/ward/one", {"counters": {"global_step": {"total": 100}}})
    swept.report("ward/one", {"reports": [{"step": step, "scalars": {"loss": 1.0}} for step in range(50)]})
    swept.send("POST", "/rewind/ward/one", {"next_steps": {"global_step": 30}})
    stuck = {"reports": [{"step": 30, "scalars": {"loss": float(value)}} for value in range(15)], "partial": True}
    swept.report("ward/one", stuck)
    for level in ("info", "warn", "error"):
        swept.send("POST", "/alerts/ward/one", {"title": f"{level} of a disk", "text": "full", "level": level})
    return swept


def until_there(page: Page) -> None:
    expect(page.get_by_role("button", name="Live", exact=True)).to_be_visible()
    expect(page.locator("#runs input[type=checkbox]").nth(3)).to_be_attached()
    page.wait_for_load_state("load")
    page.wait_for_timeout(1_500)  # for what comes after the first answers


def violations(page: Page) -> list[str]:
    """What axe finds, a line a rule: which, where, why."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run(document)).violations")
    return [
        f"{rule['id']}: {rule['help']}: " + "; ".join(f"{n['target']} {n['failureSummary']}" for n in rule["nodes"][:3])
        for rule in found
    ]


def said(page: Page) -> str:
    """The text of the main area, without how long ago anything was."""
    return _SECONDS.sub("…", page.locator("main").inner_text())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("region", REGIONS)
def test_axe_finds_nothing(stocked: RunningService, chromium: Browser, region: str, scheme: str) -> None:
    with visiting(chromium, color_scheme=scheme) as visit:
        visit.page.goto(f"{stocked.url}/?{REGIONS[region]}")
        until_there(visit.page)
        assert violations(visit.page) == []
        assert not visit.faults


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_a_dialog_on_a_phone_and_in_the_beginning(
    stocked: RunningService, chromium: Browser, start_service: StartService, scheme: str
) -> None:
    with visiting(chromium, color_scheme=scheme, viewport=PHONE) as visit:
        visit.page.goto(f"{stocked.url}/?view=health")
        until_there(visit.page)
        assert violations(visit.page) == []
        visit.page.get_by_role("button", name="Runs", exact=True).click()
        assert violations(visit.page) == []
        visit.page.keyboard.press("Escape")
        visit.page.get_by_role("button", name="Keys and help").click()
        expect(visit.page.get_by_role("dialog", name="Keys")).to_be_visible()
        assert violations(visit.page) == []
        visit.screenshot(f"dashboard-help-phone-{scheme}")
        bare = start_service(token=TOKEN)
        visit.page.goto(bare.url)
        assert violations(visit.page) == []
        visit.screenshot(f"dashboard-login-phone-{scheme}")
        visit.page.get_by_label("Token").fill("wrong")
        visit.page.get_by_role("button").click()
        expect(visit.page.get_by_role("alert")).to_be_visible()
        assert violations(visit.page) == []
        visit.page.get_by_label("Token").fill(TOKEN)
        visit.page.get_by_role("button").click()
        expect(visit.page.get_by_role("heading", name="No runs yet")).to_be_visible()
        assert violations(visit.page) == []
        visit.screenshot(f"dashboard-empty-phone-{scheme}")


def test_a_shared_address_shows_the_same(stocked: RunningService, chromium: Browser) -> None:
    with visiting(chromium) as first, visiting(chromium) as second:
        page = first.page
        page.goto(f"{stocked.url}/?view=sweep&project=vision")
        until_there(page)
        page.get_by_role("button", name=re.compile("^Axis config.lr")).focus()
        page.keyboard.press("ArrowLeft")
        end = page.get_by_role("slider", name="min.val/loss, to")
        end.focus()
        for _ in range(30):
            page.keyboard.press("ArrowDown")
        page.get_by_role("button", name=re.compile(r"^Select these \d+ runs")).click()
        page.wait_for_timeout(600)  # the URL follows with a delay
        second.page.goto(page.url)
        until_there(second.page)
        assert said(second.page) == said(page)
        boxes = "[...document.querySelectorAll('#runs input')].filter(box => box.checked).length"
        assert second.page.evaluate(boxes) == page.evaluate(boxes) > 0
        assert second.page.title() == page.title() == "vision · Sweep – Tallyboard"


def test_keys(stocked: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{stocked.url}/?view=health&show=refused")
    until_there(page)
    cards = page.get_by_role("article")
    page.keyboard.press("j")
    expect(cards.nth(0)).to_be_focused()
    page.keyboard.press("j")
    expect(cards.nth(1)).to_be_focused()
    page.keyboard.press("k")
    expect(cards.nth(0)).to_be_focused()
    table = page.get_by_role("treegrid", name="Runs")
    table.focus()
    page.keyboard.press("j")
    expect(table).to_have_attribute("aria-activedescendant", "line-1")
    page.keyboard.press("Space")
    expect(table.locator("#line-1 input[type=checkbox]")).to_be_checked()
    page.keyboard.press("2")
    expect(page.get_by_role("button", name="Sweep", exact=True)).to_have_attribute("aria-current", "page")
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    page.keyboard.press("3")  # the page behind it does not listen
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Sweep", exact=True)).to_have_attribute("aria-current", "page")
    page.get_by_role("button", name="Keys and help").click()
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Keys and help")).to_be_focused()
    page.get_by_label("Metric").focus()
    page.keyboard.press("p")  # a field takes it
    expect(page.get_by_role("button", name="Live", exact=True)).to_be_visible()


def test_a_keyboard_gets_past_the_runs_at_once(stocked: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{stocked.url}/?view=health")
    until_there(page)
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the health")
    expect(skip).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_phone_shows_the_runs_in_a_drawer(stocked: RunningService, chromium: Browser) -> None:
    with visiting(chromium, viewport=PHONE, has_touch=True) as visit:
        page = visit.page
        page.goto(f"{stocked.url}/?view=health")
        until_there(page)
        expect(page.locator("#runs")).to_be_hidden()
        page.get_by_role("button", name="Runs", exact=True).tap()
        expect(page.locator("#runs")).to_be_visible()
        visit.screenshot("dashboard-phone-drawer")
        page.keyboard.press("Escape")
        expect(page.locator("#runs")).to_be_hidden()
        for link in ("TensorBoard", "API"):
            box = page.get_by_role("link", name=link).bounding_box()
            assert box is not None
            assert box["x"] + box["width"] <= PHONE["width"]
        assert not visit.faults


def test_times_are_ones_own_with_utc_on_hover(stocked: RunningService, chromium: Browser) -> None:
    with visiting(chromium, timezone_id="Asia/Kolkata") as visit:
        visit.page.goto(f"{stocked.url}/?view=health&show=alerts")
        shown = visit.page.get_by_role("region", name="Newest alerts").locator("time").first
        title = shown.get_attribute("title") or ""
        local, utc = title.split("\n")
        assert utc.endswith(" UTC")
        minutes = [int(text[11:13]) * 60 + int(text[14:16]) for text in (local, utc)]
        assert (minutes[0] - minutes[1]) % 1440 == 5 * 60 + 30


def test_the_other_pages_are_one_click_away(stocked: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{stocked.url}/?view=health")
    page.get_by_role("link", name="API", exact=True).click()
    expect(page).to_have_url(f"{stocked.url}/docs")
    page.go_back()
    page.get_by_role("link", name="TensorBoard").click()
    expect(page).to_have_url(re.compile("/tensorboard/"))


@pytest.fixture(params=[None, TOKEN], ids=["open", "protected"])
def beginner(
    request: pytest.FixtureRequest, chromium: Browser, start_service: StartService
) -> Iterator[tuple[Visit, RunningService]]:
    """A page of a service without runs; logged in, if that takes a token."""
    service = start_service() if request.param is None else start_service(token=request.param)
    with visiting(chromium) as visit:
        visit.page.goto(f"{service.url}/?view=charts")
        if request.param is not None:
            visit.page.get_by_label("Token").fill(TOKEN)
            visit.page.get_by_role("button").click()
        expect(visit.page.get_by_role("heading", name="No runs yet")).to_be_visible()
        yield visit, service


def test_the_first_lines_work_as_they_stand_there(beginner: tuple[Visit, RunningService], tmp_path: Path) -> None:
    visit, service = beginner
    page = visit.page
    expect(page.get_by_role("button", name="Live", exact=True)).to_be_visible()
    curl, python = page.locator("main pre").all_inner_texts()
    secrets = {"TALLYBOARD_TOKEN": TOKEN} if service.headers else {}
    environment = os.environ | secrets | {"TALLYBOARD_SPOOL_DIR": str(tmp_path / "spool")}
    done = subprocess.run(["sh", "-c", curl], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert '"stored":1' in done.stdout
    expect(page.locator("#runs")).to_contain_text("try1")
    ran = subprocess.run(
        [sys.executable, "-c", python], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    expect(page.locator("#runs")).to_contain_text("try1-2")
    assert service.points("mnist/try1-2", "loss") == [(1, 0.5)]


def test_an_address_that_is_not_understood_says_so(stocked: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{stocked.url}/?view=health&smooth=lots&show=nobody")
    expect(page.get_by_role("status").filter(has_text="ignored")).to_contain_text("show")
    until_there(page)
    tile = page.get_by_role("button", name=re.compile(r"^\d+ failed$"))
    tile.click()
    page.wait_for_timeout(600)  # the URL follows with a delay
    assert parse_qs(urlsplit(page.url).query) == {"view": ["health"], "show": ["failed"]}

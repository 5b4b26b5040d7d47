"""The dashboard while things happen: a first run, a pause, alerts, and a service that goes and comes back."""

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import tallyboard
from tallyboard_server.settings import Settings
from tests.browser.conftest import Visit, visiting
from tests.conftest import StartService
from tests.service import RunningService, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180), pytest.mark.usefixtures("dashboard")]

RETRY_TIMEOUT_MS = 40_000
"""The page tries again after half a minute at most."""
CAUGHT_UP_MS = 2_500
"""The page has asked for what it heard of by then."""


def point(service: RunningService, run: str, step: int, value: float = 0.5) -> None:
    assert service.report(run, {"step": step, "scalars": {"loss": value}}).status == 200


def until_live(page: Page, timeout_ms: float = RETRY_TIMEOUT_MS) -> None:
    expect(page.get_by_role("button", name="Live", exact=True)).to_be_visible(timeout=timeout_ms)


@pytest.fixture
def bare(start_service: StartService) -> RunningService:
    """A service that has no runs."""
    return start_service()


@pytest.fixture
def unwatched(chromium: Browser) -> Iterator[Visit]:
    """A page whose requests may fail: the service goes away."""
    with visiting(chromium) as found:
        yield found


def test_the_first_run_appears_by_itself(bare: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(bare.url)
    expect(page.get_by_role("heading", name="No runs yet")).to_be_visible()
    visit.screenshot("dashboard-empty")
    until_live(page)
    point(bare, "first/run", 1)
    expect(page.locator("#runs")).to_contain_text("run")
    expect(page.get_by_role("heading", name="No runs yet")).to_be_hidden()


def test_the_address_that_a_job_says_shows_its_charts(bare: RunningService, visit: Visit) -> None:
    with tallyboard.init("first/it's #1?", url=bare.url) as run:
        run.log({"loss": 0.5}, step=1)
        run.log({"loss": 0.4}, step=2)
    visit.page.goto(run.url)
    expect(visit.page.locator("main").get_by_role("article", name="loss")).to_be_visible()
    expect(visit.page.locator("#runs").get_by_role("checkbox", checked=True).first).to_be_visible()


def test_only_what_changed_is_asked_for(bare: RunningService, visit: Visit) -> None:
    for number in range(5):
        bare.send("PUT", f"/runs/sweep/r{number}", {"config": {"lr": number}})
        point(bare, f"sweep/r{number}", 1, number)
    page = visit.page
    page.goto(f"{bare.url}/?view=sweep")
    until_live(page)
    expect(page.locator("main").get_by_role("row", name="sweep/r0")).to_contain_text("0")
    page.wait_for_timeout(CAUGHT_UP_MS)  # a new connection asks for all once more
    with page.expect_request(lambda request: "run=" in request.url and "config.lr" in request.url) as asked:
        point(bare, "sweep/r0", 2, -7.25)
    assert asked.value.url.count("run=") == 1
    expect(page.locator("main").get_by_role("row", name="sweep/r0")).to_contain_text("−7.25")


def test_it_stands_still_while_it_is_paused(bare: RunningService, visit: Visit) -> None:
    point(bare, "a/one", 1)
    page = visit.page
    page.goto(f"{bare.url}/?view=health&show=running")
    until_live(page)
    expect(page.locator("article")).to_have_count(1)
    page.wait_for_timeout(CAUGHT_UP_MS)
    page.keyboard.press("p")
    status = page.get_by_role("status").filter(has_text="Paused")
    expect(status).to_contain_text("Nothing has changed since.")
    point(bare, "a/one", 2)
    point(bare, "a/two", 1)
    expect(status).to_contain_text("2 runs have changed since.")
    visit.screenshot("dashboard-paused")
    page.wait_for_timeout(CAUGHT_UP_MS)
    expect(page.locator("article")).to_have_count(1)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator("article")).to_have_count(2)
    until_live(page)


def test_alerts_are_told_as_they_come(bare: RunningService, visit: Visit) -> None:
    point(bare, "a/one", 1)
    old = {"title": "an old one", "level": "info"}
    assert bare.send("POST", "/alerts/a/one", old).status == 200
    page = visit.page
    page.goto(f"{bare.url}/?view=sweep")
    until_live(page)
    told = page.get_by_role("log", name="New alerts")
    with page.expect_request(lambda request: "/alerts/" in request.url):
        alert = {"title": "loss is not a number", "text": "<b>see</b> ckpt-2", "level": "error", "at": {"epoch": 3120}}
        assert bare.send("POST", "/alerts/a/one", alert).status == 200
    expect(told).to_contain_text("loss is not a number")
    expect(told).to_contain_text("<b>see</b> ckpt-2")
    expect(told).not_to_contain_text("an old one")
    visit.screenshot("dashboard-toast")
    told.get_by_role("button", name="a/one", exact=True).click()
    expect(told.get_by_role("group")).to_have_count(0)
    expect(page.get_by_role("article", name="a/one")).to_contain_text("epoch 3,120")
    expect(page.get_by_role("article", name="a/one")).to_be_focused()


def test_alerts_are_told_above_a_dialog(bare: RunningService, visit: Visit) -> None:
    point(bare, "a/one", 1)
    page = visit.page
    page.goto(f"{bare.url}/?open=a/one")
    until_live(page)
    dialog = page.get_by_role("dialog", name="a/one")
    with page.expect_request(lambda request: "/alerts/" in request.url):
        alert = {"title": "loss is not a number", "level": "error"}
        assert bare.send("POST", "/alerts/a/one", alert).status == 200
    told = dialog.get_by_role("log", name="New alerts")
    expect(told).to_contain_text("loss is not a number")
    told.get_by_role("button", name="a/one", exact=True).click()
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("article", name="a/one")).to_be_visible()


def test_a_service_that_was_killed_and_is_back(unwatched: Visit, tmp_path: Path) -> None:
    page = unwatched.page
    with ExitStack() as first:
        service = first.enter_context(serving(Settings(data_dir=tmp_path / "data", port=0)))
        point(service, "a/one", 1)
        page.goto(f"{service.url}/?view=health&show=running")
        until_live(page)
        expect(page.locator("article")).to_have_count(1)
    status = page.get_by_role("status").filter(has_text="The service does not answer")
    expect(status).to_contain_text(re.compile(r"as of \d\d:\d\d:\d\d"))
    expect(status).to_contain_text(re.compile(r"Next try in \d+ s|Trying"))
    expect(page).to_have_title(re.compile("^Away: "))
    expect(page.locator("article")).to_have_count(1)  # what was shown stays
    unwatched.screenshot("dashboard-away")
    with serving(Settings(data_dir=tmp_path / "data", port=service.port)) as again:
        until_live(page)
        expect(status).to_have_count(0)
        expect(page).not_to_have_title(re.compile("Away"))
        point(again, "a/two", 1)
        expect(page.locator("article")).to_have_count(2)


def test_somebody_who_does_not_want_to_wait(unwatched: Visit, tmp_path: Path) -> None:
    page = unwatched.page
    with serving(Settings(data_dir=tmp_path / "data", port=0)) as service:
        point(service, "a/one", 1)
        page.goto(service.url)
        until_live(page)
    button = page.get_by_role("button", name="Try now")
    status = page.get_by_role("status").filter(has_text="The service does not answer")
    expect(status).to_contain_text(re.compile("Next try in [3-9] s"), timeout=RETRY_TIMEOUT_MS)
    with serving(Settings(data_dir=tmp_path / "data", port=service.port)):
        button.click()
        until_live(page, 2_500)

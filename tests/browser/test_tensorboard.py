"""The mounted TensorBoard in a real Chromium: its page is drawn from the store, and nothing on it fails."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import Visit, visiting
from tests.browser.pixels import coloured
from tests.conftest import StartService
from tests.service import RunningService
from tests.summary_kit import framed, write_every_kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TOKEN = "s3cret-token"
COLOURED_MIN = 150
"""Pixels of a colour that a chart with a curve has at least; axes, grid and labels are grey."""


def until_drawn(visit: Visit, place: Locator) -> None:
    """Return once there are curves in a chart."""
    place.scroll_into_view_if_needed()
    for _ in range(100):
        if coloured(place) >= COLOURED_MIN:
            return
        visit.page.wait_for_timeout(100)
    raise AssertionError(f"nothing is drawn; see {visit.screenshot('not-drawn')}")


@pytest.fixture(scope="module")
def filled(service: RunningService, tmp_path_factory: pytest.TempPathFactory) -> RunningService:
    """Three runs of a sweep, and one with summaries of every kind."""
    for number in range(3):
        run = f"sweep/r{number}"
        service.send("PUT", f"/runs/{run}", {"config": {"lr": 0.1 * (number + 1), "optimizer": "adam"}})
        reports = [
            {"step": step, "scalars": {"train/loss": (number + 1) * math.exp(-step / 20), "train/acc": step / 100}}
            for step in range(100)
        ]
        assert service.report(run, {"reports": reports}).status == 200
    body = framed(*write_every_kind(tmp_path_factory.mktemp("kinds") / "tensorboardx"))
    sent = service.request("POST", "/api/v1/events/kinds/all", body, {"Content-Type": "application/x-tfrecord"})
    assert sent.status == 200
    return service


def test_time_series_draws_every_curve(filled: RunningService, visit: Visit) -> None:
    visit.page.goto(f"{filled.url}/tensorboard/")
    for run in ("sweep/r0", "sweep/r1", "sweep/r2", "kinds/all"):
        expect(visit.page.get_by_text(run, exact=True).first).to_be_visible()
    card = visit.page.locator("scalar-card").first
    expect(card).to_contain_text("loss")
    until_drawn(visit, card.locator("line-chart"))
    visit.screenshot("timeseries")


def test_scalars_draws_every_curve(filled: RunningService, visit: Visit) -> None:
    visit.page.goto(f"{filled.url}/tensorboard/#scalars")
    cards = visit.page.locator("tf-scalar-card")
    expect(cards).to_have_count(3)
    for number in range(3):
        until_drawn(visit, cards.nth(number).locator("vz-line-chart2"))
    visit.screenshot("scalars")


def images(visit: Visit) -> None:
    pictures = visit.page.locator("tf-image-loader img")
    expect(pictures).to_have_count(2)
    for number in range(2):
        until_drawn(visit, pictures.nth(number))


def histograms(visit: Visit) -> None:
    until_drawn(visit, visit.page.locator("vz-histogram-timeseries"))


def distributions(visit: Visit) -> None:
    until_drawn(visit, visit.page.locator("vz-distribution-chart"))


def text(visit: Visit) -> None:
    expect(visit.page.locator("tf-text-loader")).to_contain_text("step 3 — ünï")


def pr_curves(visit: Visit) -> None:
    until_drawn(visit, visit.page.locator("tf-pr-curve-card vz-line-chart2"))


def custom_scalars(visit: Visit) -> None:
    until_drawn(visit, visit.page.locator("tf-custom-scalar-multi-line-chart-card vz-line-chart2"))


def hparams(visit: Visit) -> None:
    table = visit.page.locator("tf-hparams-table-view")
    for shown in ("sweep/r0", "sweep/r2", "lr", "optimizer", "adam", "0.30000", "train/acc", "0.99000"):
        expect(table.get_by_text(shown, exact=True).first).to_be_visible()


@pytest.mark.parametrize("check", [images, histograms, distributions, text, pr_curves, custom_scalars, hparams])
def test_other_tabs(filled: RunningService, visit: Visit, check: Callable[[Visit], None]) -> None:
    visit.page.goto(f"{filled.url}/tensorboard/#{check.__name__}")
    check(visit)
    visit.screenshot(check.__name__)


def test_a_new_point_is_there_at_the_next_reload_and_a_rewind_takes_points_away(
    service: RunningService, visit: Visit
) -> None:
    service.report("live/run", {"reports": [{"step": step, "scalars": {"live/loss": step}} for step in range(10)]})
    visit.page.goto(f"{service.url}/tensorboard/?runFilter=live#timeseries")
    card = visit.page.locator("scalar-card", has_text="live/loss")
    until_drawn(visit, card.locator("line-chart"))
    rows = card.locator("tb-data-table-content-row")
    expect(rows.first).to_contain_text("live/run")
    expect(rows.first).to_contain_text("9")
    reload = visit.page.get_by_role("button", name="Last Updated")
    service.report("live/run", {"step": 4711, "scalars": {"live/loss": 1.0}})
    reload.click()
    expect(rows.first).to_contain_text("4,711")
    service.send("POST", "/rewind/live/run", {"next_steps": {"global_step": 6}})
    reload.click()
    expect(rows.first).not_to_contain_text("4,711")
    visit.screenshot("after-rewind")


def test_a_browser_opens_it_after_it_gave_the_token(
    chromium: Browser, start_service: StartService, tmp_path: Path
) -> None:
    service = start_service(token=TOKEN, static=tmp_path / "nothing")
    service.report("a/b", {"reports": [{"step": step, "scalars": {"loss": step}} for step in range(10)]})
    with visiting(chromium) as visit:
        page = visit.page
        page.goto(f"{service.url}/tensorboard/")
        page.get_by_label("Token").fill("wrong")
        page.get_by_role("button").click()
        expect(page.get_by_role("alert")).to_contain_text("The token is wrong")
        visit.screenshot("login")
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button").click()
        until_drawn(visit, page.locator("scalar-card line-chart"))
        page.goto(service.url)
        page.get_by_role("link", name="TensorBoard").click()
        until_drawn(visit, page.locator("scalar-card line-chart"))
        page.goto(f"data:text/html,<a href='{service.url}/?x=1'>a link in a chat</a>")
        page.get_by_role("link").click()
        page.wait_for_url(f"{service.url}/?x=1")
        expect(page.get_by_role("link", name="TensorBoard")).to_be_visible()
        assert [fault for fault in visit.faults if "401" not in fault] == []
    with visiting(chromium) as visit:
        visit.page.goto(f"data:text/html,<a href='{service.url}'>a link in a chat</a>")
        visit.page.get_by_role("link").click()
        expect(visit.page.get_by_label("Token")).to_be_visible()
        assert visit.page.request.get(f"{service.url}/tensorboard/index.js").status == 401

"""The dashboard for people with tokens: who one is, what is offered, and what one is told that may not."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.access_kit import FOREIGN, OWN, Guarded, bearer, guarded
from tests.browser.conftest import Visit, visiting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120), pytest.mark.usefixtures("dashboard")]


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("data")) as found:
        found.service.headers |= bearer(found.whole["admin"])
        for run in (f"{OWN}/one", f"{OWN}/two", f"{FOREIGN}/three"):
            assert found.service.report(run, {"step": 1, "scalars": {"loss": 1.0}}).status == 200
        found.service.headers.clear()
        yield found


def log_in(visit: Visit, there: Guarded, token: str, view: str) -> None:
    visit.page.goto(f"{there.service.url}/{view}")
    visit.page.get_by_label("Token").fill(token)
    visit.page.get_by_role("button", name="Log in").click()
    expect(visit.page.get_by_role("button", name="Live", exact=True)).to_be_visible()


def test_who_may_only_look_is_offered_nothing_else(chromium: Browser, there: Guarded) -> None:
    with visiting(chromium) as visit:
        page = visit.page
        log_in(visit, there, there.own["read"], "?view=charts&all=1")
        expect(page.get_by_role("banner").first).to_contain_text("own-read · read · own")
        expect(page.locator("#runs")).to_contain_text("one")
        expect(page.locator("#runs")).not_to_contain_text("three")
        selected = page.get_by_role("group", name="Selected runs")
        expect(selected.get_by_role("button", name="Compare")).to_be_visible()
        expect(selected.get_by_role("button", name="Archive")).to_have_count(0)
        page.goto(f"{there.service.url}/?open={OWN}/one")
        details = page.get_by_role("dialog")
        expect(details).to_contain_text("Last heard of")
        for name in ("Edit", "Archive"):
            expect(details.get_by_role("button", name=name)).to_have_count(0)
        visit.screenshot("access-read")
        page.goto(f"{there.service.url}/?open={FOREIGN}/three")
        expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("is not in project 'own'")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
        page.go_back()
        page.reload()
        expect(page.get_by_label("Token")).to_be_visible()


def test_who_may_write_can_edit_until_the_token_may_not(chromium: Browser, there: Guarded) -> None:
    with visiting(chromium) as visit:
        page = visit.page
        log_in(visit, there, there.whole["write"], f"?open={OWN}/two")
        expect(page.get_by_role("banner").first).to_contain_text("all-write · write · all projects")
        details = page.get_by_role("dialog")
        details.get_by_role("button", name="Edit").click()
        details.get_by_label("Notes").fill("seen")
        refused = '{"code": "forbidden", "status": 403, "title": "", "detail": "this needs a token of scope write"}'
        page.route("**/api/v1/runs/**", lambda route: route.fulfill(
            status=403, content_type="application/problem+json", body=refused,
        ) if route.request.method == "PATCH" else route.continue_())  # fmt: skip
        details.get_by_role("button", name="Save").click()
        expect(page.get_by_text("could not be changed: this needs a token of scope write")).to_be_visible()
        page.unroute("**/api/v1/runs/**")
        details.get_by_role("button", name="Save").click()
        expect(details.get_by_role("button", name="Edit")).to_be_visible()
        expect(details).to_contain_text("seen")
    assert there.service.get(f"/runs/{OWN}/two", bearer(there.own["read"])).json()["notes"] == "seen"

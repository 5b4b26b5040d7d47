"""The API's documentation in a real Chromium: drawn under its policy, which lets nothing else run."""

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.service import RunningService

pytestmark = pytest.mark.timeout(120)


def test_the_page_is_drawn_and_its_policy_stops_nothing_of_it(service: RunningService, visit: Visit) -> None:
    visit.page.goto(f"{service.url}/docs")
    expect(visit.page.get_by_text("/api/v1/audit", exact=True)).to_be_visible()
    visit.page.get_by_text("/api/v1/audit", exact=True).click()
    expect(visit.page.get_by_role("button", name="Try it out")).to_be_visible()
    visit.screenshot("docs")


def test_what_is_put_into_it_does_not_run(service: RunningService, visit: Visit) -> None:
    visit.page.goto(f"{service.url}/docs")
    put_in = (
        "() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1'; "
        "document.body.append(script); return window.ran; }"
    )
    assert visit.page.evaluate(put_in) is None
    assert any("Content Security Policy" in fault for fault in visit.faults)
    visit.faults.clear()

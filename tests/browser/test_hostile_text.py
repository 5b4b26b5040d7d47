"""Everything that people and jobs may name, in every region, as text that would like to be more: it stays text.

Names of runs in the table, the comparison and the details are in test_dashboard_runs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Visit, visiting
from tests.conftest import StartService
from tests.service import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

TOKEN = "s3cret-token"
MARK = "data-hostile"
"""What elements have that came of a text."""
IMAGE = f"<img {MARK} src=x onerror=alert(1)>"
BROKEN_OUT = f"\"'></title></style></textarea><svg {MARK} onload=alert(1)>"
LINK = "javascript:alert(document.domain)"
MARKDOWN = f"[click]({LINK}) <a {MARK} href={LINK}>x</a>"
TEMPLATE = "{{constructor.constructor('alert(1)')()}} ${alert(1)} {@html '<b>'}"
BIDI = "\u202egnp.exe\u2066\u200f‮"
LONG = "w" * 120
TEXTS = [
    IMAGE,
    BROKEN_OUT,
    LINK,
    MARKDOWN,
    TEMPLATE,
    BIDI,
    LONG,
    '=HYPERLINK("http://198.51.100.7")',
    "__proto__",
    "constructor",
]
COUNTERS = [text.replace("=", "≠") for text in TEXTS]
"""A counter's name has no `=`."""
RUN = f"evil/{IMAGE.replace('/', '')}"
WATCHES = """
    window.violations = [];
    document.addEventListener('securitypolicyviolation', event => window.violations.push(
        event.violatedDirective + ' ' + event.blockedURI));
"""


@pytest.fixture(scope="module")
def haunted(dashboard: None, service: RunningService) -> RunningService:
    """A run of which everything that can be named is hostile: reported, refused, alerted, and shown."""
    pairs = {text: TEXTS[number - 1] for number, text in enumerate(TEXTS)}
    body: dict[str, Any] = {
        "config": pairs | {"nested": {IMAGE: pairs}}, "notes": "\n".join(TEXTS), "group": BROKEN_OUT,
        "tags": [text[:60] for text in TEXTS],
        "provenance": {"user": IMAGE, "host": MARKDOWN, "argv": TEXTS, "git": pairs},
        "counters": {name: {"total": 100} for name in COUNTERS},
    }  # fmt: skip
    for run in (RUN, f"{RUN}/{LONG}", f"evil/{BIDI}x"):
        sent = service.send("PUT", f"/runs/{quote(run)}?producer={quote(IMAGE)}", body)
        assert sent.status == 201, sent.body
        reports = [
            {"counter": counter, "step": step, "scalars": {f"{text}/{number}": step / 7 + number}}
            for number, (counter, text) in enumerate(zip(COUNTERS, TEXTS, strict=True))
            for step in range(6)
        ]
        again = [report | {"step": 2} for report in reports[:18]]
        sent = service.send(
            "POST", f"/scalars/{quote(run)}", {"reports": [*reports, *again], "partial": True, "summary": pairs}
        )
        assert sent.status == 200, sent.body
        assert sent.json()["refused_count"] > 0
        for level, text in zip(("info", "warn", "error", "error", "error"), TEXTS, strict=False):
            assert (
                service.send("POST", f"/alerts/{quote(run)}", {"title": text, "text": text, "level": level}).status
                == 200
            )
    changed = service.send("PATCH", f"/runs/{quote(RUN)}", {"display_name": IMAGE})
    assert changed.status == 200, changed.body
    return service


@contextmanager
def suspicious(chromium: Browser, service: RunningService, *, faults: bool = True) -> Iterator[Visit]:
    """A page on which no dialog opens, nothing is asked of others, no policy is violated, and no text is an element.

    faults: whether other complaints count, too.
    """
    with visiting(chromium) as visit:
        page, dialogs, elsewhere = visit.page, list[str](), list[str]()

        def heard(dialog: Any) -> None:
            dialogs.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", heard)
        page.on("request", lambda request: None if ours(request.url, service) else elsewhere.append(request.url))
        page.add_init_script(WATCHES)
        yield visit
        settled(page)
        assert dialogs == []
        assert elsewhere == []
        assert page.locator(f"[{MARK}]").count() == 0
        assert page.locator("a[href^='javascript:' i], form[action^='javascript:' i], iframe[srcdoc]").count() == 0
        if faults:
            assert page.evaluate("window.violations") == []
            assert not visit.faults


def ours(url: str, service: RunningService) -> bool:
    return url.startswith((f"{service.url}/", "data:", f"blob:{service.url}/"))


def settled(page: Page) -> None:
    """An image's error and a link's script come a turn later."""
    page.wait_for_load_state("load")
    page.evaluate("() => new Promise(done => setTimeout(done, 200))")


SELECTED = f"watch={quote(RUN, safe='')}&run={quote(RUN, safe='')}"
REGIONS = {
    "runs": "project=evil&columns=" + quote(",".join(["name", "group", "tags", "notes"])),
    "charts": "view=charts&project=evil&all=1",
    "charts-grouped": "view=charts&project=evil&all=1&group=run.group&spread=range",
    "sweep": "view=sweep&project=evil&all=1",
    "scatter": "view=sweep&plot=scatter&project=evil&all=1",
    "health": "view=health&project=evil&show=refused",
    "alerts": f"view=health&project=evil&show=alerts&{SELECTED}",
    "search": f"view=charts&project=evil&all=1&filter={quote(IMAGE)}&q={quote(BROKEN_OUT)}&zoom={quote(IMAGE)}",
    "nothing": f"project={quote(IMAGE)}&open={quote(BROKEN_OUT)}&sort={quote(LINK)}&columns={quote(TEMPLATE)}",
}


@pytest.mark.parametrize("region", [name for name in REGIONS if name not in ("search", "nothing")])
def test_every_region_shows_text_as_text(haunted: RunningService, chromium: Browser, region: str) -> None:
    with suspicious(chromium, haunted) as visit:
        visit.page.goto(f"{haunted.url}/?{REGIONS[region]}")
        expect(visit.page.get_by_role("button", name="Live", exact=True)).to_be_visible()
        expect(visit.page.locator("main").get_by_text(f"{MARK}", exact=False).first).to_be_attached()
        for button in visit.page.get_by_role("button", name="Details of").all()[:3]:
            button.click()
        visit.screenshot(f"hostile-{region}")


@pytest.mark.parametrize("region", ["search", "nothing"])
def test_addresses_that_others_wrote_do_no_harm(haunted: RunningService, chromium: Browser, region: str) -> None:
    """The service says that it does not understand them; nothing else may come of it."""
    with suspicious(chromium, haunted, faults=False) as visit:
        visit.page.goto(f"{haunted.url}/?{REGIONS[region]}")
        expect(visit.page.get_by_role("button", name="Live", exact=True)).to_be_visible()
        settled(visit.page)
        assert visit.page.evaluate("window.violations") == []
        assert all(fault.startswith(("4", "Failed to load resource")) for fault in visit.faults), visit.faults


def test_an_open_run_and_its_charts_show_text_as_text(haunted: RunningService, chromium: Browser) -> None:
    with suspicious(chromium, haunted) as visit:
        page = visit.page
        page.goto(f"{haunted.url}/?project=evil&open={quote(RUN, safe='')}")
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        expect(dialog.get_by_text(IMAGE, exact=False).first).to_be_visible()
        expect(dialog.get_by_text(MARKDOWN, exact=False).first).to_be_attached()
        expect(dialog.get_by_text(TEMPLATE, exact=False).first).to_be_attached()
        visit.screenshot("hostile-details")


def test_the_documentation_and_tensorboard_show_text_as_text(haunted: RunningService, chromium: Browser) -> None:
    with suspicious(chromium, haunted, faults=False) as visit:
        visit.page.goto(f"{haunted.url}/docs?{quote(IMAGE)}#{quote(BROKEN_OUT)}")
        expect(visit.page.get_by_text("/api/v1/scalars/{run}").first).to_be_visible()
    with suspicious(chromium, haunted, faults=False) as visit:
        visit.page.goto(f"{haunted.url}/tensorboard/#timeseries")
        expect(visit.page.get_by_text(MARK, exact=False).first).to_be_visible()
        expect(visit.page.locator("scalar-card").first).to_be_attached()
        visit.screenshot("hostile-timeseries")
        for tab in ("scalars", "hparams"):
            visit.page.goto(f"{haunted.url}/tensorboard/#{tab}")
            expect(visit.page.get_by_text("onerror", exact=False).first).to_be_attached()
        visit.screenshot("hostile-hparams")


NEXTS = [
    LINK, "//198.51.100.7/", "https://198.51.100.7/", "/\\198.51.100.7", "\\\\198.51.100.7", "..//198.51.100.7",
    "docs/../..//198.51.100.7", "\t//198.51.100.7", "https:198.51.100.7", f"?project={IMAGE}", f"?{BROKEN_OUT}",
    f"docs{BROKEN_OUT}", "data:text/html,x", "%2f%2f198.51.100.7",
]  # fmt: skip


def test_wherever_a_login_is_to_lead_it_leads_nowhere_else(start_service: StartService, chromium: Browser) -> None:
    service = start_service(token=TOKEN)
    for then in NEXTS:
        with suspicious(chromium, service, faults=False) as visit:
            page = visit.page
            page.goto(f"{service.url}/login?next={quote(then, safe='')}")
            page.get_by_label("Token").fill(TOKEN)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(lambda url: "/login" not in url)
            assert page.url.startswith(f"{service.url}/"), then
            assert page.url.partition("?")[0] in (f"{service.url}/", f"{service.url}/docs"), (then, page.url)

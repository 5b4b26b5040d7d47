"""The dashboard's runs in a real Chromium: tree, filter, table, selection, comparison, details, archive."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, quote, urlparse

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import PHONE, Visit, visiting
from tests.service import RunningService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RUNS = 24
RANKS = 4
MANY = 1_000
HOSTILE = [
    "hostile/<img src=x onerror=document.title='owned'>",
    'hostile/"><script>document.title="owned"</script>',
    "hostile/${alert(1)} & <b>bold</b> \u202egnp.exe",
]


@pytest.fixture(scope="module")
def library(dashboard: None, service: RunningService) -> RunningService:
    """Runs of two projects with config and a loss, one of them with ranks; failed, running and finished ones."""
    for number in range(RUNS):
        run = f"{'mnist/sweep' if number % 2 else 'gan'}/r{number:02}"
        config = {
            "lr": 10.0 ** -(number % 4),
            "net": {"depth": number % 3},
            "opt": "sgd" if number % 4 == 3 else "adam",
        }
        service.send("PUT", f"/runs/{run}", {"config": config, "provenance": {"user": "ada"}})
        losses = [{"step": step, "scalars": {"loss": (number + 1) / (step + 1)}} for step in range(5)]
        assert service.report(run, {"reports": losses}).status == 200
        if number % 3:
            service.send("PATCH", f"/runs/{run}", {"status": "failed" if number % 3 == 1 else "finished"})
    for rank in range(RANKS):
        service.send("PUT", f"/runs/mnist/sweep/r01/rank{rank:02}", {"config": {"rank": rank}})
    return service


def grid(page: Page) -> Locator:
    """The table."""
    return page.get_by_role("treegrid", name="Runs")


def lines(page: Page) -> Locator:
    """Runs that are drawn, without the head."""
    return grid(page).locator("[aria-level]")


def line(page: Page, run: str) -> Locator:
    """A run's line."""
    return lines(page).filter(has=page.get_by_label(f"Select {run}", exact=True))


def names(page: Page) -> list[str]:
    """The runs that are drawn, in their order."""
    labels = lines(page).get_by_role("checkbox").evaluate_all("boxes => boxes.map(box => box.ariaLabel)")
    return [label.removeprefix("Select ") for label in labels]


def count(page: Page, runs: int) -> None:
    """Wait until the table has so many lines."""
    expect(grid(page)).to_have_attribute("aria-rowcount", str(runs + 1))


def filtered(page: Page, text: str) -> None:
    box = page.get_by_role("combobox", name="Filter of runs")
    box.fill(text)
    box.press("Enter")


def in_url(page: Page, **wanted: list[str]) -> None:
    """Wait until the address says so; it is written a little later."""
    for _ in range(100):
        query = parse_qs(urlparse(page.url).query)
        if all(query.get(name) == values for name, values in wanted.items()):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not {wanted}: {page.url}")


def head(page: Page, column: str) -> Locator:
    return grid(page).get_by_role("columnheader").filter(has_text=re.compile(f"^{column}"))


def test_the_tree_chooses_a_project(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(library.url)
    count(page, RUNS)
    tree = page.get_by_role("tree", name="Projects")
    expect(tree.get_by_role("treeitem")).to_have_text([re.compile(r"All projects\s*24"), re.compile(r"gan\s*12"),
                                                       re.compile(r"mnist\s*12")])  # fmt: skip
    tree.get_by_role("treeitem", name="All projects").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(tree.get_by_role("treeitem", name="sweep")).to_have_attribute("aria-selected", "true")
    count(page, RUNS // 2)
    assert all(name.startswith("mnist/sweep/") for name in names(page))
    in_url(page, project=["mnist/sweep"])
    page.reload()
    expect(tree.get_by_role("treeitem", name="sweep")).to_have_attribute("aria-selected", "true")


def test_a_filter_finds_runs_and_a_wrong_one_shows_where(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(library.url)
    count(page, RUNS)
    filtered(page, "config.lr < 0.05 and config.opt = 'adam'")
    count(page, RUNS // 4)
    filtered(page, "config.lr < 0.05 and nonsense > 3")
    wrong = page.get_by_role("alert")
    expect(wrong).to_contain_text("There is no column 'nonsense'")
    expect(wrong.locator("mark")).to_have_text("nonsense")
    count(page, RUNS // 4)
    visit.screenshot("runs-filter-wrong")
    filtered(page, "r07")
    page.get_by_role("button", name="Look for it in names").click()
    count(page, 1)
    assert names(page) == ["mnist/sweep/r07"]
    in_url(page, filter=['name ~ "r07"'])
    filtered(page, "")
    count(page, RUNS)
    visit.faults[:] = [fault for fault in visit.faults if "422" not in fault]


def test_columns_and_values_are_suggested_to_the_keyboard(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(library.url)
    box = page.get_by_role("combobox", name="Filter of runs")
    box.click()
    box.press_sequentially("config.op")
    expect(page.get_by_role("option", name="config.opt")).to_be_visible()
    box.press("ArrowDown")
    box.press("Enter")
    box.press_sequentially("= ")
    offered = page.get_by_role("listbox", name="Suggestions").get_by_role("option")
    expect(offered).to_have_text([re.compile('"adam"'), re.compile('"sgd"')])
    visit.screenshot("runs-suggestions")
    box.press("ArrowUp")
    box.press("Enter")
    expect(box).to_have_value('config.opt = "sgd" ')
    box.press("Escape")
    box.press("Enter")
    count(page, RUNS // 4)
    visit.faults[:] = [fault for fault in visit.faults if "422" not in fault]  # what was half typed


def test_heads_order_move_and_widen(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?columns=config.lr&columns=last.loss&columns=status&panel=700")
    count(page, RUNS)
    head(page, "loss").get_by_role("button").click()
    expect(head(page, "loss")).to_have_attribute("aria-sort", "ascending")
    expect(lines(page).first).to_contain_text("r00")
    head(page, "loss").get_by_role("button").click()
    expect(head(page, "loss")).to_have_attribute("aria-sort", "descending")
    expect(lines(page).first).to_contain_text("r23")
    head(page, "lr").get_by_role("button").click()
    head(page, "loss").get_by_role("button").click(modifiers=["Shift"])
    in_url(page, sort=["config.lr,last.loss"])
    expect(lines(page).first).to_contain_text("r03")
    head(page, "lr").get_by_role("button").press("Alt+ArrowRight")
    in_url(page, columns=["last.loss", "config.lr", "status"])
    before = head(page, "lr").bounding_box()
    head(page, "lr").get_by_role("button").press("Alt+Shift+ArrowRight")
    after = head(page, "lr").bounding_box()
    assert before is not None
    assert after is not None
    assert after["width"] == before["width"] + 16
    visit.screenshot("runs-sorted")


def test_columns_are_chosen(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?columns=status&table=wide&sort=name")
    page.get_by_role("button", name="Columns").click()
    chooser = page.get_by_role("dialog", name="Columns")
    chooser.get_by_label("Search columns").fill("loss")
    chooser.get_by_label("Figure of tags").select_option("min")
    chooser.get_by_role("checkbox", name="loss").check()
    chooser.get_by_label("Search columns").fill("global_step")
    expect(chooser.get_by_text("24", exact=True)).to_be_visible()
    chooser.get_by_role("checkbox", name="global_step").check()
    chooser.get_by_label("Tag A").fill("loss")
    chooser.get_by_label("Best is").select_option("at_max")
    chooser.get_by_label("Tag B").fill("loss")
    chooser.get_by_role("button", name="Add").click()
    visit.screenshot("runs-columns")
    page.keyboard.press("Escape")
    expect(chooser).to_be_hidden()
    in_url(page, columns=["status", "min.loss", "counters.global_step", "at_max(loss, loss)"])
    expect(line(page, "gan/r00").get_by_role("gridcell")).to_have_text(["running", "0.2", "4", "1"])
    visit.screenshot("runs-wide")


def test_runs_are_selected_one_by_one_in_ranges_and_all(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?sort=name")
    count(page, RUNS)
    bar = page.get_by_role("group", name="Selected runs")
    box = page.get_by_label
    box("Select gan/r02", exact=True).click()
    box("Select gan/r08", exact=True).click(modifiers=["Shift"])
    expect(bar).to_contain_text("4 selected")
    in_url(page, run=["gan/r02", "gan/r04", "gan/r06", "gan/r08"])
    page.get_by_label("Select all runs that the filter finds").click()
    expect(bar).to_contain_text("All of the filter: 28")
    box("Select gan/r04", exact=True).click()
    expect(bar).to_contain_text("All but 1 of the filter: 27")
    in_url(page, all=["1"])
    in_url(page, but=["gan/r04"])
    bar.get_by_role("button", name="Clear").click()
    expect(bar).to_contain_text("28 runs")
    grid(page).focus()
    for key in ("Home", "Space", "Shift+ArrowDown", "Shift+ArrowDown"):
        page.keyboard.press(key)
    in_url(page, run=["gan/r00", "gan/r02", "gan/r04"])
    expect(grid(page)).to_have_attribute("aria-activedescendant", "line-2")
    expect(page.locator("#line-2")).to_have_attribute("aria-selected", "true")


def test_a_colour_is_chosen_stays_and_is_reset(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?sort=name")
    swatch = page.get_by_role("button", name="Colour of gan/r02")
    shown = swatch.locator("span")
    own = shown.evaluate("e => getComputedStyle(e).backgroundColor")
    swatch.click()
    visit.screenshot("runs-colours")
    page.get_by_role("button", name="Colour 3 of 20").click()
    chosen = shown.evaluate("e => getComputedStyle(e).backgroundColor")
    assert chosen != own
    page.wait_for_url(re.compile("colour="))
    page.reload()
    expect(shown).to_have_css("background-color", chosen)
    swatch.click()
    page.get_by_role("button", name="Reset").click()
    expect(shown).to_have_css("background-color", own)


def test_configs_stand_side_by_side_with_what_differs_first(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{library.url}/?sort=name&run=gan/r00&run=gan/r02&run=gan/r04")
    page.get_by_role("button", name="Compare").click()
    dialog = page.get_by_role("dialog", name="Configs of 3 runs")
    wanted = ("2 of 3 keys differ", r"lr.*1.*0\.01.*1", r"net\.depth.*0.*2.*1", r"1\s+key is the same")
    expect(dialog.get_by_role("row")).to_have_text([re.compile(text, re.DOTALL) for text in wanted])
    expect(dialog.locator("td.odd")).to_have_text(["0.01"])
    visit.screenshot("runs-compare")
    dialog.get_by_role("button", name="1 key is the same").click()
    expect(dialog.get_by_role("row").last).to_contain_text("adam")
    dialog.get_by_role("button", name="Copy Markdown").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.splitlines()[2] == "| **lr** | 1 | 0.01 | 1 |"
    in_url(page, compare=["1"])
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_runs_are_archived_and_brought_back(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?sort=name&run=gan/r10&run=gan/r12")
    count(page, RUNS)
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.get_by_text("2 runs archived.")).to_be_visible()
    count(page, RUNS - 2)
    assert library.get("/runs/gan/r10").json()["archived"] is True
    visit.screenshot("runs-archived")
    page.get_by_label("Archived").check()
    count(page, RUNS)
    expect(line(page, "gan/r10")).to_contain_text("archived")
    page.get_by_label("Archived").uncheck()
    page.get_by_role("button", name="Undo").click()
    count(page, RUNS)
    in_url(page, run=["gan/r10", "gan/r12"])
    assert library.get("/runs/gan/r10").json()["archived"] is False


def test_ranks_are_below_their_run(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?sort=name&project=mnist")
    count(page, RUNS // 2)
    page.get_by_role("button", name=f"{RANKS} ranks").click()
    count(page, RUNS // 2 + RANKS)
    assert names(page)[:3] == ["mnist/sweep/r01", "mnist/sweep/r01/rank00", "mnist/sweep/r01/rank01"]
    expect(line(page, "mnist/sweep/r01/rank00")).to_have_attribute("aria-level", "2")
    visit.screenshot("runs-ranks")
    in_url(page, ranks=["mnist/sweep/r01"])
    grid(page).focus()
    for key in ("Home", "ArrowLeft"):
        page.keyboard.press(key)
    count(page, RUNS // 2)


def test_runs_stand_in_groups_that_feed_the_charts(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?sort=name&columns=config.opt")
    page.locator("#runs").get_by_label("Group").focus()
    page.locator("#runs").get_by_label("Group").select_option("opt")
    count(page, RUNS + 2)
    in_url(page, rows=["opt"], group=["opt"])
    expect(lines(page).first).to_contain_text(re.compile(r"opt\s*adam\s*18 runs"))
    page.get_by_role("checkbox", name="Select the group adam").click()
    expect(page.get_by_role("group", name="Selected runs")).to_contain_text("18 selected")
    lines(page).first.get_by_role("button", name="Fold up").click()
    count(page, RUNS // 4 + 2)
    visit.screenshot("runs-groups")


def test_details_are_linked_edited_and_undone(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?sort=name")
    page.get_by_role("button", name="gan/r06", exact=True).click()
    in_url(page, open=["gan/r06"])
    page.reload()
    details = page.get_by_role("dialog", name="gan/r06")
    for told in ("global_step", "net.depth", "0.01", "user", "ada"):
        expect(details.get_by_text(told, exact=True).first).to_be_visible()
    details.get_by_role("button", name="Edit").click()
    details.get_by_label("Display name").fill("The best one")
    details.get_by_label("Tags").fill("baseline, paper")
    details.get_by_label("Notes").fill("<b>not bold</b>")
    details.get_by_role("button", name="Save").click()
    named = page.get_by_role("dialog", name="The best one")
    expect(named.get_by_text("<b>not bold</b>")).to_be_visible()
    expect(named.get_by_text("baseline, paper")).to_be_visible()
    visit.screenshot("runs-details")
    expect(named.get_by_role("status").get_by_role("button", name="Undo")).to_be_visible()  # what lies below is inert
    named.get_by_role("button", name="Close").click()
    expect(line(page, "gan/r06")).to_contain_text("The best one")
    page.get_by_role("button", name="Undo").click()
    expect(line(page, "gan/r06")).to_contain_text("gan/r06")
    run = library.get("/runs/gan/r06").json()
    assert (run["display_name"], run["tags"], run["notes"]) == (None, [], None)


def test_what_is_reported_shows_without_loading_the_table_again(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(f"{library.url}/?sort=-last.loss&columns=last.loss&project=gan")
    count(page, RUNS // 2)
    expect(lines(page).first).to_contain_text("r22")
    expect(page.get_by_role("button", name="Live", exact=True)).to_be_visible()
    page.wait_for_timeout(1_500)  # the connection's first word makes it ask for everything once
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/runs?" in request.url else None)
    library.report("gan/r04", {"step": 50, "scalars": {"loss": 99.0}})
    expect(lines(page).first).to_contain_text("r04")
    expect(lines(page).first).to_contain_text("99")
    tables = [url for url in asked if "last.loss" in url]
    assert tables
    assert all("run=gan%2Fr04" in url for url in tables)


def test_hostile_names_are_text(library: RunningService, visit: Visit) -> None:
    page = visit.page
    for number, name in enumerate(HOSTILE):
        body: dict[str, Any] = {"config": {"<i>key</i>": f"<u>{number}</u>"}, "notes": "<script>1</script>"}
        sent = library.send("PUT", f"/runs/{quote(name)}", body)
        assert sent.status == 201, sent.body
    page.goto(f'{library.url}/?project=hostile&sort=name&columns=config."<i>key</i>"')
    count(page, len(HOSTILE))
    assert set(names(page)) == set(HOSTILE)
    expect(grid(page).get_by_text("<u>0</u>")).to_be_visible()
    page.get_by_label("Select all runs that the filter finds").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("dialog").get_by_text("<i>key</i>")).to_be_visible()
    visit.screenshot("runs-hostile")
    page.keyboard.press("Escape")
    line(page, HOSTILE[0]).locator(".open").click()
    expect(page.get_by_role("dialog").get_by_role("heading", name=HOSTILE[0])).to_be_visible()
    assert page.title() != "owned"
    assert page.locator("img, b, i, u, main script").count() == 0
    for name in HOSTILE:
        library.request("DELETE", f"/api/v1/runs/{quote(name)}")


def test_a_thousand_runs_are_a_few_dozen_elements(dashboard: None, service: RunningService, visit: Visit) -> None:
    page = visit.page
    for number in range(MANY):
        service.send("PUT", f"/runs/many/r{number:04}", {"config": {"number": number}})
    page.goto(f"{service.url}/?project=many&sort=name&columns=config.number&columns=status")
    count(page, MANY)
    drawn = lines(page).count()
    assert 20 <= drawn <= 70
    expect(lines(page).first).to_contain_text("r0000")
    table = grid(page)
    for _ in range(30):
        table.hover()
        page.mouse.wheel(0, 2_000)
    expect(lines(page).last).to_contain_text("r0999")
    assert lines(page).count() <= 70
    table.focus()
    page.keyboard.press("Home")
    page.keyboard.press("End")
    expect(page.locator("#line-999")).to_be_visible()
    expect(table).to_have_attribute("aria-activedescendant", "line-999")
    visit.screenshot("runs-thousand")


@pytest.fixture
def phone(chromium: Browser) -> Iterator[Visit]:
    with visiting(chromium, viewport=PHONE, color_scheme="dark", has_touch=True) as found:
        yield found
        assert not found.faults


def test_on_a_phone_runs_are_a_drawer(library: RunningService, phone: Visit) -> None:
    page = phone.page
    page.goto(f"{library.url}/?sort=name")
    expect(grid(page)).to_be_hidden()
    page.get_by_role("button", name="Runs", exact=True).click()
    expect(grid(page)).to_be_visible()
    page.get_by_label("Select gan/r00", exact=True).check()
    phone.screenshot("runs-phone")
    page.keyboard.press("Escape")
    expect(grid(page)).to_be_hidden()
    in_url(page, run=["gan/r00"])


def test_the_panel_is_made_wider_by_arrows(library: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(library.url)
    panel, edge = (
        page.get_by_role("complementary", name="Runs"),
        page.get_by_role("separator", name="Width of the runs"),
    )
    edge.press("ArrowRight")
    expect(panel).to_have_css("width", "424px")
    in_url(page, panel=["424"])
    edge.press("Enter")
    expect(panel).to_have_css("width", "400px")
    page.get_by_role("button", name="Table on the whole page").click()
    expect(page.get_by_role("main")).to_be_hidden()
    expect(panel).to_have_css("width", "1400px")

"""The dashboard's charts in a real Chromium, on a real service: what is drawn, asked for, and kept in the address."""

import csv
import io
import math
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Request, expect

from tallyboard_server.settings import Settings
from tests.browser.conftest import Visit, visiting
from tests.service import RunningService, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RUNS: Final = ("sweep/r0", "sweep/r1", "sweep/r2", "sweep/r3")
POINTS: Final = 3_000
SPIKE: Final = 1_717
BEGIN_S: Final = 1_750_000_000.0


def loss(run: int, step: int) -> float | str:
    """A decay; the first run has a spike, the last one NaN and ±Inf at its end."""
    if run == 3 and step > POINTS - 30:
        return ("NaN", "Infinity", "-Infinity")[step % 3]
    return 40.0 if (run, step) == (0, SPIKE) else (run + 1) * math.exp(-step / 900)


def fill(service: RunningService) -> None:
    """Four runs of two learning rates, with ranks of another; one was rewound; two counters; a text beside scalars."""
    for number, run in enumerate(RUNS):
        service.send("PUT", f"/runs/{run}", {"config": {"lr": 0.1 if number < 2 else 0.2}})
        reports: list[dict[str, Any]] = [
            {
                "step": step,
                "wall_time": BEGIN_S + step,
                "at": {"epoch": step // 300},
                "scalars": {"train/loss": loss(number, step), "train/acc": step / POINTS, "lr": 0.1},
            }
            for step in range(1, POINTS + 1)
        ]
        assert service.report(run, {"reports": reports}).status == 200
        epochs = [
            {
                "counter": "epoch",
                "step": epoch,
                "wall_time": BEGIN_S + 300 * epoch,
                "scalars": {"val/loss": 3 - epoch / 5},
            }
            for epoch in range(1, 11)
        ]
        assert service.report(run, {"reports": epochs}).status == 200
    service.send("PATCH", "/runs/sweep/r1", {"display_name": "the second"})
    service.send("POST", "/rewind/sweep/r2", {"next_steps": {"global_step": 2_001}})
    again = [
        {"step": step, "wall_time": BEGIN_S + 9_000 + step, "scalars": {"train/loss": 0.5}}
        for step in range(2_001, 2_101)
    ]
    assert service.report("sweep/r2", {"reports": again}).status == 200
    for rank in range(4):
        ranked = [{"step": step, "scalars": {"train/loss": rank + step / 100}} for step in range(100)]
        assert service.report(f"ranked/a/rank{rank:02}", {"reports": ranked}).status == 200
    odd = [
        {"step": step, "scalars": {"only/nan": "NaN"} | ({"only/one": 5.0} if step == 3 else {})} for step in range(9)
    ]
    assert service.report("odd/run", {"reports": odd}).status == 200


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data"), port=0)) as service:
        fill(service)
        yield service


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    with visiting(chromium) as found:
        yield found
        assert not found.faults


def address(service: RunningService, query: str = "", runs: tuple[str, ...] = RUNS) -> str:
    """The page with some runs selected."""
    return f"{service.url}/?{'&'.join([f'run={run}' for run in runs] + ([query] if query else []))}"


def chart(page: Page, tag: str) -> Locator:
    """A tag's chart, once its curves are there."""
    found = page.locator(f"article[data-tag='{tag}']")
    expect(found).to_have_attribute("aria-busy", "false")
    return found


def area(card: Locator) -> tuple[float, float, float, float]:
    """Where a chart's curves are: left, top, width and height."""
    box = card.locator(".u-over").bounding_box()
    assert box is not None
    return box["x"], box["y"], box["width"], box["height"]


def drag(page: Page, card: Locator, begin: float, end: float, *, upright: bool = False) -> None:
    """Drag over shares of a chart's width, or (upright, with Shift) of its height."""
    left, top, width, height = area(card)
    if upright:
        page.keyboard.down("Shift")
        page.mouse.move(left + width / 2, top + height * begin)
        page.mouse.down()
        page.mouse.move(left + width / 2, top + height * end, steps=4)
        page.mouse.up()
        page.keyboard.up("Shift")
        return
    page.mouse.move(left + width * begin, top + height / 2)
    page.mouse.down()
    page.mouse.move(left + width * end, top + height / 2, steps=4)
    page.mouse.up()


def asked(request: Request) -> Any:
    """A question, and the answer to it."""
    response = request.response()
    assert response is not None
    assert response.status == 200
    return request.post_data_json, msgspec.msgpack.decode(response.body())


def view(page: Page, name: str) -> list[str]:
    """What the address says of a parameter."""
    return parse_qs(urlsplit(page.url).query).get(name, [])


def is_about(tag: str, **fields: Any) -> Any:
    """Whether a request is a question about a tag with these fields (… : any value)."""

    def check(request: Request) -> bool:
        if not request.url.endswith("/api/v1/query"):
            return False
        body: Any = request.post_data_json
        known = all(name in body and (value is ... or body[name] == value) for name, value in fields.items())
        return bool(body["tags"] == [tag] and known)

    return check


def colours(card: Locator) -> int:
    """How many pixels of a chart are coloured."""
    picture = Image.open(io.BytesIO(card.locator(".plot").screenshot())).convert("HSV")
    return int(np.count_nonzero(np.asarray(picture.getchannel("S")) > 60))


def until_coloured(page: Page, card: Locator, least: int = 100) -> None:
    """Return once there are curves in a chart."""
    for _ in range(100):
        if colours(card) >= least:
            return
        page.wait_for_timeout(50)
    raise AssertionError("nothing is drawn")


def test_every_tag_has_a_chart_by_groups_that_fold(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    for tag in ("train/acc", "train/loss", "val/loss", "lr"):
        chart(page, tag)
        until_coloured(page, chart(page, tag))
    sections = page.locator("main section")
    assert [section.get_attribute("aria-label") for section in sections.all()] == ["train", "val", "Other"]
    expect(chart(page, "val/loss").get_by_text("epoch", exact=True)).to_be_visible()
    visit.screenshot("charts")
    page.get_by_role("button", name="train").click()
    expect(page.locator("article[data-tag='train/loss']")).to_have_count(0)
    expect(page).to_have_url(re.compile("fold=train"))
    page.reload()
    chart(page, "val/loss")
    expect(page.locator("article[data-tag='train/loss']")).to_have_count(0)


def test_a_zoom_asks_for_detail_and_is_undone_by_a_double_click(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    card = chart(page, "train/loss")
    with page.expect_request(is_about("train/loss", **{"from": ..., "to": ...})) as request:
        drag(page, card, 0.55, 0.6)
    body, found = asked(request.value)
    assert POINTS * 0.52 < body["from"] < SPIKE < body["to"] < POINTS * 0.63
    assert [series.get("merged", False) for series in found["series"]] == [False] * 4, "single points, not buckets"
    chart(page, "train/loss")
    expect(page).to_have_url(re.compile("zoom="))
    low, high, axis = view(page, "zoom")[0].split("~")
    assert (math.floor(float(low)), math.ceil(float(high)), axis) == (body["from"], body["to"], "global_step")
    left, top, width, height = area(card)
    share = (SPIKE - float(low)) / (float(high) - float(low))
    page.mouse.move(left + width * share, top + height / 2)
    expect(card.locator(".readings").get_by_text("40", exact=True)).to_be_visible()
    visit.screenshot("charts-zoom")
    card.locator(".u-over").dblclick()  # in its middle, where readings would cover it
    expect(page).not_to_have_url(re.compile("zoom="))


def test_a_zoom_is_shared_along_the_axis_or_of_one_chart_alone(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    with page.expect_request(is_about("train/acc", **{"from": ...})):
        drag(page, chart(page, "train/loss"), 0.2, 0.4)
    chart(page, "val/loss")  # along another counter
    expect(page.locator("article[data-tag='val/loss']").get_by_label("Show all")).to_have_count(0)
    page.goto(address(filled, "alone=1"))
    with page.expect_request(is_about("train/loss", **{"from": ...})):
        drag(page, chart(page, "train/loss"), 0.2, 0.4)
    expect(page).to_have_url(re.compile("ownzoom="))
    assert view(page, "ownzoom")[0].endswith("~train/loss")
    expect(page.locator("article[data-tag='train/acc']").get_by_label("Show all")).to_have_count(0)
    drag(page, chart(page, "train/loss"), 0.2, 0.7, upright=True)
    expect(page).to_have_url(re.compile("height="))
    chart(page, "train/loss").hover()
    page.locator("article[data-tag='train/loss']").get_by_label("Show all").click()
    expect(page).not_to_have_url(re.compile("height=|ownzoom="))


def test_x_can_be_time_or_any_counter(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    chart(page, "train/loss")
    for label, value in (("Relative time", "relative"), ("Wall time", "wall_time"), ("epoch", "epoch")):
        with page.expect_request(is_about("train/loss", x=value)) as request:
            page.get_by_label("x axis").select_option(label=label)
        assert asked(request.value)[1]["x"] == value
        chart(page, "train/loss")
        expect(page).to_have_url(re.compile(f"x={value}"))
        until_coloured(page, chart(page, "train/loss"))
    left, top, width, height = area(chart(page, "train/loss"))
    page.mouse.move(left + width * 0.5, top + height / 2)
    expect(chart(page, "train/loss").locator(".readings")).to_contain_text("epoch 5")
    expect(chart(page, "val/loss").locator(".readings")).to_contain_text("epoch 5")
    visit.screenshot("charts-epoch")


def test_one_cursor_in_all_charts_along_the_axis(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    card, other = chart(page, "train/loss"), chart(page, "train/acc")
    left, top, width, height = area(card)
    page.mouse.move(left + width * 0.25, top + height / 2)
    expect(card.locator(".readings tr")).to_have_count(4)
    expect(card.locator(".readings")).to_contain_text("the second")
    expect(other.locator(".readings tr")).to_have_count(4)
    expect(chart(page, "val/loss").locator(".readings")).to_have_count(0)
    page.mouse.click(left + width * 0.25, top + height / 2)
    page.mouse.move(2, 2)
    expect(card.locator(".readings.pinned")).to_contain_text("points")
    visit.screenshot("charts-cursor")
    page.keyboard.press("Escape")
    expect(page.locator(".readings")).to_have_count(0)


def test_smoothing_log_outliers_and_size_are_in_the_address(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    card = chart(page, "train/loss")
    expect(card).to_contain_text("values above the range")
    page.get_by_label("Smoothing as a number").fill("0.6")
    page.get_by_label("Smoothing as a number").press("Enter")
    expect(page).to_have_url(re.compile(r"smooth=0\.6"))
    page.get_by_role("button", name="Outliers").click()
    expect(card).not_to_contain_text("values above the range")
    page.get_by_role("button", name="log y").click()
    expect(page).to_have_url(re.compile("y=log"))
    page.get_by_role("button", name="large charts").click()
    expect(page).to_have_url(re.compile("size=large"))
    visit.screenshot("charts-smooth-log")
    page.reload()
    expect(page.get_by_role("button", name="log y")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Smoothing as a number")).to_have_value("0.6")


def test_a_search_finds_by_regular_expression_and_says_what_is_wrong_with_one(
    filled: RunningService, visit: Visit
) -> None:
    page = visit.page
    page.goto(address(filled))
    chart(page, "train/acc")
    page.keyboard.press("/")
    box = page.get_by_label("Search tags by a regular expression")
    expect(box).to_be_focused()
    box.fill("(loss|nothing)$")
    expect(page.locator("article")).to_have_count(2)
    expect(page).to_have_url(re.compile("tags="))
    box.fill("(loss")
    expect(page.get_by_role("alert")).to_contain_text("Unterminated group")
    expect(page.locator("article")).to_have_count(2)
    box.fill("zzz")
    expect(page.get_by_text("None of 4 tags matches")).to_be_visible()


def test_pinned_charts_stand_on_top_in_the_order_of_pinning(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    for tag in ("val/loss", "train/acc"):
        chart(page, tag).hover()
        chart(page, tag).get_by_label("Pin").click()
    expect(page).to_have_url(re.compile("pin=val.*pin=train"))
    page.reload()
    pinned = page.get_by_label("Pinned", exact=True).locator("article")
    expect(pinned).to_have_count(2)
    assert [card.get_attribute("data-tag") for card in pinned.all()] == ["val/loss", "train/acc"]
    expect(page.locator("article[data-tag='val/loss']")).to_have_count(1)


def test_full_screen_has_the_figures_of_every_run(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    chart(page, "train/loss").hover()
    chart(page, "train/loss").get_by_label("Full screen").click()
    dialog = page.get_by_role("dialog", name="train/loss")
    expect(dialog.locator("article")).to_have_attribute("aria-busy", "false")
    expect(dialog.locator("tbody tr")).to_have_count(4)
    row = dialog.locator("tbody tr", has_text="r0")
    expect(row.locator("td").nth(3)).to_have_text("40")
    expect(row.locator("td").nth(4)).to_have_text("3,000")
    visit.screenshot("charts-full")
    expect(page).to_have_url(re.compile("full=train"))
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page).not_to_have_url(re.compile("full="))


def test_a_table_holds_what_the_service_answers(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled, f"zoom={SPIKE - 10}~{SPIKE + 10}~global_step"))
    card = chart(page, "train/loss")
    card.hover()
    with page.expect_download() as download:
        card.get_by_label("Save as CSV").click()
    assert download.value.suggested_filename == "train-loss.csv"
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    question = {"runs": RUNS, "tags": ["train/loss"], "from": SPIKE - 10, "to": SPIKE + 10}
    answer = filled.send("POST", "/query", question).json()
    expected = [
        (series["run"], str(step), float(wall_time), float(value))
        for series in answer["series"]
        for step, wall_time, value in zip(
            *(series["points"][name] for name in ("step", "wall_time", "value")), strict=True
        )
    ]
    found = [(row["run"], row["step"], float(row["wall_time"]), float(row["value"])) for row in rows]
    assert len(found) == 4 * 21
    assert sorted(found) == sorted(expected)


def test_a_picture_holds_title_curves_and_legend_on_a_solid_ground(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    card = chart(page, "train/loss")
    until_coloured(page, card)
    card.hover()
    with page.expect_download() as download:
        card.get_by_label("Save as PNG").click()
    picture = Image.open(download.value.path())
    assert np.asarray(picture.convert("RGBA").getchannel("A")).min() == 255
    _, _, width, height = area(card)
    assert picture.width > width
    assert picture.height > height + 40
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20
    picture.save(visit.screenshot("charts-picture"))


def test_what_is_not_finite_is_marked_and_counted(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled, f"zoom={POINTS - 60}~{POINTS}~global_step", runs=("sweep/r3",)))
    card = chart(page, "train/loss")
    expect(card).to_contain_text("30 not finite")
    left, top, width, height = area(card)
    marked = Image.open(
        io.BytesIO(page.screenshot(clip={"x": left + width * 0.55, "y": top, "width": width * 0.4, "height": height}))
    )
    saturated = np.asarray(marked.convert("HSV").getchannel("S")) > 60
    rows = np.flatnonzero(saturated.any(axis=1))
    assert rows[0] < 12, "▲ at the top"
    assert rows[-1] > height - 12, "▼ at the bottom"
    page.mouse.move(left + width * 0.99, top + height / 2)
    expect(card.locator(".readings")).to_contain_text(re.compile("NaN|∞"))
    visit.screenshot("charts-not-finite")


def test_odd_tags_are_shown_as_what_they_are(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled, runs=("odd/run",)))
    expect(chart(page, "only/nan")).to_contain_text("No finite value here.")
    expect(chart(page, "only/nan")).to_contain_text("9 not finite")
    until_coloured(page, chart(page, "only/one"), 8)


def test_superseded_attempts_are_drawn_on_demand(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    card = chart(page, "train/loss")
    with page.expect_request(is_about("train/loss", attempts="all")):
        page.get_by_role("button", name="Attempts").click()
    chart(page, "train/loss")
    left, top, width, height = area(card)
    page.mouse.move(left + width * 0.9, top + height / 2)
    expect(card.locator(".readings")).to_contain_text("attempt 1, superseded")
    visit.screenshot("charts-attempts")


def test_groups_are_curves_with_bands(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled))
    chart(page, "train/loss")
    with page.expect_request(is_about("train/loss", group="lr")):
        page.get_by_label("Group runs").select_option(label="lr")
    legend = page.get_by_label("Groups", exact=True)
    expect(legend.get_by_role("listitem")).to_have_count(2)
    expect(legend).to_contain_text("lr = 0.2")
    before = colours(chart(page, "train/acc"))
    page.get_by_label("Band of a group").select_option("range")
    expect(page).to_have_url(re.compile("spread=range"))
    assert before > 100
    visit.screenshot("charts-groups")


def test_ranks_are_one_curve_of_their_run(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    page.goto(address(filled, "group=run.ranks&spread=range", runs=tuple(f"ranked/a/rank{n:02}" for n in range(4))))
    card = chart(page, "train/loss")
    expect(page.get_by_label("Groups", exact=True)).to_contain_text("ranked/a")
    left, top, width, height = area(card)
    page.mouse.move(left + width / 2, top + height / 2)
    expect(card.locator(".readings")).to_contain_text("ranked/a")
    expect(card.locator(".readings")).to_contain_text("4 runs")
    visit.screenshot("charts-ranks")


def test_new_points_show_by_themselves(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    filled.report("live/run", {"reports": [{"step": step, "scalars": {"loss": 1.0}} for step in range(10)]})
    page.goto(address(filled, runs=("live/run",)))
    chart(page, "loss")
    expect(page.get_by_text("Live", exact=True)).to_be_visible()
    with page.expect_request(is_about("loss", since=...)):
        filled.report("live/run", {"reports": [{"step": step, "scalars": {"loss": 2.0}} for step in range(10, 20)]})
    left, top, width, height = area(chart(page, "loss"))
    for _ in range(50):
        page.mouse.move(left + width - 3, top + height / 2)
        page.mouse.move(left + width - 2, top + height / 2)
        if "global_step 19" in (chart(page, "loss").locator(".readings").text_content() or ""):
            break
        page.wait_for_timeout(100)
    expect(chart(page, "loss").locator(".readings")).to_contain_text("global_step 19")


def test_a_chart_that_fails_says_so_and_can_be_tried_again(filled: RunningService, chromium: Browser) -> None:
    with visiting(chromium) as visit:
        page = visit.page
        problem = {"title": "x", "status": 422, "code": "too_many_points", "detail": "That is too much; ask for less."}
        page.route("**/api/v1/query", lambda route: route.fulfill(status=422, json=problem))
        page.goto(address(filled))
        card = page.locator("article[data-tag='train/loss']")
        expect(card.get_by_role("alert")).to_contain_text("That is too much; ask for less.")
        page.unroute("**/api/v1/query")
        card.get_by_role("button", name="Try again").click()
        until_coloured(page, chart(page, "train/loss"))
        expect(card.get_by_role("alert")).to_have_count(0)


def test_thousands_of_tags_are_charts_only_where_they_are_near(filled: RunningService, visit: Visit) -> None:
    page = visit.page
    scalars = {f"layer{i % 40}/w{i}": float(i) for i in range(4_000)}
    for names in (list(scalars)[at : at + 500] for at in range(0, len(scalars), 500)):
        filled.report("many/tags", {"step": 1, "scalars": {name: scalars[name] for name in names}})
    page.goto(address(filled, runs=("many/tags",)))
    expect(page.locator("article").first).to_be_visible()
    assert page.locator("article").count() < 60
    page.locator("main").evaluate("main => main.scrollTo(0, main.scrollHeight / 2)")
    expect(page.locator("article[aria-busy='false']").nth(3)).to_be_visible()
    assert page.locator("article").count() < 60
    page.keyboard.press("/")
    page.keyboard.type("w3999$")
    expect(page.locator("article")).to_have_count(1)


def test_nothing_selected_says_what_to_do(filled: RunningService, visit: Visit) -> None:
    visit.page.goto(filled.url)
    expect(visit.page.get_by_text("Select runs at the side to see their charts.")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_to_look_at(filled: RunningService, chromium: Browser, scheme: Any) -> None:
    with visiting(chromium) as visit:
        visit.page.emulate_media(color_scheme=scheme)
        visit.page.goto(address(filled, "smooth=0.5"))
        card = chart(visit.page, "train/loss")
        until_coloured(visit.page, card)
        left, top, width, height = area(card)
        visit.page.mouse.move(left + width / 3, top + height / 2)
        expect(card.locator(".readings")).to_be_visible()
        visit.screenshot(f"charts-{scheme}")
        assert visit.faults == []

"""GET /runs as a table: columns, filters, orders, pages, and what is known of runs that change meanwhile."""

import threading
import time
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tallyboard_server.runtable import table
from tests.conftest import StartService
from tests.service import Answer, RunningService, until

SIZE = 40


def ask(service: RunningService, *, status: int = 200, **query: Any) -> Any:
    answer: Answer = service.get(f"/runs?{urlencode(query)}")
    assert answer.status == status, answer.body
    return answer.json()


def rows(service: RunningService, columns: str, **query: Any) -> list[list[Any]]:
    page = ask(service, columns=columns, **query)
    assert page["cursor"] is None
    found: list[list[Any]] = page["rows"]
    return found


def pages(service: RunningService, limit: int, **query: Any) -> list[list[Any]]:
    """The rows of all pages."""
    found: list[list[Any]] = []
    cursor: dict[str, Any] = {}
    for _ in range(200):
        page = ask(service, limit=limit, **query, **cursor)
        assert len(page["rows"]) <= limit
        found += page["rows"]
        if page["cursor"] is None:
            return found
        cursor = {"cursor": page["cursor"]}
    raise AssertionError("pages without end")


@pytest.fixture(scope="module")
def library(service: RunningService) -> RunningService:
    """Forty runs: losses fall to 1/number, every fifth run has none and every seventh ends with NaN."""
    for number in range(SIZE):
        name = f"lib/r{number:02}"
        config = {"lr": 10.0 ** -(number % 4), "net": {"depth": number % 3}, "opt": "sgd" if number % 2 else "adam"}
        service.send("PUT", f"/runs/{name}", {"config": config, "group": f"g{number % 3}", "tags": ["base"]})
        if number % 5:
            losses = [9.0, 1 / number, "NaN" if number % 7 == 0 else 2 / number]
            reports = [{"step": step, "scalars": {"val/loss": loss}} for step, loss in enumerate(losses)]
            assert service.report(name, {"reports": reports}).status == 200
    return service


def test_a_table_has_the_columns_asked_for(library: RunningService) -> None:
    columns = 'name, project,config.lr,config."net.depth",config.net.depth,summary.none,counters.global_step,group,tags'
    page = ask(library, project="lib", columns=columns, limit=2)
    assert page["columns"] == [column.strip() for column in columns.split(",")]
    assert page["rows"][1] == ["lib/r01", "lib", 0.1, None, 1, None, 2, "g1", ["base"]]
    assert page["rows"][0][6] is None


def test_figures_of_a_tag(library: RunningService) -> None:
    columns = ",".join(
        f"{figure}.val/loss"
        for figure in ("first", "last", "min", "max", "mean", "count", "nonfinite", "min_step", "max_step", "last_step")
    )
    (row,) = rows(library, columns, filter='name = "lib/r07"')
    assert row == [9.0, "NaN", 1 / 7, 9.0, (9 + 1 / 7) / 2, 3, 1, 1, 0, 2]
    (none,) = rows(library, columns, filter='name = "lib/r05"')
    assert none == [None] * 10


def test_the_filter_of_the_readme(library: RunningService) -> None:
    found = rows(library, "name", filter="config.lr < 0.01 and last.val/loss < 0.2")
    assert found == [[f"lib/r{n:02}"] for n in range(SIZE) if n % 4 == 3 and n % 5 and n % 7 and 2 / n < 0.2]


def test_filters_join_the_single_parameters(library: RunningService) -> None:
    found = rows(library, "name", project="lib", group="g1", filter="last.val/loss = null", **{"config.opt": "sgd"})
    assert found == [[f"lib/r{n:02}"] for n in range(SIZE) if n % 3 == 1 and n % 2 and n % 5 == 0]
    listed = ask(library, project="lib", filter="last.val/loss = nan")
    assert [run["run"] for run in listed["runs"]] == [f"lib/r{n:02}" for n in range(SIZE) if n % 5 and n % 7 == 0]


def test_missing_and_nan_come_last_in_both_directions(library: RunningService) -> None:
    with_loss = [n for n in range(SIZE) if n % 5 and n % 7]
    tail = [n for n in range(SIZE) if n % 5 and n % 7 == 0] + [n for n in range(SIZE) if n % 5 == 0]
    for sort, numbers in (("last.val/loss", with_loss[::-1]), ("-last.val/loss", with_loss)):
        found = rows(library, "name", project="lib", sort=sort)
        assert found == [[f"lib/r{n:02}"] for n in numbers + tail]


def test_several_columns_order_and_names_break_ties(library: RunningService) -> None:
    found = rows(library, "name", project="lib", sort="-config.opt,config.lr")
    wanted = sorted(range(SIZE), key=lambda n: (-(n % 2), 10.0 ** -(n % 4), n))
    assert found == [[f"lib/r{n:02}"] for n in wanted]
    listed = ask(library, project="lib", sort="-name", limit=3)
    assert [run["run"] for run in listed["runs"]] == ["lib/r39", "lib/r38", "lib/r37"]


@pytest.mark.parametrize("limit", [1, 7, SIZE - 1, SIZE, SIZE + 1])
@pytest.mark.parametrize("sort", ["-last.val/loss,group", "group,-min.val/loss", "age", "-created_at"])
def test_pages_of_a_sorted_table_hold_every_run_once(library: RunningService, limit: int, sort: str) -> None:
    whole = rows(library, "name", project="lib", sort=sort)
    assert pages(library, limit, columns="name", project="lib", sort=sort) == whole
    assert len(whole) == SIZE


def test_pages_stay_right_while_runs_come_and_go(service: RunningService) -> None:
    for number in range(0, 20, 2):
        service.send("PUT", f"/runs/moving/{number:02}", {"config": {"x": number}})
    first = ask(service, columns="config.x", project="moving", sort="-config.x", limit=4)
    assert first["rows"] == [[18], [16], [14], [12]]
    service.send("PUT", "/runs/moving/15", {"config": {"x": 15}})
    service.send("PUT", "/runs/moving/05", {"config": {"x": 5}})
    service.request("DELETE", "/api/v1/runs/moving/12")
    rest = pages(service, 3, columns="config.x", project="moving", sort="-config.x")
    assert [x for (x,) in rest] == [18, 16, 15, 14, 10, 8, 6, 5, 4, 2, 0]
    after = ask(service, columns="config.x", project="moving", sort="-config.x", cursor=first["cursor"])
    assert [x for (x,) in after["rows"]] == [10, 8, 6, 5, 4, 2, 0]


def test_values_follow_every_change_of_a_run(service: RunningService, run_name: str) -> None:
    columns = "config.lr,status,notes,last.loss,min.loss,counters.global_step"
    where = f'name = "{run_name}"'
    service.send("PUT", f"/runs/{run_name}", {"config": {"lr": 1}})
    assert rows(service, columns, filter=where) == [[1, "running", None, None, None, None]]
    service.report(run_name, {"step": 0, "scalars": {"loss": 2.0}})
    assert rows(service, columns, filter=where) == [[1, "running", None, 2.0, 2.0, 0]]
    service.report(run_name, {"step": 1, "scalars": {"loss": 0.5}})
    assert rows(service, columns, filter=where)[0][3:] == [0.5, 0.5, 1]
    service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 1}})
    assert rows(service, columns, filter=where)[0][3:] == [2.0, 2.0, 0]
    service.report(run_name, {"step": 1, "scalars": {"loss": 0.75}})
    service.send("PATCH", f"/runs/{run_name}", {"status": "finished", "notes": "n", "config": {"lr": None}})
    assert rows(service, columns, filter=where) == [[None, "finished", "n", 0.75, 0.75, 1]]


def test_what_tells_of_a_runs_course(service: RunningService, run_name: str) -> None:
    columns = "attempts,refused,counters.batch,totals.batch,totals.other,rates.batch,rates.epoch,rates.no"

    def shown() -> list[Any]:
        (row,) = rows(service, columns, filter=f'name = "{run_name}"')
        return row

    assert service.send("PUT", f"/runs/{run_name}", {"counters": {"batch": {"total": 5_000}}}).status == 201
    assert shown() == [0, 0, None, 5_000, None, None, None, None]

    def reports(first: int, begin: float, per_s: float, count: int, counter: str = "batch") -> None:
        made = [
            {"counter": counter, "step": first + i, "wall_time": begin + i / per_s, "scalars": {f"{counter}/loss": 1.0}}
            for i in range(count)
        ]
        assert service.report(run_name, {"reports": made, "partial": True}).status == 200

    reports(1, 1_000.0, 10.0, 1_000)
    assert shown() == [1, 0, 1_000, 5_000, None, pytest.approx(10.0), None, None]
    reports(1_001, 1_101.0, 1.0, 300)
    reports(1, 1_400.0, 1.0, 1, "epoch")
    assert shown() == [1, 0, 1_300, 5_000, None, pytest.approx(1.0), None, None]
    reports(1_000, 1_500.0, 1.0, 2)
    assert shown()[:3] == [1, 2, 1_300]
    service.send("POST", f"/rewind/{run_name}", {"next_steps": {"batch": 501}})
    assert shown() == [2, 2, 500, 5_000, None, pytest.approx(10.0), None, None]
    reports(501, 2_000.0, 4.0, 5)
    assert shown() == [2, 2, 505, 5_000, None, pytest.approx(4.0), None, None]
    reports(506, 2_001.0, 4.0, 1)
    assert shown()[5] == pytest.approx(5.0)


def test_alerts_and_stalled_counters_are_columns(service: RunningService, run_name: str) -> None:
    def shown() -> list[Any]:
        (row,) = rows(service, "alerts,alerted_at,stalled", filter=f'name = "{run_name}"')
        return row

    def found(where: str) -> list[Any]:
        return rows(service, "name", filter=f'name = "{run_name}" and {where}')

    service.report(run_name, {"step": 0, "scalars": {"loss": 1.0}})
    assert shown() == [0, None, None]
    before = time.time()
    service.send("POST", f"/alerts/{run_name}", {"title": "the disk is nearly full"})
    kept, at, stalled = shown()
    assert (kept, before <= at <= time.time(), stalled) == (1, True, None)
    assert found("alerts > 0 and stalled = null") == [[run_name]]
    service.report(run_name, {"reports": [{"step": 0, "scalars": {"loss": 2.0}}] * 10, "partial": True})
    assert shown()[2] == ["global_step"]
    assert found('stalled = "global_step"') == [[run_name]]
    service.send("PATCH", f"/runs/{run_name}", {"status": "finished"})
    assert shown() == [1, at, None]


def test_best_values_are_of_visible_points_only(service: RunningService, run_name: str) -> None:
    for step, (loss, acc) in enumerate([(3.0, 0.1), (0.1, 0.9), (2.0, 0.2)]):
        service.report(run_name, {"step": step, "scalars": {"val/loss": loss, "test acc": acc}})
    columns = 'min.val/loss,min_step.val/loss,at_min("test acc", val/loss),at_max("test acc", val/loss)'
    where = f'name = "{run_name}"'
    assert rows(service, columns, filter=where) == [[0.1, 1, 0.9, 0.1]]
    service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": 1}})
    service.report(run_name, {"step": 1, "scalars": {"val/loss": 2.5, "test acc": 0.4}})
    service.report(run_name, {"step": 2, "scalars": {"val/loss": 2.0}})
    assert rows(service, columns, filter=where) == [[2.0, 2, 0.4, 0.1]]


def test_the_best_of_another_counter_counts_by_time(service: RunningService, run_name: str) -> None:
    for step in range(4):
        service.report(run_name, {"step": step, "wall_time": 100.0 + step, "scalars": {"acc": step / 10}})
    for epoch, loss in enumerate([1.0, 0.5, 2.0]):
        report = {"counter": "epoch", "step": epoch, "wall_time": 100.5 + epoch, "scalars": {"val": loss}}
        assert service.report(run_name, report).status == 200
    found = rows(service, "at_min(acc, val),at_max(acc, val),at_max(val, acc)", filter=f'name = "{run_name}"')
    assert found == [[0.1, 0.2, 2.0]]


def test_live_columns_are_never_stale(service: RunningService, run_name: str) -> None:
    service.send("PUT", f"/runs/{run_name}", {})
    columns = "created_at,last_seen,age,idle"
    (before,) = rows(service, columns, filter=f'name = "{run_name}"')
    service.request("POST", f"/api/v1/heartbeat/{run_name}")
    (after,) = rows(service, columns, filter=f'name = "{run_name}" and age < 1h and created_at > 2020-01-01')
    assert after[0] == before[0]
    assert after[1] > before[1]
    assert after[2] > before[2] >= 0
    assert after[3] >= 0


def test_a_lost_run_is_found_by_its_status(start_service: StartService) -> None:
    service = start_service(lost_after_s=0.05)
    service.report("p/quiet", {"producer": "p", "seq": 1, "step": 1, "scalars": {"loss": 1.0}})
    service.report("p/curl", {"step": 1, "scalars": {"loss": 1.0}})
    lost = [["p/quiet", "lost"], ["p/curl", "running"]]
    assert until(lambda: rows(service, "name,status", sort="status,name") == lost)
    assert rows(service, "name", filter='status in ("lost", "failed")') == [["p/quiet"]]
    service.send("PATCH", "/runs/p/quiet", {"status": "finished"})
    assert rows(service, "name", filter='status = "finished"') == [["p/quiet"]]


def test_a_table_may_be_msgpack(library: RunningService) -> None:
    query = urlencode({"columns": "name,last.val/loss", "filter": 'name in ("lib/r01", "lib/r07")'})
    answer = library.get(f"/runs?{query}", {"Accept": "application/msgpack"})
    assert answer.headers["content-type"] == "application/msgpack"
    assert answer.json() == {
        "columns": ["name", "last.val/loss"], "rows": [["lib/r01", 2.0], ["lib/r07", "NaN"]], "cursor": None,
    }  # fmt: skip


@pytest.mark.parametrize(("query", "field", "told"), [
    ({"filter": "config.lr <"}, "filter", "at character 12: expected a column or a value, found the end"),
    ({"filter": "status = running"}, "filter", "at character 10: there is no column 'running'. Text goes in quotes"),
    ({"filter": "(age < 1d"}, "filter", "at character 10: expected ')', found the end"),
    ({"filter": "1 < 2"}, "filter", "at character 1: expected a column on one side"),
    ({"filter": "age < null"}, "filter", "at character 1: expected = or != beside null"),
    ({"filter": "age in 5"}, "filter", "at character 8: expected '(', found '5'"),
    ({"filter": 'name = "x'}, "filter", "at character 8: a quote that is never closed"),
    ({"filter": "created_at > 2026-13-01"}, "filter", "at character 14: expected a date of the calendar"),
    ({"filter": ""}, "filter", "at character 1: expected a column or a value, found the end; for example: config.lr"),
    ({"filter": "age<1" * 1000}, "filter", "longer than 4000 characters"),
    ({"filter": "not " * 30 + "archived"}, "filter", "nested deeper than 20"),
    ({"filter": " or ".join(f"last.t{i} < 1" for i in range(21))}, "filter", "more than 20 different columns"),
    ({"columns": "name,,age"}, "columns", "at character 6: expected a column or a value, found ','"),
    ({"columns": "lr"}, "columns", "at character 1: there is no column 'lr'"),
    ({"columns": "at_min(a)"}, "columns", "at character 9: expected ',', found ')'"),
    ({"columns": ",".join(["name"] * 101)}, "columns", "more than 100 columns"),
    ({"sort": "- name"}, "sort", "at character 2: there is no column ''"),
    ({"sort": "name desc"}, "sort", "at character 6: expected ',', found 'desc'"),
    ({"sort": "name", "cursor": "bm8"}, "cursor", "not a cursor of this API"),
    ({"sort": "name", "cursor": "_w"}, "cursor", "not a cursor of this API"),
    ({"cursor": "_w"}, "cursor", "not a cursor of this API"),
    ({"limit": "5001"}, "limit", "less than or equal to 5000"),
])  # fmt: skip
def test_a_mistake_is_told_with_its_place(
    service: RunningService, query: dict[str, str], field: str, told: str
) -> None:
    problem = ask(service, status=422, **query)
    assert (problem["code"], problem["field"]) == ("invalid_query", field)
    assert told in problem["detail"]
    assert f"at character {problem.get('position')}:" in problem["detail"] or "position" not in problem


def test_a_mistake_has_its_position_as_a_number(service: RunningService) -> None:
    assert ask(service, status=422, filter="status = running")["position"] == 10
    assert "position" not in ask(service, status=422, cursor="_w")


@pytest.mark.parametrize("sort", [{}, {"sort": "-name"}])
def test_some_runs_are_asked_for_by_their_names(library: RunningService, sort: dict[str, str]) -> None:
    named = [("run", name) for name in ("lib/r07", "lib/r7", "lib/r03", "lib/r04", "lib/r0", "other/r03", "lib/r03")]
    asked = [("columns", "name"), ("filter", "config.net.depth != 0"), *named, *sort.items()]

    def answered(*more: tuple[str, str]) -> Any:
        return library.get(f"/runs?{urlencode([*asked, *more])}").json()

    wanted = [["lib/r04"], ["lib/r07"]]
    assert answered()["rows"] == (wanted[::-1] if sort else wanted)
    assert answered(("project", "elsewhere"))["rows"] == []
    first = answered(("limit", "1"))
    assert first["rows"] + answered(("cursor", first["cursor"]))["rows"] == answered()["rows"]
    too_many = library.get(f"/runs?{urlencode([('run', str(n)) for n in range(201)])}")
    assert (too_many.status, too_many.json()["field"]) == (422, "run")


def test_a_cursor_is_for_its_order_only(library: RunningService) -> None:
    cursor = ask(library, columns="name", sort="-name", limit=1)["cursor"]
    problem = ask(library, columns="name", sort="name", cursor=cursor, status=422)
    assert "in another order" in problem["detail"]
    assert ask(library, columns="name", cursor=cursor, status=422)["field"] == "cursor"


def test_too_many_runs_to_order_are_refused(library: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "SORTED_MAX", 10)
    problem = ask(library, sort="age", project="lib", status=413)
    assert problem["code"] == "too_many_runs"
    assert "project" in problem["detail"]
    assert len(ask(library, project="lib")["runs"]) == SIZE


def test_what_takes_too_long_goes_on_where_it_was(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    service = start_service()
    for number in range(4):
        service.report(f"p/r{number}", {"step": 1, "scalars": {"loss": float(number)}})
    monkeypatch.setattr(table, "PAGE_S_MAX", 0.0)
    page = ask(service, columns="name")
    assert page["rows"] == [["p/r0"]]
    assert ask(service, columns="name", cursor=page["cursor"])["rows"] == [["p/r1"]]
    query = urlencode({"columns": "name", "sort": "-last.loss"})
    answer = service.get(f"/runs?{query}")
    assert (answer.status, answer.json()["code"]) == (503, "still_reading")
    assert answer.headers["retry-after"] == "1"


def test_a_page_is_bounded_in_bytes_in_any_order(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PAGE_BYTES_MAX", 50_000)
    service = start_service()
    for i in range(5):
        service.send("PUT", f"/runs/big/r{i}", {"config": {"text": "x" * 30_000}})
    page = ask(service, columns="name,config.text", sort="-name")
    assert [name for name, _ in page["rows"]] == ["big/r4", "big/r3"]
    rest = ask(service, columns="name,config.text", sort="-name", cursor=page["cursor"])
    assert [name for name, _ in rest["rows"]] == ["big/r2", "big/r1"]


def test_rows_are_of_one_moment_while_runs_grow_and_go_back(service: RunningService, run_name: str) -> None:
    """Steps count from 0 and the value is minus the step, so that every figure follows from any other."""
    over = threading.Event()

    def train() -> None:
        step = 0
        for number in range(150):
            service.report(
                run_name, {"reports": [{"step": step + i, "scalars": {"loss": -step - i}} for i in range(5)]}
            )
            step += 5
            if number % 7 == 6:
                step -= 12
                service.send("POST", f"/rewind/{run_name}", {"next_steps": {"global_step": step}})
        over.set()

    columns = "last.loss,min.loss,last_step.loss,count.loss,min_step.loss,at_min(loss, loss)"
    training = threading.Thread(target=train)
    training.start()
    seen = set()
    while not over.is_set():
        for last, least, step, count, least_step, best in rows(service, columns, filter=f'name = "{run_name}"'):
            assert last is None or (-last, -least, count, least_step, best) == (step, step, step + 1, step, last)
            seen.add(step)
    training.join()
    assert len(seen) > 5
    assert rows(service, "last_step.loss", filter=f'name = "{run_name}"') == [[150 * 5 - 21 * 12 - 1]]


def test_odd_names_of_tags_and_keys_can_be_quoted(service: RunningService, run_name: str) -> None:
    tag, key = 'a "b" (c), d\\', "x, y.z"
    service.send("PUT", f"/runs/{quote(run_name)}", {"config": {key: 7}})
    service.report(run_name, {"step": 1, "scalars": {tag: 1.5}})
    columns = """last.'a "b" (c), d\\\\',config."x, y.z",count.'a "b" (c), d\\\\'"""
    page = ask(service, columns=columns, filter=f"""name = "{run_name}" and config.'x, y.z' in (6, 7)""")
    assert page["rows"] == [[1.5, 7, 1]]

"""`tallyboard.read` against a real service, into real pandas and polars."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import quote

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pytest

import tallyboard
from tallyboard.reading.service import Service
from tallyboard_server.export import pages
from tallyboard_server.store.protocol import StoreError
from tests.cli_process import report
from tests.conftest import StartService
from tests.service import RunningService

COLUMNS = ["run", "counter", "tag", "step", "wall_time", "value"]


@pytest.fixture(scope="module")
def filled(service: RunningService) -> RunningService:
    """Two runs of a project, one of them rewound, one run without points, and a run of another project."""
    for run in ("mnist/one", "mnist/two", "other/run"):
        for step in range(10):
            scalars = {"loss": step / 8, "val/acc": "NaN" if step == 3 else -step / 7}
            body = {"step": step, "scalars": scalars, "wall_time": 1.7e9 + step}
            assert service.report(run, body).status == 200
    service.send("POST", "/rewind/mnist/two", {"next_steps": {"global_step": 7}})
    service.report("mnist/two", {"step": 7, "scalars": {"loss": 100.0}, "wall_time": 1.7e9 + 99})
    service.send("PUT", "/runs/mnist/empty", {})
    return service


@pytest.fixture(autouse=True)
def _address(filled: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYBOARD_URL", filled.url)


def curve(table: Any, run: str, tag: str, column: str = "value") -> list[Any]:
    found: list[Any] = table[column][(table["run"] == run) & (table["tag"] == tag)].tolist()
    return found


def test_every_visible_point() -> None:
    table = tallyboard.read("mnist/*")
    assert list(table) == COLUMNS
    assert {len(column) for column in table.values()} == {20 + 7 * 2 + 1}
    assert table["run"].tolist() == sorted(table["run"].tolist())
    assert curve(table, "mnist/one", "loss", "step") == list(range(10))
    assert curve(table, "mnist/two", "loss") == [*(step / 8 for step in range(7)), 100.0]
    assert repr(curve(table, "mnist/one", "val/acc")) == repr(
        [float("nan") if step == 3 else -step / 7 for step in range(10)]
    )
    assert [table[name].dtype for name in ("step", "wall_time", "value")] == [np.int64, np.float64, np.float64]


def test_some_runs_and_tags_in_their_order() -> None:
    table = tallyboard.read(["other/run", "mnist/t*"], tags=["val/*"])
    assert list(dict.fromkeys(table["run"].tolist())) == ["other/run", "mnist/two"]
    assert set(table["tag"].tolist()) == {"val/acc"}
    assert len(tallyboard.read("mnist/one", "loss")["step"]) == 10
    assert len(tallyboard.read(["mnist/one", "mnist/one", "mnist/o*"], "loss")["step"]) == 10


def test_superseded_points_too() -> None:
    table = tallyboard.read("mnist/two", "loss", attempts="all")
    assert list(table) == [*COLUMNS, "attempt", "superseded"]
    rows = list(zip(table["attempt"].tolist(), table["superseded"].tolist(), table["step"].tolist(), strict=True))
    assert rows == [
        *((1, False, step) for step in range(7)),
        *((1, True, step) for step in range(7, 10)),
        (2, False, 7),
    ]


def test_pandas_takes_it() -> None:
    frame = pd.DataFrame(tallyboard.read("mnist/*"))
    assert list(frame.columns) == COLUMNS
    assert frame.groupby(["run", "tag"])["value"].count().to_dict() == {
        ("mnist/one", "loss"): 10, ("mnist/one", "val/acc"): 9, ("mnist/two", "loss"): 8, ("mnist/two", "val/acc"): 6,
    }  # fmt: skip
    wide = frame[frame["run"] == "mnist/one"].pivot_table(index="step", columns="tag", values="value")
    assert wide["loss"].tolist() == [step / 8 for step in range(10)]


def test_polars_takes_it() -> None:
    frame = pl.DataFrame(tallyboard.read("mnist/*", attempts="all"))
    assert dict(frame.schema) == {
        "run": pl.String, "counter": pl.String, "tag": pl.String, "step": pl.Int64, "wall_time": pl.Float64,
        "value": pl.Float64, "attempt": pl.Int64, "superseded": pl.Boolean,
    }  # fmt: skip
    best = frame.filter(pl.col("tag") == "loss", ~pl.col("superseded")).group_by("run").agg(pl.col("value").max())
    assert dict(best.iter_rows()) == {"mnist/one": 9 / 8, "mnist/two": 100.0}


def test_a_table_without_rows_has_the_same_columns() -> None:
    table = tallyboard.read("mnist/empty", attempts="all", x="relative")
    assert {len(column) for column in table.values()} == {0}
    assert list(table) == [*COLUMNS, "x", "attempt", "superseded"]
    assert pl.DataFrame(table).schema["run"] == pl.String
    assert tallyboard.read("mnist/one", "no/such/tag")["value"].tolist() == []


@pytest.mark.parametrize("recorded", ["always", "never", "at times"])
def test_x_is_where_another_counter_stood(filled: RunningService, recorded: str) -> None:
    """The same as the charts' axis."""
    run = f"axes/{quote(recorded)}"
    for step in range(20):
        at = {"global_step": 10 * step} if recorded == "always" or (recorded == "at times" and step % 3 == 0) else {}
        wall_time = 1.7e9 + (step * 7) % 5 + step
        body = {"counter": "epoch", "step": step, "scalars": {"acc": 0.5}, "wall_time": wall_time, "at": at}
        assert filled.report(run, body).status == 200
        body = {"step": 10 * step, "scalars": {"loss": 0.5}, "wall_time": 1.7e9 + step}
        assert filled.report(run, body).status == 200
    filled.send("POST", f"/rewind/{quote(run)}", {"next_steps": {"global_step": 150}})
    for x in ("global_step", "epoch", "relative"):
        table = tallyboard.read(run, x=x)
        for tag in ("acc", "loss"):
            asked = filled.get(f"/scalars?run={quote(run)}&tag={tag}&x={x}").json()["series"][0]["points"]
            assert curve(table, run, tag, "x") == asked["x"], (x, tag)
            assert curve(table, run, tag, "step") == asked["step"]


def test_what_is_not_there(filled: RunningService) -> None:
    for runs in ("no/run", "no*", ["mnist/one", "no/run"], ["mnist/one", "no/*"]):
        with pytest.raises(tallyboard.RunNotFoundError, match="no"):
            tallyboard.read(runs)
    with pytest.raises(tallyboard.ReadError, match="the counters of mnist/one are global_step"):
        tallyboard.read("mnist/one", x="tokens")
    with pytest.raises(tallyboard.ConfigurationError, match="attempts 'some' is not known"):
        tallyboard.read("mnist/one", attempts="some")  # type: ignore[arg-type]
    with pytest.raises(tallyboard.ConfigurationError, match="url"):
        tallyboard.read("mnist/one", url="nowhere")
    with pytest.raises(tallyboard.ReadError, match="does not answer"):
        tallyboard.read("mnist/one", url="http://127.0.0.1:9")


def test_more_points_than_memory_should_hold() -> None:
    with pytest.raises(tallyboard.ReadError, match="more than 25 points up to run mnist/two"):
        tallyboard.read("mnist/*", points_max=25)
    assert len(tallyboard.read("mnist/one", points_max=20)["step"]) == 20


def test_a_token_is_sent(start_service: StartService) -> None:
    service = start_service(token="secret")
    report(service, "a/b", range(3))
    with pytest.raises(tallyboard.ReadError, match="A token is needed"):
        tallyboard.read("a/b", url=service.url)
    assert len(tallyboard.read("a/b", url=service.url, token="secret")["step"]) == 3


def test_many_runs_take_several_pages(filled: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallyboard.reading.service._PAGE_RUNS", 3)
    for i in range(10):
        report(filled, f"many/run{i}", range(2))
    assert sorted(set(tallyboard.read("many/*")["run"].tolist())) == [f"many/run{i}" for i in range(10)]
    assert sorted(set(tallyboard.read("*/run[34]")["run"].tolist())) == ["many/run3", "many/run4"]


def test_a_run_deleted_since_it_was_listed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    really = Service._listed

    def with_a_ghost(service: Service, pattern: str) -> Iterator[str]:
        yield "mnist/ghost"
        yield from really(service, pattern)

    monkeypatch.setattr(Service, "_listed", with_a_ghost)
    assert set(tallyboard.read("mnist/*")["run"].tolist()) == {"mnist/one", "mnist/two"}


def test_an_answer_that_breaks_off_is_an_error(filled: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> object:
        raise StoreError("the disk is failing")

    monkeypatch.setattr(pages, "read_page", broken)
    with pytest.raises(tallyboard.ReadError, match="broke off"):
        tallyboard.read("mnist/one")


def test_the_reason_of_a_break_comes_with_it(filled: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> object:
        raise pages.ExportBrokenError("mnist/one was deleted while it was exported")

    monkeypatch.setattr(pages.Reader, "_check_whole", gone)
    with pytest.raises(tallyboard.ReadError, match="mnist/one was deleted while it was exported"):
        tallyboard.read("mnist/one")


def frame(**fields: Any) -> bytes:
    data = msgspec.msgpack.encode(fields)
    return b"\xc6" + len(data).to_bytes(4, "big") + data


BLOCK = frame(counter="c", attempt=1, tags=["t"], steps=bytes(8), wall_times=bytes(8), values=bytes(8))


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """A server that answers everything with the same bytes, and is not Tallyboard."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Quietly."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "broke off"),
        (b"<html>a proxy</html>", "is no export"),
        (frame(run="a/b", version=1) + BLOCK, "broke off"),
        (frame(run="a/b", version=1) + BLOCK + frame(end={"scalars": 2}), "1 points came of 2"),
        (frame(run="a/b", version=1) + BLOCK[:-3], "broke off"),
        (b"\xc6\x00\x00\x00\x01\xff", "not as Tallyboard does"),
    ],
)
def test_answers_that_are_none(body: bytes, told: str) -> None:
    with answering(body) as url, pytest.raises(tallyboard.ReadError, match=told):
        tallyboard.read("a/b", url=url)


def test_an_answer_that_is_one() -> None:
    with answering(frame(run="a/b", version=1) + BLOCK + frame(end={"scalars": 1})) as url:
        table = tallyboard.read("a/b", url=url)
    assert [column.tolist() for column in table.values()] == [["a/b"], ["c"], ["t"], [0], [0.0], [0.0]]

"""GET /export over HTTP: whole files in every format, and no file that looks whole and is not."""

import csv
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import urllib3
from pyarrow import parquet

from tallyboard_server.export import formats, pages
from tallyboard_server.principal import SERVICE
from tallyboard_server.store.protocol import StoreError
from tests.access_kit import bearer, guarded
from tests.cli_process import report
from tests.conftest import StartService
from tests.export_kit import bits_of, event_points, frames, rows
from tests.service import RunningService, until

FORMATS = ("csv", "jsonl", "parquet", "tfevents", "msgpack")
ODD = 'a, "b" = é☃ <x>'


def rewound(service: RunningService, run: str) -> None:
    """Steps 0 to 9, then back to 7, then 7 and 8 again."""
    report(service, run, range(10))
    service.send("POST", f"/rewind/{quote(run)}", {"next_steps": {"global_step": 7}})
    report(service, run, range(7, 9))


def long_run(service: RunningService, run: str, reports: int = 20_000) -> None:
    """Reports of ten tags, so many that an export takes many pages."""
    for first in range(0, reports, 1_000):
        rows = [
            {"step": step, "scalars": {f"tag{i}": step / 7 + i for i in range(10)}, "wall_time": 1.7e9 + step / 3}
            for step in range(first, first + 1_000)
        ]
        assert service.report(run, {"reports": rows}).status == 200


@contextmanager
def opened(
    service: RunningService, path: str, buffer_bytes: int | None = None, token: str = ""
) -> Iterator[socket.socket]:
    """A connection on which a GET was sent and nothing was read."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    with socket.socket() as connection:
        if buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.settimeout(20.0)
        connection.connect(("127.0.0.1", service.port))
        connection.sendall(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n{authorization}\r\n".encode())
        yield connection


def everything(connection: socket.socket) -> bytes:
    found = b""
    while piece := connection.recv(1 << 20):
        found += piece
        if found.endswith(b"\r\n0\r\n\r\n"):
            break
    return found


def idle(service: RunningService) -> bool:
    return bool(service.parts.exports.borrowed_tokens == 0)


def test_csv_is_the_default(service: RunningService, run_name: str) -> None:
    body = {"step": 3, "scalars": {"loss": 0.1, "x": "NaN", "y": "-Infinity"}, "wall_time": 1.7e9}
    assert service.report(run_name, body).status == 200
    answer = service.get(f"/export/{run_name}")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    name = f"{run_name.replace('/', '-')}.csv"
    assert f'attachment; filename="{name}"' in answer.headers["content-disposition"]
    assert answer.body.decode().splitlines() == [
        "run,counter,step,wall_time,tag,value",
        f"{run_name},global_step,3,1700000000.0,loss,0.1",
        f"{run_name},global_step,3,1700000000.0,x,NaN",
        f"{run_name},global_step,3,1700000000.0,y,-Infinity",
    ]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "msgpack"])
def test_visible_and_superseded_points(service: RunningService, run_name: str, form: str) -> None:
    rewound(service, run_name)
    visible = rows(form, service.get(f"/export/{run_name}?format={form}").body)
    assert [row.step for row in visible] == list(range(9))
    everyone = rows(form, service.get(f"/export/{run_name}?format={form}&attempts=all").body)
    assert [(row.attempt, row.superseded, row.step) for row in everyone] == [
        *((1, False, step) for step in range(7)),
        *((1, True, step) for step in range(7, 10)),
        *((2, False, step) for step in range(7, 9)),
    ]


def test_an_event_file(service: RunningService, run_name: str) -> None:
    rewound(service, run_name)
    answer = service.get(f"/export/{run_name}?format=tfevents")
    assert 'filename="events.out.tfevents.' in answer.headers["content-disposition"]
    assert [(tag, step, value) for tag, step, _, value in event_points(answer.body)] == [
        ("loss", step, step / 8) for step in range(9)
    ]
    refused = service.get(f"/export/{run_name}?format=tfevents&attempts=all")
    assert (refused.status, refused.json()["code"], refused.json()["field"]) == (422, "invalid_query", "attempts")


def test_tags_by_name_and_pattern(service: RunningService, run_name: str) -> None:
    scalars = {"val/loss": 1.0, "val/acc": 2.0, "loss": 3.0, "hist[0]": 4.0, "hist0": 5.0}
    service.report(run_name, {"step": 1, "scalars": scalars})

    def tags(*patterns: str) -> list[str]:
        query = "&".join(f"tag={quote(pattern)}" for pattern in patterns)
        return [row.tag for row in rows("csv", service.get(f"/export/{run_name}?{query}").body)]

    assert tags("val/*") == ["val/acc", "val/loss"]
    assert tags("loss", "val/acc") == ["loss", "val/acc"]
    assert tags("hist[0]") == ["hist0", "hist[0]"]
    assert tags("nothing*") == []


def test_names_with_odd_characters(service: RunningService) -> None:
    run = f"odd/{ODD}"
    answer = service.report(run, {"counter": ODD.replace("=", "~"), "step": 1, "scalars": {ODD: 0.5, "plain": 1.5}})
    assert answer.status == 200, answer.body
    for form in ("csv", "jsonl", "parquet", "msgpack"):
        answer = service.get(f"/export/{quote(run)}?format={form}")
        assert answer.status == 200
        found = sorted((row.counter, row.tag) for row in rows(form, answer.body))
        assert found == sorted((ODD.replace("=", "~"), tag) for tag in (ODD, "plain"))
        encoded = quote("odd-" + ODD + formats.FORMATS[form].suffix, safe="")
        assert answer.headers["content-disposition"].endswith(f"filename*=UTF-8''{encoded}")
    assert b'"odd/a, ""b"" = ' in service.get(f"/export/{quote(run)}").body


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_without_points(service: RunningService, form: str) -> None:
    service.send("PUT", "/runs/test/empty", {})
    answer = service.get(f"/export/test/empty?format={form}")
    assert answer.status == 200
    assert (event_points(answer.body) if form == "tfevents" else rows(form, answer.body)) == []


def test_runs_that_are_not_there_and_questions_that_are_none(service: RunningService, run_name: str) -> None:
    report(service, run_name, range(3))
    for path, status, code in (
        ("no/run", 404, "run_not_found"),
        (f"{run_name}?format=xlsx", 422, "invalid_query"),
        (f"{run_name}?attempts=some", 422, "invalid_query"),
        (f"{run_name}?tags=loss", 422, "invalid_query"),
        (f"{run_name}?{'&'.join(f'tag={i}' for i in range(1001))}", 422, "invalid_query"),
    ):
        answer = service.get(f"/export/{path}")
        assert (answer.status, answer.json()["code"]) == (status, code), path


def test_parquet_without_pyarrow_names_the_extra(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(service, run_name, range(3))
    monkeypatch.setattr(formats, "find_spec", lambda _name: None)
    answer = service.get(f"/export/{run_name}?format=parquet")
    assert (answer.status, answer.json()["code"]) == (501, "not_installed")
    assert "pip install 'tallyboard[parquet]'" in answer.json()["detail"]


def test_parquet_row_groups_are_bounded(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tallyboard_server.export import parquet as writer

    monkeypatch.setattr(writer, "ROWS_PER_GROUP", 1_000)
    long_run(service, run_name, 2_000)
    file = parquet.ParquetFile(io.BytesIO(service.get(f"/export/{run_name}?format=parquet").body))
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert sum(sizes) == 20_000
    assert max(sizes) == 1_000
    assert file.schema_arrow.names == ["run", "counter", "step", "wall_time", "tag", "value"]


def test_a_slow_reader_holds_no_snapshot_and_gets_everything(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_run(service, run_name)
    views = 0
    really = service.parts.store.snapshot

    @contextmanager
    def counted() -> Iterator[object]:
        nonlocal views
        views += 1
        try:
            with really() as view:
                yield view
        finally:
            views -= 1

    monkeypatch.setattr(service.parts.store, "snapshot", counted)
    with opened(service, f"/export/{run_name}", buffer_bytes=1 << 18) as connection:
        first = connection.recv(1000)
        assert until(lambda: views == 0)
        assert not idle(service)
        report(service, run_name, range(50_000, 50_005), tag="tag0")
        data = first + everything(connection)
    body = b"".join(chunks(data.partition(b"\r\n\r\n")[2]))
    assert len(rows("csv", body)) == 200_000
    assert until(lambda: idle(service))


def chunks(data: bytes) -> Iterator[bytes]:
    """The chunks of a chunked body that is whole."""
    while True:
        size, _, data = data.partition(b"\r\n")
        if not (length := int(size, 16)):
            assert data == b"\r\n"
            return
        yield data[:length]
        assert data[length : length + 2] == b"\r\n"
        data = data[length + 2 :]


def test_a_reader_that_goes_away_ends_the_export(service: RunningService, run_name: str) -> None:
    long_run(service, run_name)
    with opened(service, f"/export/{run_name}", buffer_bytes=4096) as connection:
        connection.recv(1000)
        assert not idle(service)
    assert until(lambda: idle(service))


def test_a_reader_that_stands_still_is_given_up(start_service: StartService, run_name: str) -> None:
    service = start_service(send_timeout_s=0.2)
    long_run(service, run_name)
    with opened(service, f"/export/{run_name}", buffer_bytes=4096) as connection:
        connection.recv(1000)
        assert until(lambda: idle(service))
        assert not everything(connection).endswith(b"0\r\n\r\n")


def test_a_run_deleted_meanwhile_breaks_the_connection_off(service: RunningService, run_name: str) -> None:
    long_run(service, run_name)
    with opened(service, f"/export/{run_name}", buffer_bytes=4096) as connection:
        first = connection.recv(1000)
        assert first.startswith(b"HTTP/1.1 200")
        assert service.request("DELETE", f"/api/v1/runs/{run_name}").status == 204
        assert not everything(connection).endswith(b"0\r\n\r\n")
    assert until(lambda: idle(service))


def test_a_token_revoked_meanwhile_breaks_the_connection_off(tmp_path: Path, run_name: str) -> None:
    with guarded(tmp_path, tensorboard=False) as there:
        token_id, text = there.make("read")
        there.service.headers |= bearer(there.whole["write"])
        long_run(there.service, run_name)
        with opened(there.service, f"/export/{run_name}", buffer_bytes=4096, token=text) as connection:
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            there.service.parts.access.revoke(token_id, SERVICE)
            assert not everything(connection).endswith(b"0\r\n\r\n")
        assert until(lambda: idle(there.service))


def test_a_store_that_fails_meanwhile_is_no_end(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(service, run_name, range(10))

    def broken(*_: object, **__: object) -> object:
        raise StoreError("the disk is failing")

    monkeypatch.setattr(pages, "read_page", broken)
    with pytest.raises(urllib3.exceptions.HTTPError):
        service.get(f"/export/{run_name}")
    assert until(lambda: idle(service))


def test_more_exports_than_can_be_sent_at_once(service: RunningService, run_name: str) -> None:
    report(service, run_name, range(3))
    limiter = service.parts.exports
    total, limiter.total_tokens = limiter.total_tokens, 0
    try:
        answer = service.get(f"/export/{run_name}")
    finally:
        limiter.total_tokens = total
    assert (answer.status, answer.json()["code"]) == (503, "too_busy")
    assert service.get(f"/export/{run_name}").status == 200


def test_exports_go_on_beside_reports_and_rewinds(service: RunningService, run_name: str) -> None:
    """Each is what was visible at one moment: steps without a gap."""
    report(service, run_name, range(2_000))
    stop = threading.Event()

    def more() -> None:
        step = 2_000
        while not stop.is_set():
            report(service, run_name, range(step, step + 50))
            step += 50
            if step % 500 == 0:
                step -= 400
                service.send("POST", f"/rewind/{quote(run_name)}", {"next_steps": {"global_step": step}})

    reporter = threading.Thread(target=more)
    reporter.start()
    try:
        until_s = time.monotonic() + 2.0
        exported = 0
        while time.monotonic() < until_s:
            found = rows("jsonl", service.get(f"/export/{run_name}?format=jsonl").body)
            assert [row.step for row in found] == list(range(len(found)))
            exported += 1
        assert exported > 2
    finally:
        stop.set()
        reporter.join()
    data = service.get(f"/export/{run_name}?format=msgpack").body
    assert frames(data)[-1]["end"]["scalars"] == len(rows("msgpack", data))


def test_a_report_s_text_is_exact(service: RunningService, run_name: str) -> None:
    values = [5e-324, 1.7976931348623157e308, 0.1, -0.0, 1e16, 123456789.123456789]
    reports = [{"step": i, "scalars": {"x": v}, "wall_time": 0.1 + i} for i, v in enumerate(values)]
    assert service.report(run_name, {"reports": reports}).status == 200
    for form in ("csv", "jsonl"):
        found = rows(form, service.get(f"/export/{run_name}?format={form}").body)
        assert [msgspec.json.encode(row.wall_time) for row in found] == [msgspec.json.encode(0.1 + i) for i in range(6)]
        assert [row.bits for row in found] == [bits_of(value) for value in values]


def test_names_that_a_spreadsheet_would_compute_are_written_as_they_are(service: RunningService, run_name: str) -> None:
    """Every other reader of the table must find the names that were given; docs/export.md tells people."""
    tag = '=HYPERLINK("http://198.51.100.7","x")'
    assert service.report(run_name, {"step": 1, "scalars": {tag: 0.5, "+1": 1.0, "@x": 2.0}}).status == 200
    rows = list(csv.DictReader(io.StringIO(service.get(f"/export/{run_name}?format=csv").body.decode())))
    assert {row["tag"] for row in rows} == {tag, "+1", "@x"}

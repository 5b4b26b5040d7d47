"""GET /metrics: well formed to a strict parser, exactly what docs/operations.md lists, and true."""

import re
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tallyboard_server.api.prometheus import CONTENT_TYPE
from tallyboard_server.api.traffic import kind_of_path
from tests.conftest import StartService
from tests.service import RunningService, until
from tests.sse import listening
from tests.stores import Stores, on

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
Labels = tuple[tuple[str, str], ...]


def scraped(service: RunningService) -> tuple[dict[tuple[str, Labels], float], dict[str, str]]:
    """(value by name and labels, type by family); names without prefix."""
    answer = service.request("GET", "/metrics")
    assert answer.headers["content-type"] == CONTENT_TYPE
    values: dict[tuple[str, Labels], float] = {}
    types: dict[str, str] = {}
    text = answer.body.decode()
    for family in text_string_to_metric_families(text):
        assert family.type in ("counter", "gauge", "histogram"), family.name
        assert family.name not in types
        types[family.name.removeprefix("tallyboard_")] = family.type
        for sample in family.samples:
            key = sample.name.removeprefix("tallyboard_"), tuple(sorted(sample.labels.items()))
            assert sample.name.startswith("tallyboard_")
            assert key not in values
            values[key] = sample.value
    assert text.count("# TYPE ") == len(types)  # none that the parser left out
    assert sum(not line.startswith("#") for line in text.splitlines()) == len(values)
    return values, types


def named(families: dict[str, str]) -> set[str]:
    """The names of families as the page has them: with _total, which the parser takes off counters."""
    return {f"{name}_total" if kind == "counter" else name for name, kind in families.items()}


def listed(store: str, event_files: str) -> set[str]:
    """The figures in the page's tables, of what is only with some store or event files these."""
    headings = re.split(r"^Only with (?:event files in )?(a \w+|\w+|\[.+\])[^|\n]*:$", PAGE, flags=re.MULTILINE)
    tables = {"": headings[0]} | dict(zip(headings[1::2], headings[2::2], strict=True))
    assert set(tables) == {"", "SQLite", "PostgreSQL", "a directory", "[object storage]"}
    rows = [row for name in ("", store, event_files) for row in re.findall(r"^\| (`.*)$", tables[name], re.MULTILINE)]
    firsts = [row.partition("|")[0] for row in rows]
    names = [name for first in firsts for name in re.findall(r"`([a-z_]+)(?:\{[a-z,]+\})?`", first)]
    assert len(names) == len(set(names))
    return set(names)


def test_what_is_documented_is_there_and_what_is_there_is_documented(service: RunningService) -> None:
    service.report("a/b", {"step": 1, "scalars": {"loss": 1.0}})
    _, types = scraped(service)
    assert listed("SQLite", "a directory") == named(types)


@on("postgres")
def test_the_same_with_postgresql_and_objects(stores: Stores, start_service: StartService, tmp_path: Path) -> None:
    service = start_service(**stores.settings(tmp_path), logdir=f"file://{tmp_path}/objects")
    service.report("a/b", {"step": 1, "scalars": {"loss": 1.0}})
    values, types = scraped(service)
    assert listed("PostgreSQL", "[object storage]") == named(types)
    assert (values["replicas_alive", ()], values["replica_shares", ()]) == (1, 64)


def test_labels_are_those_that_the_page_names(service: RunningService) -> None:
    service.report("a/b", {"step": 1, "scalars": {"loss": 1.0}})
    values, _ = scraped(service)
    labelled = {name: set(labels.split(",")) for name, labels in re.findall(r"`([a-z_]+)\{([a-z,]+)\}`", PAGE)}
    for name, labels in values:
        if labels and not name.endswith("_bucket"):
            assert {label for label, _ in labels} == labelled[name], name


def test_reports_and_refusals_are_counted_by_reason(service: RunningService, run_name: str) -> None:
    before, _ = scraped(service)
    service.report(run_name, {"reports": [{"step": s, "scalars": {"a": 1.0, "b": 2.0}} for s in range(5)]})
    assert service.report(run_name, {"step": 1, "scalars": {"a": 3.0}}).status == 409
    mixed = [{"step": step, "scalars": {"a": 9.0}} for step in (2, 4, 6)]
    assert service.report(run_name, {"partial": True, "reports": mixed}).status == 200
    after, _ = scraped(service)

    def grown(name: str, **labels: str) -> float:
        key = name, tuple(sorted(labels.items()))
        return after.get(key, 0.0) - before.get(key, 0.0)

    assert grown("ingest_scalars_total") == 11
    assert grown("ingest_refused_reports_total", reason="step_decreased") == 2
    assert grown("ingest_refused_reports_total", reason="tag_repeated") == 1
    assert grown("ingest_errors_total") == 1
    assert grown("http_requests_total", kind="report", status="200") == 2
    assert grown("http_requests_total", kind="report", status="409") == 1
    assert grown("http_requests_total", kind="operations", status="200") == 1
    assert grown("http_ack_seconds_count") == grown("http_ack_seconds_bucket", le="+Inf") == 2
    assert 0 < grown("store_commit_seconds_total") < 60
    assert after["process_resident_memory_bytes", ()] > 1e6
    assert 0 < after["process_open_fds", ()] < after["process_max_fds", ()]


def test_open_streams_are_counted(service: RunningService) -> None:
    with listening(service) as stream:
        assert stream.event()[0] == "hello"
        values, _ = scraped(service)
        assert values["live_clients", ()] == 1
    assert until(lambda: scraped(service)[0]["live_clients", ()] == 0)


def test_lag_is_how_long_the_oldest_commit_waits(service: RunningService, run_name: str) -> None:
    held, release = threading.Event(), threading.Event()
    exporter = service.parts.views["exporter"]
    engine = exporter._engine  # type: ignore[attr-defined]
    turn = engine.turn

    def slow(*, force: bool = False) -> float:
        held.set()
        release.wait(20)
        return float(turn(force=force))

    engine.turn = slow
    try:
        service.report(run_name, {"step": 1, "scalars": {"loss": 1.0}})
        assert held.wait(10)
        assert until(lambda: scraped(service)[0]["export_lag_seconds", ()] > 0.2)
        assert scraped(service)[0]["export_lag_bytes", ()] > 0
    finally:
        engine.turn = turn
        release.set()
    assert until(lambda: scraped(service)[0]["export_lag_seconds", ()] == 0)
    assert until(lambda: scraped(service)[0]["merge_lag_seconds", ()] == 0)


@pytest.mark.parametrize(("path", "kind"), [
    ("/api/v1/scalars/a/b", "report"), ("/api/v1/scalars", "api"), ("/api/v1/live", "stream"), ("/api/v1/runs", "api"),
    ("/readyz", "operations"), ("/tensorboard/", "tensorboard"), ("/", "page"), ("/nothing", "page"),
])  # fmt: skip
def test_kinds(path: str, kind: str) -> None:
    assert kind_of_path(path) == kind

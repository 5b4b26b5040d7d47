"""The benchmark itself at its smallest: every row runs, and finds again what it sent. No figure is judged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.bench import crowd, local_rows, run, soak
from tests.bench.plan import Bench, prepared
from tests.bench.result import Row
from tests.bench.service import serving
from tests.bench.sizes import TINY
from tests.bench.table import render

NAMES = {
    "baseline": ["baseline"],
    "encoder": ["encoder-100", "encoder-1", "encoder-1000"],
    "spool": ["spool-write", "spool-drain"],
    "finish": ["finish-idle", "finish-hanging"],
    "runs": ["runs-1", "runs-5"],
    "rewind": ["rewind-1000", "rewind-20000"],
    "table": ["table-20", "table-150-sorted"],
    "charts": ["chart-500", "chart-40000"],
    "charts-many": ["charts-3"],
    "engines": [f"{engine}-{shape}" for shape in ("1000", "single") for engine in ("sqlite", "postgres×2")],
    "postgres-size": ["postgres-size", "postgres-singles"],
    "export": ["export-csv", "export-jsonl", "export-parquet", "export-tfevents", "export-read"],
}
LOCAL = (
    "baseline", "encoder-1", "encoder-100", "encoder-1000", "spool-write",
    "store-size", "store-singles", "postgres-size", "postgres-singles",
)  # fmt: skip


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Bench], Row]:
    """The baseline, measured once for all rows that stand beside it."""
    with prepared(TINY, tmp_path_factory.mktemp("baseline")) as measured:
        row = local_rows.baseline(measured)

    def again(bench: Bench) -> Row:
        bench.baseline, bench.baseline_call_s = measured.baseline, measured.baseline_call_s
        return row

    return again


@pytest.mark.slow
@pytest.mark.parametrize("name", run.ROWS)
def test_row_finds_again_what_it_sent(
    name: str, baseline: Callable[[Bench], Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "baseline":
        monkeypatch.setitem(run.ROWS, "baseline", baseline)
    said: list[str] = []
    results = run.measure(TINY, tmp_path, [name], say=said.append)
    rows = {row.name: row for row in results.rows}
    assert list(rows) == list(dict.fromkeys(["baseline", *NAMES.get(name, [name])]))
    assert len(said) == len(rows)
    for row in rows.values():
        assert row.error is None
        assert row.rate is not None
        assert row.rate > 0
        if row.name not in LOCAL:
            check_service_row(row)
    assert not list(tmp_path.iterdir()), "data of the rows was left behind"
    assert all(row in render(results.machine, results.rows) for row in rows)
    assert msgspec.json.decode(msgspec.json.encode(results))["rows"][0]["name"] == "baseline"


def check_service_row(row: Row) -> None:
    assert row.usage is not None
    assert row.usage.requests > 0 or row.name.startswith("export"), "what was sent was sent before"
    assert row.usage.rss_bytes > 1_000_000
    assert row.usage.log_bytes > 0 or row.name.startswith("postgres")
    if row.cost is not None:
        assert row.cost.log_bytes > 6, "each scalar is written at least once; the log is looked at now and then"
        assert (row.cost.database_ns > 0) == row.name.startswith("postgres")
    assert row.usage.descriptors > 0
    if row.name.startswith(("rewind", "table", "chart", "export", "board", "import", "every")):
        exact = next(goal for goal in row.goals if goal.text.endswith(" exact"))
        assert exact.met, row.notes
        return
    assert row.stored is not None
    assert row.stored.faults == ()
    assert row.stored.sent_scalars == row.stored.stored_scalars > 0
    assert row.stored.points == row.stored.sent_scalars, "at this size every point is read"
    assert row.stored.event_reports > 0


@pytest.mark.slow
def test_a_crowd_beside_an_abusive_client_is_found_again(tmp_path: Path) -> None:
    found = crowd.crowded(tmp_path, 20, 1.0, crowd.ABUSES[1], TINY.settings)
    assert found.row.stored is not None
    assert found.row.stored.faults == ()
    assert found.abuser is not None
    assert sum(batches[0] for batches in found.abuser.batches) > crowd.ABUSES[1].connections, "it did abuse"
    alone = replace(found, abuser=None)
    crowd.compared(alone, [found])
    assert found.row.goals[-1].reached == "1.00×"
    assert all(goal.text in crowd.described(found.row) for goal in found.row.goals)


@pytest.mark.slow
def test_everything_at_once_goes_well_for_some_seconds(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        found = soak.soaked(served, 2.5)
    assert found.errors == {}
    assert found.counts["events heard"] > 0
    for what in ("POST /api/v1/scalars", "PUT /api/v1/runs", "POST /api/v1/rewind", "GET /api/v1/scalars"):
        assert found.counts[what] > 0
    assert soak.slope_per_hour([soak.Look(at, 7 * at, 0, 0, 0, 0) for at in range(10)], "rss_bytes") == pytest.approx(
        25_200
    )
    assert all(word in soak.described(found) for word in ("rss_bytes", "threads", "errors: 0"))


def test_difference_fails_the_row(
    baseline: Callable[[Bench], Row], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that forgot something must not get a place in the table."""
    from tests.bench import load, load_rows, readback

    def one_more(plan: load.Plan, loaded: load.Loaded) -> list[readback.Sent]:
        first, *rest = readback.sent(plan, loaded)
        return [readback.Sent(first.run, first.counter, first.tags, first.reports + 1), *rest]

    monkeypatch.setitem(run.ROWS, "baseline", baseline)
    monkeypatch.setattr(load_rows, "sent", one_more)
    rows = run.measure(TINY, tmp_path, ["msgpack-100"], say=lambda _: None).rows
    assert rows[-1].failed
    assert rows[-1].stored is not None
    assert len(rows[-1].stored.faults) == readback.FAULTS_MAX
    assert "MISMATCH" in render({}, rows)


def test_row_that_breaks_off_does_not_take_others_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(bench: object) -> Row:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(run.ROWS, "encoder", broken)
    rows = run.measure(TINY, tmp_path, ["encoder"], say=lambda _: None).rows
    assert [row.failed for row in rows] == [False, True]
    assert rows[-1].error == "RuntimeError: no such luck"

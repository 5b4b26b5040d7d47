"""Requests about a run that come to a service which does not work for it: repairs, verifications, prunes, cursors."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tallyboard_server.settings import Settings
from tests.cli_process import report
from tests.integration.test_prune import post, verified, wait_until_merged
from tests.service import RunningService, serving, until
from tests.stores import Stores, on

pytestmark = on("postgres")


@pytest.fixture(scope="module")
def pair(stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningService]]:
    """Two that share a database and a logdir, and have half of the runs each."""
    folder = tmp_path_factory.mktemp("pair")
    with ExitStack() as stack:
        found = []
        for number in range(2):
            own = {"data_dir": folder / str(number), "logdir": folder / "logdir", "port": 0, "watchdogs": False}
            quick = {"export_interval_s": 0.05, "export_sync_interval_s": 0.1}
            found.append(stack.enter_context(serving(Settings(**(stores.settings(folder) | own | quick)))))
        assert until(lambda: [held(service) for service in found] == [32, 32])
        yield found


def held(service: RunningService) -> int:
    return sum(map(service.parts.shares.has, range(64)))


def run_id_of(service: RunningService, run: str) -> int:
    with service.parts.store.snapshot() as view:
        state = view.load(run)
    assert state is not None
    return state.id


def runs_of_each(pair: list[RunningService], name: str) -> list[str]:
    """A run that the first one works for, and one of the second."""
    found: dict[bool, str] = {}
    for number in range(40):
        run = f"{name}-{number}"
        assert pair[0].report(run, {"step": 1, "scalars": {"loss": 0.5}}).status == 200
        found.setdefault(pair[0].parts.shares.has(run_id_of(pair[0], run)), run)
        if len(found) == 2:
            return [found[True], found[False]]
    raise AssertionError("the runs all went to one of them")


def files_of(service: RunningService, run: str) -> list[str]:
    return sorted(path.name for path in (service.logdir / run).glob("events*"))


def test_a_repair_reaches_whoever_writes_the_runs_event_files(pair: list[RunningService], run_name: str) -> None:
    for run in runs_of_each(pair, run_name):
        assert until(lambda: len(files_of(pair[0], run)) == 1)  # noqa: B023
        (before,) = files_of(pair[0], run)
        for service in pair:
            repaired = service.send("POST", f"/repair/{run}", {"reason": "a test"})
            assert (repaired.status, repaired.json()["done"]) == (200, True), repaired.body
            assert repaired.json()["event_file"] not in (None, before)
            before = repaired.json()["event_file"]
            assert before in files_of(service, run)


def test_a_repair_is_asked_for_again_if_nobody_heard(
    pair: list[RunningService], run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tallyboard_server.api.safety.ASK_AGAIN_S", 0.5)
    _, elsewhere = runs_of_each(pair, run_name)
    assert until(lambda: len(files_of(pair[0], elsewhere)) == 1)
    news, asked = pair[0].parts.rebuild_elsewhere, []

    def deaf_at_first(run_id: int, run: str) -> None:
        asked.append(run)
        if len(asked) > 1:
            news(run_id, run)

    object.__setattr__(pair[0].parts, "rebuild_elsewhere", deaf_at_first)
    try:
        repaired = pair[0].send("POST", f"/repair/{elsewhere}", {})
    finally:
        object.__setattr__(pair[0].parts, "rebuild_elsewhere", news)
    assert (repaired.status, repaired.json()["done"]) == (200, True)
    assert 2 <= len(asked) <= 4


def test_any_of_them_verifies_any_run(pair: list[RunningService], run_name: str) -> None:
    for run in runs_of_each(pair, run_name):
        for service in pair:
            assert service.report(run, {"step": 2, "scalars": {"loss": 1.0}}).status == 200

            def is_whole() -> bool:
                return bool(verified(service, run)["ok"])  # noqa: B023

            assert until(is_whole), verified(service, run)


def test_event_files_follow_a_prune_that_came_to_another_service(pair: list[RunningService], run_name: str) -> None:
    for number, run in enumerate(runs_of_each(pair, run_name)):
        other = pair[1 - number]
        report(pair[0], run, range(2, 4_000))
        wait_until_merged(pair[0], run)
        (before,) = files_of(other, run)
        outcome = post(other, run, thin=100, dry_run=False)["outcome"]
        assert outcome["thinned"] > 2_000
        assert until(lambda: len(files_of(other, run)) == 2), f"{before} shows what was pruned"  # noqa: B023
        assert until(lambda: bool(verified(other, run)["ok"]))  # noqa: B023


def test_a_cursor_goes_on_wherever_it_is_taken(pair: list[RunningService], run_name: str) -> None:
    one, other = pair
    for number in range(3):
        one.report(f"{run_name}/{number}", {"step": 1, "scalars": {"loss": 0.5}})
    query = f"/runs?limit=2&project={run_name}&sort=-created_at"
    names, cursor = [], ""
    for service in (one, other):
        page = service.get(query + cursor).json()
        names += [row["run"] for row in page["runs"]]
        cursor = f"&cursor={page['cursor']}"
    assert sorted(names) == [f"{run_name}/{number}" for number in range(3)]
    asked = {"runs": [f"{run_name}/0"], "tags": ["loss"]}
    first = one.send("POST", "/query", asked)
    other.report(f"{run_name}/0", {"step": 2, "scalars": {"loss": 0.25}})
    more = other.send("POST", "/query", asked | {"since": first.json()["cursor"]}).json()
    assert more["series"][0]["points"]["step"] == [2]
    again = one.request("GET", f"/api/v1/tags?run={run_name}/0")
    same = other.request("GET", f"/api/v1/tags?run={run_name}/0", headers={"If-None-Match": again.headers["etag"]})
    assert same.status == 304, "what tells answers apart is the same on all"

"""Pruning a service: by HTTP, by the command line, by settings; and what TensorBoard and verify see after it."""

import time
from operator import methodcaller
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallyboard_server.retention import Pruner, Rules, Worker
from tallyboard_server.settings import Settings
from tests.cli_process import Cli, report
from tests.conftest import StartService
from tests.eventfiles_kit import Service as LocalService
from tests.eventfiles_kit import settle
from tests.service import RunningService, serving, until
from tests.unit.test_retention import merge_all, rewound, state_of
from tests.verify_kit import verify as verify_local

DAY_S = 86_400.0


@pytest.fixture
def quick(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> RunningService:
    """A service whose event files follow at once; the command line finds it."""
    running = start_service(export_interval_s=0.05, export_sync_interval_s=0.05)
    monkeypatch.setenv("TALLYBOARD_URL", running.url)
    return running


def filled(service: RunningService, run: str = "a/b", steps: int = 4_000, back_to: int = 3_000) -> None:
    """Many steps of which the last are superseded, finished, so that they are merged to the last; waits until then."""
    report(service, run, range(steps))
    service.send("POST", f"/rewind/{run}", {"next_steps": {"global_step": back_to}})
    report(service, run, range(back_to, back_to + 10))
    wait_until_merged(service, run)


def wait_until_merged(service: RunningService, run: str) -> None:
    """As after a minute of silence, at once."""
    store = service.parts.store

    def is_exported() -> bool:
        with store.snapshot() as view:
            state = view.load(run)
            assert state is not None
            live = [g for g in view.generations(state.id) if g.state == "live"]
        return bool(live) and live[-1].exported_pos >= state.pos and live[-1].epoch == state.epoch

    assert until(is_exported)
    with store.snapshot() as view:
        state = view.load(run)
        assert state is not None
        for counter in state.counters.values():
            for attempt in counter.attempts:
                place = state.id, counter.id, attempt.number
                sources = view.whole_batches(*place, up_to_pos=state.pos, rows_max=10**9)
                if sources:
                    merged = store.prepare_merge(state.id, sources)
                    service.parts.ingest.record(methodcaller("merge", merged))


def post(service: RunningService, run: str, **body: Any) -> Any:
    """The last line of POST /prune."""
    answer = service.send("POST", f"/prune/{run}", body)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson"), answer.body
    return msgspec.json.decode(answer.body.splitlines()[-1])


def verified(service: RunningService, run: str) -> Any:
    """The report of GET /verify."""
    return msgspec.json.decode(service.get(f"/verify/{run}").body.splitlines()[-1])["report"]


def test_by_default_it_only_looks(quick: RunningService) -> None:
    filled(quick)
    outcome = post(quick, "a/b", superseded=True, thin=100)["outcome"]
    assert (outcome["superseded"], outcome["deleted"]) == (1_000, False)
    assert outcome["thinned"] > 2_000
    assert len(quick.get("/export/a/b?attempts=all").body.splitlines()) == 1 + 4_010
    assert verified(quick, "a/b")["attempts"][0]["pruned"] == 0


def test_pruned_runs_verify_clean_and_show_what_is_left(quick: RunningService) -> None:
    filled(quick)
    outcome = post(quick, "a/b", superseded=True, thin=100, dry_run=False)["outcome"]
    found = verified(quick, "a/b")
    assert found["ok"], found["differences"]
    first, second = found["attempts"]
    assert first["pruned"] + second["pruned"] == outcome["superseded"] + outcome["thinned"]
    assert first["sent"] - first["pruned"] == first["stored"] == first["in_file"]
    left = quick.points("a/b", "loss")
    assert 25 <= len(left) <= 120
    assert {0, 3_009} <= {step for step, _ in left}
    assert all(value == step / 8 for step, value in left)
    report(quick, "a/b", range(3_010, 3_020))
    assert verified(quick, "a/b")["ok"]
    assert post(quick, "a/b", superseded=True, dry_run=False)["outcome"]["superseded"] == 0


def test_only_what_is_old_enough(quick: RunningService) -> None:
    filled(quick)
    outcome = post(quick, "a/b", superseded=True, whole=True, older_than_s=3_600, dry_run=False)["outcome"]
    assert outcome["skipped"].startswith("something was heard of it 0.0 d ago")
    assert quick.get("/runs/a/b").status == 200


def test_a_whole_run(quick: RunningService) -> None:
    filled(quick)
    assert post(quick, "a/b", whole=True, dry_run=False)["outcome"]["scalars"] == 4_010
    assert quick.get("/runs/a/b").status == 410
    assert until(lambda: not (quick.logdir / "a" / "b").exists())
    assert quick.send("POST", "/prune/a/b", {}).status == 410


def test_bodies_that_are_refused(service: RunningService) -> None:
    report(service, "some/run", range(2))
    for body, field in (
        ({"thin": 99}, "$.thin"),
        ({"older_than_s": -1}, "$.older_than_s"),
        ({"everything": True}, "$"),
    ):
        answer = service.send("POST", "/prune/some/run", body)
        assert (answer.status, answer.json()["code"]) == (422, "invalid_body")
        assert answer.json()["field"].startswith(field)
    assert service.send("POST", "/prune/no/run", {}).status == 404


def test_an_export_that_is_pruned_meanwhile_breaks_off(quick: RunningService, monkeypatch: pytest.MonkeyPatch) -> None:
    import tallyboard
    from tallyboard_server.export import pages

    filled(quick)
    monkeypatch.setattr(pages, "PAGE_BYTES", 1)
    really = pages.Reader._read
    reads = 0

    def between(reader: pages.Reader, part: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            post(quick, "a/b", superseded=True, dry_run=False)
        return really(reader, part)

    monkeypatch.setattr(pages.Reader, "_read", between)
    with pytest.raises(tallyboard.ReadError, match="a/b was pruned while it was exported"):
        tallyboard.read("a/b", attempts="all")


class TestCommandLine:
    """`tallyboard prune`."""

    def test_says_what_would_go_and_then_does_it(self, cli: Cli, quick: RunningService) -> None:
        filled(quick, "mnist/one")
        filled(quick, "mnist/two", steps=3_010)
        report(quick, "other/run", range(10))
        outcome = cli("prune", "mnist/*", "--attempts")
        assert outcome.code == 0, outcome
        assert "1,010 points of 2 runs, about 9,090 bytes, would go; --yes does it" in outcome.out
        assert "other/run" not in outcome.out
        assert "1,010 points of 2 runs, about 9,090 bytes, went" in cli("prune", "mnist/*", "--attempts", "--yes").out
        assert "nothing to remove" in cli("prune", "mnist/*", "--attempts", "--yes").out
        shown = cli("verify", "mnist/one")
        assert shown.code == 0
        assert "1,000 pruned" in shown.out

    def test_old_runs(self, cli: Cli, quick: RunningService) -> None:
        filled(quick, "mnist/one")
        young = cli("prune", "--older-than", "90d", "--attempts", "--thin", "1000", "--runs", "--yes")
        assert (young.code, "1 run not old enough" in young.out) == (0, True)
        assert "nothing to remove" in young.out
        gone = cli("prune", "--older-than", "0d", "--runs", "--yes")
        assert (gone.code, "the whole run" in gone.out) == (0, True)
        assert quick.get("/runs/mnist/one").status == 410

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            (("a/b",), "say what is to go"),
            (("--attempts",), "say which runs"),
            (("a/b", "--runs"), "say which by --older-than"),
            (("a/b", "--attempts", "--older-than", "90"), "is no age"),
            (("a/b", "--thin", "5"), "100"),
        ],
    )
    def test_lines_that_make_no_sense(
        self, cli: Cli, quick: RunningService, arguments: tuple[str, ...], told: str
    ) -> None:
        outcome = cli("prune", *arguments)
        assert (outcome.code, told in outcome.err) == (2, True), outcome

    def test_runs_that_are_not_there(self, cli: Cli, quick: RunningService) -> None:
        assert cli("prune", "no/run", "--attempts").code == 4
        assert cli("prune", "no/*", "--attempts").code == 4
        assert cli("prune", "--older-than", "1d", "--attempts").out == "nothing to remove\n"

    def test_a_data_directory_that_nobody_owns(self, cli: Cli, tmp_path: Path) -> None:
        settings = Settings(data_dir=tmp_path / "own", port=0, export_interval_s=0.05, export_sync_interval_s=0.05)
        with serving(settings) as service:
            filled(service)
        option = ("--data-dir", str(settings.data_dir))
        assert "1,000 points of 1 run" in cli("prune", "a/*", "--attempts", *option).out
        assert cli("prune", "a/b", "--attempts", "--thin", "100", "--yes", *option).code == 0
        assert cli("prune", "no/run", "--attempts", *option).code == 4
        assert cli("prune", "a/b", "--attempts", "--older-than", "1h", *option).out.startswith("1 run not old enough")
        with serving(settings) as service:
            found = verified(service, "a/b")
            assert found["ok"], found["differences"]
            assert found["attempts"][0]["pruned"] > 3_000


class TestRules:
    """What settings say when."""

    @pytest.mark.parametrize(
        ("silent_days", "expected"),
        [(0.9, None), (1.0, (True, None, False)), (5.0, (True, 100, False)), (31.0, (False, None, True))],
    )
    def test_what_is_due(self, silent_days: float, expected: tuple[bool, int | None, bool] | None) -> None:
        rules = Rules(superseded_days=1.0, thin_days=5.0, thin_points=100, runs_days=30.0)
        policy = rules.policy(silent_days * DAY_S, 1e9)
        assert (policy and (policy.superseded, policy.thin, policy.whole)) == expected
        if policy is not None:
            assert policy.changed_before is not None
            assert 1e9 - silent_days * DAY_S <= policy.changed_before

    def test_by_default_nothing_is_ever_due(self) -> None:
        assert not Rules().any
        assert Rules().policy(1e12, 1e12) is None


class TestWorker:
    """The background worker on a store of its own."""

    @pytest.fixture
    def local(self, tmp_path: Path) -> Any:
        with LocalService(tmp_path / "local") as service:
            rewound(service)
            yield service

    def worker(self, local: LocalService, now: float, **rules: Any) -> Worker:
        pruner = Pruner(
            local.store, local.ingest.record, local.ingest.submit_blocking, local.ingest.heartbeats.last_seen,
            clock=lambda: now,
        )  # fmt: skip
        return Worker(pruner, Rules(**rules), sleep=lambda _s: None)

    def test_takes_what_is_due_once(self, local: LocalService) -> None:
        updated_at = state_of(local).meta.updated_at
        early = self.worker(local, updated_at + 0.9 * DAY_S, superseded_days=1.0)
        early.sweep()
        assert early.stats()["retention_superseded_scalars_total"] == 0
        late = self.worker(local, updated_at + 1.1 * DAY_S, superseded_days=1.0, thin_days=1.0, thin_points=100)
        for _ in range(4):
            late.sweep()
        stats = late.stats()
        assert stats["retention_superseded_scalars_total"] == 2_000
        assert stats["retention_thinned_scalars_total"] > 4_000
        assert (stats["retention_sweeps_total"], stats["retention_errors_total"]) == (4, 0)
        settle(local.engine())
        assert verify_local(local, "a/b").ok

    def test_a_settled_run_is_not_read_again_until_it_grows(
        self, local: LocalService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = self.worker(local, time.time() + 2 * DAY_S, superseded_days=1.0)
        worker.sweep()
        worker.sweep()
        begun: list[str] = []
        really = Pruner.run

        def counted(self: Pruner, name: str, *arguments: Any, **named: Any) -> Any:
            begun.append(name)
            return really(self, name, *arguments, **named)

        monkeypatch.setattr(Pruner, "run", counted)
        worker.sweep()
        assert begun == []
        local.rewind("a/b", global_step=2_900)
        settle(local.engine())
        merge_all(local)
        worker.sweep()
        assert begun == ["a/b"]
        assert worker.stats()["retention_superseded_scalars_total"] == 2_000 + 100

    def test_heartbeats_keep_a_run_young(self, local: LocalService) -> None:
        now = time.time() + 40 * DAY_S
        local.ingest.heartbeats.beat("a/b", now - 60)
        worker = self.worker(local, now, runs_days=30.0, superseded_days=1.0)
        worker.sweep()
        assert state_of(local).name == "a/b"
        assert worker.stats()["retention_superseded_scalars_total"] == 0

    def test_whole_runs(self, local: LocalService) -> None:
        worker = self.worker(local, time.time() + 40 * DAY_S, runs_days=30.0)
        worker.sweep()
        assert worker.stats()["retention_deleted_runs_total"] == 1
        with local.store.snapshot() as view:
            assert view.load("a/b") is None

    def test_one_run_that_fails_does_not_keep_the_others(
        self, local: LocalService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        local.report("a/c", [1, 2], {"loss": [0.5, 0.5]})
        really = Pruner.run

        def failing(self: Pruner, name: str, *arguments: Any, **named: Any) -> Any:
            if name == "a/b":
                raise ValueError("no such luck")
            return really(self, name, *arguments, **named)

        monkeypatch.setattr(Pruner, "run", failing)
        worker = self.worker(local, time.time() + 40 * DAY_S, runs_days=30.0)
        worker.sweep()
        stats = worker.stats()
        assert (stats["retention_errors_total"], stats["retention_deleted_runs_total"]) == (1, 1)
        assert "run a/b can't be pruned" in caplog.text


def test_a_service_with_rules_prunes_by_itself(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    from tallyboard_server.retention import worker

    monkeypatch.setattr(worker, "DAY_S", 1e-6)
    monkeypatch.setattr(worker.Worker.__init__, "__kwdefaults__", {"interval_s": 0.1, "sleep": None})
    service = start_service(export_interval_s=0.05, export_sync_interval_s=0.05, retention_superseded_days=1.0)
    filled(service)
    metrics = "tallyboard_retention_superseded_scalars_total 1000"
    assert until(lambda: metrics in service.request("GET", "/metrics").body.decode())
    assert verified(service, "a/b")["ok"]

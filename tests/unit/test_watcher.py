"""Watchdogs on a real store and writer; only the clock is made up."""

import math
from collections.abc import Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tallyboard_server.model import Block, frozen
from tallyboard_server.notify import Webhook
from tallyboard_server.store.protocol import StoreBusyError, StoreFullError, Work
from tallyboard_server.watch import Bound, Rules, WatchRules, WebhookRule
from tallyboard_server.watch import inbox as inboxes
from tallyboard_server.watch import ledger as ledgers
from tallyboard_server.watch.facts import Facts
from tallyboard_server.watch.hearsay import MISSED_EVERY_S
from tallyboard_server.watch.points import is_finite, look
from tests.eventfiles_kit import Clock
from tests.watch_kit import RUN, Watched, watched

BEGIN = 1_000_000.0
HOOK = Webhook("http://127.0.0.1:9/")


@pytest.fixture
def clock() -> Clock:
    return Clock(BEGIN)


@pytest.fixture
def life(tmp_path: Path, clock: Clock) -> Iterator[Watched]:
    with watched(tmp_path, clock) as life:
        life.look()
        yield life


def train(life: Watched, steps: range, every_s: float = 2.0) -> None:
    """A job that reports, and is looked at, every few seconds."""
    for step in steps:
        life.report(step)
        life.look()
        life.clock.now += every_s


def points(steps: range) -> dict[str, Any]:
    """A batch of good points."""
    return {"reports": [{"step": step, "scalars": {"loss": 0.5}} for step in steps]}


def idle(life: Watched, seconds: float) -> None:
    """A job that is alive and says nothing else."""
    until = life.clock.now + seconds
    while life.clock.now < until:
        life.clock.now = min(until, life.clock.now + 60.0)
        life.beat()
        life.look()


def no_room(_work: object) -> None:
    """As Ingest.record on a full disk."""
    raise StoreFullError("no room")


class TestLost:
    def test_it_is_told_once_and_so_is_that_it_is_back(self, life: Watched) -> None:
        train(life, range(1, 4))
        life.clock.now += 290.0
        life.look()
        assert life.incidents() == []
        life.clock.now += 20.0
        life.look()
        life.look()
        assert life.incidents() == [("lost", "")]
        (told,) = life.alerts()
        assert (told.alert.title, told.alert.level) == ("no sign of life for 5 min", "warn")
        assert told.alert.at == {"global_step": 3}
        life.beat()
        life.look()
        assert life.incidents() == []
        assert life.titles()[1:] == ["recovered: it is heard of again"]
        assert life.changed == [RUN, RUN]

    def test_it_does_not_touch_when_the_run_was_heard_of(self, life: Watched) -> None:
        train(life, range(1, 4))
        with life.store.snapshot() as view:
            before = view.run_versions()[0]
            updated = view.heads()[0].updated_at
        life.clock.now += 400.0
        life.look()
        with life.store.snapshot() as view:
            assert view.heads()[0].updated_at == updated
            assert view.run_versions()[0].version > before.version  # so tables that show its alerts look again

    def test_who_owes_no_sign_of_life_is_not_lost(self, life: Watched) -> None:
        life.send({"producer": None, "seq": None, "reports": [{"step": 1, "scalars": {"a": 1}}]})
        life.clock.now += 9_000.0
        life.look()
        assert life.incidents() == []

    def test_a_run_that_was_lost_long_before_anybody_watched_is_shown_only(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock) as life:
            life.report(1)
            clock.now += 9_000.0
            with life.store.transaction() as transaction:
                transaction.save_heartbeats({}, clock.now)
        with watched(tmp_path, clock) as life:
            life.look()
            assert life.incidents() == [("lost", "")]
            assert life.titles() == []
            life.beat()
            life.look()
            assert (life.incidents(), life.titles()) == ([], [])

    def test_the_clock_may_be_put_back(self, life: Watched, clock: Clock) -> None:
        life.report(1)
        life.look()
        clock.now -= 86_400.0
        life.report(2)
        life.watcher.turn()
        clock.now += 400.0
        life.watcher.turn()
        assert life.incidents() == [("lost", "")]

    def test_a_project_can_wait_longer(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock, Rules(lost_after_s=1_000.0)) as life:
            train(life, range(1, 4))
            clock.now += 900.0
            life.look()
            assert life.incidents() == []
            clock.now += 200.0
            life.look()
            assert life.incidents() == [("lost", "")]


class TestStalled:
    def test_a_run_that_moved_all_the_time_and_stops(self, life: Watched) -> None:
        train(life, range(1, 20))
        idle(life, 290.0)
        assert life.incidents() == []
        idle(life, 60.0)
        assert life.incidents() == [("stalled", "")]
        (told,) = life.alerts()
        assert told.alert.level == "warn"
        assert told.alert.text == (
            "The job is heard of, but does not get on: global_step 19. Before, one moved every 2 s."
        )
        life.report(20)
        life.look()
        assert life.titles()[1:] == ["recovered: its counters move again"]

    def test_a_slow_one_is_given_time(self, life: Watched) -> None:
        train(life, range(1, 20), every_s=100.0)
        idle(life, 890.0)
        assert life.incidents() == []
        idle(life, 120.0)
        assert life.incidents() == [("stalled", "")]

    def test_what_paused_once_may_pause_so_again(self, life: Watched) -> None:
        train(life, range(1, 10))
        idle(life, 280.0)
        train(life, range(10, 20))
        idle(life, 500.0)
        assert life.incidents() == []
        idle(life, 120.0)
        assert life.incidents() == [("stalled", "")]

    def test_of_a_new_run_nothing_is_told_for_an_hour(self, life: Watched) -> None:
        train(life, range(1, 4))
        idle(life, 3_500.0)
        assert life.incidents() == []
        idle(life, 200.0)
        assert life.incidents() == [("stalled", "")]

    def test_a_job_that_takes_a_run_up_may_read_its_data_first(self, life: Watched) -> None:
        train(life, range(1, 20))
        life.producer, life._seqs = "job-2", {}
        life.open()
        idle(life, 3_500.0)
        assert life.incidents() == []
        train(life, range(20, 22))
        idle(life, 400.0)
        assert life.incidents() == [("stalled", "")]

    def test_one_counter_of_several_is_no_more_than_worth_knowing(self, life: Watched) -> None:
        for step in range(1, 30):
            life.report(step, counter="epoch", scalars={"acc": 0.5})
            life.report(step)
            life.look()
            life.clock.now += 10.0
        for step in range(30, 80):
            life.report(step)
            life.look()
            life.clock.now += 10.0
        assert [(one.key, one.level, one.told) for one in life.kept()] == [(("stalled", "epoch"), "info", False)]
        life.report(30, counter="epoch", scalars={"acc": 0.5})
        life.look()
        assert (life.incidents(), life.titles()) == ([], [])

    def test_the_machines_own_counter_and_those_of_tags_do_not_count(self, life: Watched) -> None:
        for step in range(1, 20):
            life.report(step, {"cpu": 0.5}, counter="system")
            life.report(step, {"x": 0.5}, counter="tag:x")
            life.look()
            life.clock.now += 2.0
        idle(life, 9_000.0)
        assert life.incidents() == []

    def test_who_is_lost_is_not_stalled_too_nor_when_it_comes_back(self, life: Watched) -> None:
        train(life, range(1, 20))
        idle(life, 400.0)
        life.clock.now += 400.0
        life.look()
        assert life.incidents() == [("lost", "")]
        life.beat()
        life.look()
        idle(life, 200.0)
        assert life.incidents() == []
        assert life.titles()[1:] == ["no sign of life for 7 min", "recovered: it is heard of again"]

    def test_nor_if_it_stood_still_before_a_restart(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock) as life:
            train(life, range(1, 20))
            idle(life, 400.0)
            assert life.incidents() == [("stalled", "")]
        with watched(tmp_path, clock) as life:
            life.look()
            clock.now += 400.0
            life.look()
            assert life.incidents() == [("lost", "")]
            life.beat()
            life.look()
            assert life.incidents() == []

    def test_it_ends_with_the_run_and_nobody_is_told_that_it_is_well(self, life: Watched) -> None:
        train(life, range(1, 20))
        idle(life, 400.0)
        life.patch(status="finished")
        life.look()
        assert life.incidents() == []
        assert len(life.titles()) == 1

    def test_a_counter_that_is_reported_but_never_incremented(self, life: Watched) -> None:
        for value in range(12):
            life.report(0, {"loss": float(value)})
        life.look()
        assert life.incidents() == [("refused", "tag_repeated"), ("unmoved", "global_step")]
        assert "global_step is reported, but does not move" in life.titles()
        life.report(1)
        life.look()
        assert life.incidents() == [("refused", "tag_repeated")]
        assert life.titles()[-1] == "recovered: global_step moves"


class TestPoints:
    @pytest.mark.parametrize(("value", "title"), [("NaN", "loss is NaN"), ("-Infinity", "loss is infinite")])
    def test_a_value_that_is_not_finite(self, life: Watched, value: str, title: str) -> None:
        life.report(3_120, {"loss": value, "acc": 0.5})
        life.look()
        life.report(3_121, {"loss": value})
        life.look()
        assert life.incidents() == [("nonfinite", "loss")]
        (told,) = life.alerts()
        assert (told.alert.title, told.alert.level) == (title, "error")
        assert told.alert.text == "The last such value stands at global_step 3,120."

    def test_it_is_well_after_a_hundred_good_points(self, life: Watched) -> None:
        life.report(1, {"loss": "NaN"})
        life.look()
        life.send(points(range(2, 101)))
        life.look()
        assert life.incidents() == [("nonfinite", "loss")]
        life.report(101)
        life.look()
        assert life.titles() == ["loss is NaN", "recovered: loss is finite again"]

    def test_or_after_ten_minutes_of_good_ones(self, life: Watched) -> None:
        life.report(1, {"loss": "NaN"})
        life.look()
        idle(life, 700.0)
        assert life.incidents() == [("nonfinite", "loss")]  # nothing came that was good
        life.report(2)
        life.look()
        assert life.incidents() == []

    def test_a_rewind_to_before_it_is_a_remedy(self, life: Watched) -> None:
        train(life, range(1, 10))
        life.report(10, {"loss": "NaN"})
        life.look()
        life.send({"rewind": {"next_steps": {"global_step": 5}}})
        life.look()
        assert life.incidents() == []

    def test_superseded_points_do_not_count(self, life: Watched) -> None:
        train(life, range(1, 10))
        other = {"producer": "other", "seq": 1, "partial": True}
        life.send({"rewind": {"next_steps": {"global_step": 5}}} | other)
        life.report(10, {"loss": "NaN"})  # the old writer's, beyond the cut
        life.look()
        assert life.incidents() == []

    def test_many_tags_are_one_alert(self, life: Watched) -> None:
        life.report(1, {f"grad/{number:03d}": "NaN" for number in range(150)})
        life.look()
        (told,) = life.alerts()
        assert told.alert.title == "grad/000 is NaN, and 99 more"
        assert len(life.kept()) == 100  # of so many is kept count

    def test_bounds_are_a_projects_own(self, life: Watched) -> None:
        life.report(1, {"val/loss": 99.0})
        life.look()
        assert life.incidents() == []
        life.book.put("p", WatchRules(limits=(Bound(tag="val/*", max=10.0), Bound(tag="lr", min=0.0))))
        life.report(2, {"val/loss": 12.5, "lr": -0.5, "other": 1e9})
        life.look()
        assert life.incidents() == [("bounds", "lr"), ("bounds", "val/loss")]
        (told,) = life.alerts()
        assert told.alert.title == "val/loss is 12.5, above 10, and 1 more"
        assert "lr is -0.5, below 0." in told.alert.text
        life.report(3, {"val/loss": "Infinity"})  # that is not out of bounds but not finite
        life.look()
        assert life.incidents() == [("bounds", "lr"), ("bounds", "val/loss"), ("nonfinite", "val/loss")]
        life.book.put("p", None)
        life.look()
        assert life.incidents() == [("nonfinite", "val/loss")]
        assert not any(title.startswith("recovered") for title in life.titles())

    def test_only_numbers_are_looked_at(self, life: Watched) -> None:
        state = life.report(1, {"loss": 0.5, "image": 0.5}).state
        image = replace(state.tags["image"], kind="images")  # where a number has its value, it has the key of its blob
        state = replace(state, tags=frozen({**state.tags, "image": image}))
        ids = np.array([state.tags["loss"].id, image.id], np.int32)
        values = np.array([[0.5, math.nan], [math.inf, math.nan], [0.5, 0.5]])
        block = Block(2, state.counters["global_step"].id, 1, ids, np.array([1, 2, 3]), np.zeros(3), values)
        assert not is_finite(block)
        assert is_finite(block.take(slice(2, 3)))
        facts = Facts.of(state, BEGIN)
        look(facts, state, [block], Rules(), BEGIN)
        assert [(key, bad.step, bad.good) for key, bad in facts.bad.items()] == [(("nonfinite", "loss"), 2, 1)]

    def test_what_waits_to_be_looked_at_is_bounded(self, life: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(inboxes, "BLOCK_BYTES_MAX", 100)
        for step in range(1, 21):
            life.report(step, {"loss": "NaN"})
        assert life.watcher.stats()["watch_dropped_total"] > 0
        life.look()
        assert life.incidents() == [("nonfinite", "loss")]


class TestRefused:
    def test_each_reason_once_until_it_is_quiet(self, life: Watched) -> None:
        life.report(10)
        life.report(5)
        life.report(4)
        life.refuse({"reports": [{"step": 10, "scalars": {"loss": 7.0}}]})
        life.look()
        assert life.incidents() == [("refused", "counter_taken"), ("refused", "step_decreased")]
        (told,) = life.alerts()
        assert told.alert.title == "reports are refused: step_decreased, and 1 more"
        assert told.alert.text.startswith("2 reports so far. ")
        idle(life, 590.0)
        assert len(life.kept()) == 2
        idle(life, 20.0)
        assert life.kept() == []
        assert life.titles()[-1].startswith("recovered: no report was refused for 10 minutes (")

    def test_a_run_that_never_came_to_be(self, life: Watched) -> None:
        life.refuse({"reports": [{"step": 2, "scalars": {"a": 1}}, {"step": 1, "scalars": {"a": 1}}]}, "p/none")
        life.look()
        life.look()
        assert life.watcher.stats()["watch_runs"] == 0
        assert life.kept("p/none") == []


class TestMissed:
    """Another service has received something, and what it told of that was not heard."""

    @pytest.fixture(autouse=True)
    def deaf(self, life: Watched) -> None:
        train(life, range(1, 4))
        life.ingest._listeners.remove(life.watcher.inbox.committed)

    def test_that_a_run_failed_is_found_once_it_is_known_that_something_was_missed(self, life: Watched) -> None:
        life.send({"status": "failed", "summary": {"exception": "ValueError"}})
        life.look()
        assert life.titles() == []
        for _ in range(2):
            life.watcher.hearsay.missed()
            life.look()
            life.clock.now += MISSED_EVERY_S
        (told,) = life.alerts()
        assert (told.alert.title, told.alert.text) == ("the run failed", "ValueError")
        assert life.watcher.stats()["watch_runs"] == 0

    def test_a_run_that_began_is_watched(self, life: Watched) -> None:
        life.report(1, run="p/other")
        life.watcher.hearsay.missed()
        life.look()
        life.clock.now += 400.0
        life.look()
        assert life.titles("p/other") == ["no sign of life for 7 min"]

    def test_all_runs_are_looked_at_only_now_and_then(self, life: Watched) -> None:
        life.watcher.hearsay.missed()
        life.look()
        life.watcher.hearsay.missed()
        life.send({"status": "failed"})
        life.look()
        assert life.titles() == []
        life.clock.now += MISSED_EVERY_S
        life.look()
        assert life.titles() == ["the run failed"]

    def test_what_could_not_be_looked_for_is_looked_for_again(
        self, life: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        life.send({"status": "failed"})
        life.watcher.hearsay.missed()
        with monkeypatch.context() as broken:
            broken.setattr(life.watcher, "_heads", no_room)
            with pytest.raises(StoreFullError):
                life.look()
        life.clock.now += MISSED_EVERY_S
        life.look()
        assert life.titles() == ["the run failed"]


class TestFailed:
    def test_it_is_told_as_an_error_and_over_when_the_run_goes_on(self, life: Watched) -> None:
        train(life, range(1, 4))
        life.send({"status": "failed", "summary": {"exception": "  File …\nValueError: no such file"}})
        life.look()
        (told,) = life.alerts()
        assert (told.alert.title, told.alert.level) == ("the run failed", "error")
        assert told.alert.text == "  File …\nValueError: no such file"
        life.patch(notes="what a pity")
        life.look()
        assert life.incidents() == [("failed", "")]
        life.send({"status": "running"})
        life.look()
        assert life.titles() == ["the run failed", "recovered: it runs again"]

    def fail_again(self, life: Watched, clock: Clock) -> None:
        """It fails, runs again, and fails for good within the time in which that is only counted."""
        life.send({"status": "failed"})
        life.look()
        life.send({"status": "running"})
        life.look()
        clock.now += 60.0
        life.send({"status": "failed"})
        life.look()
        assert life.titles() == ["the run failed", "recovered: it runs again"]

    def test_one_that_fails_again_soon_is_told_if_that_lasts(self, life: Watched, clock: Clock) -> None:
        self.fail_again(life, clock)
        idle(life, 500.0)
        assert len(life.titles()) == 2
        idle(life, 100.0)
        assert life.titles()[2:] == ["the run failed"]
        life.look()
        assert life.watcher.stats()["watch_runs"] == 0

    def test_or_by_the_next_process(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock) as life:
            self.fail_again(life, clock)
        clock.now += 3_600.0
        for _ in range(2):
            with watched(tmp_path, clock) as life:
                life.look()
                assert life.titles()[2:] == ["the run failed"]

    def test_a_change_while_it_can_not_be_told_does_not_hide_it(
        self, life: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(life.watcher, "_record", no_room)
            life.send({"status": "failed"})
            with pytest.raises(StoreFullError):
                life.look()
            life.patch(notes="what a pity")
            with pytest.raises(StoreFullError):
                life.look()
        life.look()
        assert life.titles() == ["the run failed"]

    def test_one_that_failed_before_anybody_watched_is_no_news(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock) as life:
            life.send({"status": "failed"})
            with life.store.transaction() as transaction:
                transaction.save_heartbeats({}, clock.now + 900.0)
        clock.now += 900.0
        with watched(tmp_path, clock) as life:
            life.look()
            life.patch(notes="so long ago")
            life.look()
            assert (life.incidents(), life.titles()) == ([], [])

    def test_one_that_failed_just_before_the_service_ended_is(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock) as life:
            with life.store.transaction() as transaction:
                transaction.save_heartbeats({}, clock.now)
            life.send({"status": "failed"})
        for _ in range(2):
            with watched(tmp_path, clock) as life:
                life.look()
                assert life.titles() == ["the run failed"]


class TestTelling:
    def test_a_restart_tells_nothing_twice(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock) as life:
            train(life, range(1, 20))
            life.report(20, {"loss": "NaN", "acc": 0.5})
            life.report(19)
            life.look()
            idle(life, 400.0)
            before = life.titles()
            assert life.incidents() == [("nonfinite", "loss"), ("refused", "step_decreased"), ("stalled", "")]
            with life.store.transaction() as transaction:
                transaction.save_heartbeats({RUN: clock.now}, clock.now)
        clock.now += 50.0
        with watched(tmp_path, clock) as life:
            life.look()
            idle(life, 100.0)
            assert life.incidents() == [("nonfinite", "loss"), ("refused", "step_decreased"), ("stalled", "")]
            assert life.titles() == before
            life.send({"producer": "next", "seq": 1, "rewind": {"next_steps": {"global_step": 20}}})
            life.look()
            assert life.titles() == [*before, "recovered: its counters move again"]

    def test_what_flapped_before_a_restart_is_told_as_far_as_it_is_known(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock, Rules(limits=(Bound(tag="acc", max=1.0),))) as life:
            bad: dict[str, Any] = {"loss": "NaN", "acc": 2.0}
            life.report(1, bad)
            life.look()
            life.send({"reports": [{"step": step, "scalars": {"loss": 0.5, "acc": 0.5}} for step in range(2, 102)]})
            life.look()
            life.report(102, bad)
            life.look()
            before = life.titles()
        with watched(tmp_path, clock, Rules(limits=(Bound(tag="acc", max=1.0),))) as life:
            life.look()
            assert sorted(set(life.titles()) - set(before)) == ["acc is out of its bounds", "loss is not finite"]
            assert {kept.alert.text for kept in life.alerts()[len(before) :]} == {
                "So it was before the service started."
            }

    def test_no_more_are_open_at_once_than_may_be(self, life: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ledgers, "OPEN_MAX", 3)
        for number in range(3):
            life.report(1, {"loss": "NaN", "acc": "NaN"}, run=f"p/{number}")
        life.look()
        with life.store.snapshot() as view:
            assert len(view.incidents()) == 3

    def test_what_flaps_is_counted_and_told_if_it_lasts(self, life: Watched) -> None:
        for round_ in range(3):
            life.report(1_000 * (round_ + 1), {"loss": "NaN"})
            life.look()
            life.send(points(range(1_000 * (round_ + 1) + 1, 1_000 * (round_ + 1) + 101)))
            life.look()
            life.clock.now += 60.0
        assert life.titles() == ["loss is NaN", "recovered: loss is finite again"]
        life.report(9_000, {"loss": "NaN"})
        life.look()
        ((kept),) = life.kept()
        assert (kept.times, kept.told) == (3, False)
        for minute in range(11):
            life.clock.now += 60.0
            life.report(9_001 + minute, {"loss": "NaN"})
            life.look()
        assert life.titles()[2:] == ["loss is NaN"]

    def test_only_for_who_has_a_webhook_something_waits(self, tmp_path: Path, clock: Clock) -> None:
        with watched(tmp_path, clock, Rules()) as life:
            life.report(1, {"loss": "NaN"})
            life.look()
            assert life.notices() == []
            life.book.put("p", WatchRules(webhook=WebhookRule(url=HOOK.url)))
            life.report(2, {"acc": "NaN"})
            life.report(3, run="q/run", scalars={"acc": "NaN"})
            life.send({"alerts": [{"title": "by the job", "level": "info"}]})
            life.look()
            assert sorted((one.run, one.alert.alert.title) for one in life.notices()) == [
                (RUN, "acc is NaN"), (RUN, "by the job"),
            ]  # fmt: skip

    def test_what_is_switched_off_is_not_told_nor_that_it_is_over(self, life: Watched) -> None:
        life.report(1, {"loss": "NaN"})
        life.look()
        life.book.put("p", WatchRules(nonfinite=False))
        life.look()
        assert life.incidents() == []
        life.report(2, {"acc": "NaN"})
        life.look()
        assert life.titles() == ["loss is NaN"]

    def test_a_deleted_run_takes_all_with_it(self, life: Watched) -> None:
        life.report(1, {"loss": "NaN"})
        life.look()
        life.delete()
        life.look()
        assert life.watcher.stats()["watch_incidents_nonfinite"] == 0
        assert life.watcher.stats()["watch_runs"] == 0
        life.report(1, run="p/other", scalars={"loss": "NaN"})
        life.delete("p/other")
        life.look()  # it was gone before anybody looked
        assert life.watcher.stats()["watch_runs"] == 0

    def test_a_store_that_refuses_is_asked_again(self, life: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        life.report(1, {"loss": "NaN"})
        record = life.watcher._record
        monkeypatch.setattr(life.watcher, "_record", no_room)
        with pytest.raises(StoreFullError):
            life.look()
        assert life.incidents() == []
        monkeypatch.setattr(life.watcher, "_record", record)
        life.look()
        assert life.titles() == ["loss is NaN"]

    @pytest.mark.parametrize("error", [FutureTimeoutError(), StoreBusyError("lost in COMMIT")], ids=["late", "lost"])
    def test_what_is_kept_though_whoever_waited_does_not_know_is_told_once(
        self, life: Watched, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        record = life.watcher._record

        def late(work: Work) -> None:
            record(work)
            raise error

        life.report(1, {"loss": "NaN"})
        with monkeypatch.context() as patched:
            patched.setattr(life.watcher, "_record", late)
            for _ in range(2):
                with pytest.raises(type(error)):
                    life.look()
        life.look()
        life.look()
        assert (life.titles(), life.incidents()) == (["loss is NaN"], [("nonfinite", "loss")])

    def test_a_run_that_nobody_foresaw_keeps_no_other_unwatched(
        self, life: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        life.report(1, {"loss": "NaN"}, run="p/odd")
        life.report(1, {"loss": "NaN"})
        of_run = life.book.of_run

        def odd(run: str) -> Rules:
            if run == "p/odd":
                raise KeyError(run)
            return of_run(run)

        monkeypatch.setattr(life.book, "of_run", odd)
        life.look()
        assert (life.titles(), life.titles("p/odd")) == (["loss is NaN"], [])
        assert life.watcher.stats()["watch_errors_total"] > 0
        assert "can't be watched" in caplog.text

    def test_a_long_name_fits_into_a_title(self, life: Watched) -> None:
        life.report(1, {"ö" * 250: "NaN"})
        life.look()
        (told,) = life.alerts()
        assert told.alert.title.endswith("ö…")
        assert len(told.alert.title.encode()) <= 256

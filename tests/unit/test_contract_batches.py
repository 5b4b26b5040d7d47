"""What else the step contract does with a batch: streams, opening a run, the limits of a run."""

from dataclasses import replace

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns, limits
from tallyboard_server.contract import LimitError, SeqGapError, SeqReusedError, merge_patch
from tallyboard_server.model import POSITION_MAX
from tests.unit.contract_run import Run, refusals


class TestExactlyOnce:
    def test_a_repeated_batch_is_answered_and_not_applied(self) -> None:
        run = Run()
        first = run.send({"step": 1, "scalars": {"loss": 0.5}}, by="p", seq=1)
        before = run.state
        again = run.send({"step": 1, "scalars": {"loss": 0.5}}, by="p", seq=1)
        assert again.replayed
        assert again.receipt.replayed
        assert (again.state, again.blocks) == (before, ())
        again.receipt.replayed = False
        assert again.receipt == first.receipt

    def test_an_older_one_is_known_by_its_bytes(self) -> None:
        run = Run()
        for step in range(1, limits.REPLAY_WINDOW + 2):
            run.report(step, loss=0.5, by="p")
        receipt = run.send({"step": 2, "counter": "global_step", "scalars": {"loss": 0.5}}, by="p", seq=2).receipt
        assert (receipt.replayed, receipt.warnings) == (True, [])
        with pytest.raises(SeqReusedError, match="seq 2 of producer 'p' was applied with other content"):
            run.send({"step": 2, "scalars": {"loss": 9.0}}, by="p", seq=2)
        forgotten = run.send({"step": 99, "scalars": {"loss": 9.0}}, by="p", seq=1).receipt
        assert forgotten.replayed
        assert "not compared" in forgotten.warnings[0]

    def test_a_gap_names_the_seq_expected(self) -> None:
        run = Run()
        run.report(1, loss=0.5, by="p")
        with pytest.raises(SeqGapError, match="from 2 on") as caught:
            run.send({"step": 9, "scalars": {"loss": 0.5}}, by="p", seq=4)
        assert caught.value.expected == 2
        with pytest.raises(SeqGapError) as caught:
            run.send({"step": 9, "scalars": {"loss": 0.5}}, by="unknown", seq=7)
        assert caught.value.expected == 1

    def test_a_refused_batch_uses_no_seq_and_a_partial_one_does(self) -> None:
        run = Run()
        run.report(5, loss=0.5, by="p")
        refusals(run, {"step": 1, "scalars": {"loss": 0.5}}, by="p")
        run.send({"step": 1, "scalars": {"loss": 0.5}, "partial": True}, by="p", seq=2)
        assert run.state.producers["p"].seq == 2

    def test_a_silent_producer_without_a_counter_makes_room(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "PRODUCERS_PER_RUN_MAX", 2)
        run = Run()
        run.report(1, loss=0.5, by="holder")
        run.send({"summary": {"a": 1}}, by="idle")
        run.report(1, score=0.5, counter="eval", by="other")
        assert list(run.state.producers) == ["holder", "other"]
        with pytest.raises(LimitError, match="2 producers"):
            run.report(1, x=0.5, counter="x", by="third")


class TestOpen:
    def test_it_says_what_the_run_is(self) -> None:
        run = Run()
        first = {"uid": "u1", "config": {"lr": 0.1, "opt": {"name": "sgd"}}, "group": "g", "notes": "n"}
        run.send({"open": {**first, "counters": {"global_step": {"total": 100}}}}, by="p")
        run.send({"open": {"uid": "u2", "config": {"lr": None, "opt": {"m": 0.9}}, "tags": ["t"]}}, by="p")
        meta = run.state.meta
        assert (meta.uid, meta.group, meta.notes, meta.tags) == ("u1", "g", "n", ("t",))
        assert meta.config == {"opt": {"name": "sgd", "m": 0.9}}
        assert run.state.counters["global_step"].total == 100
        assert run.state.counters["global_step"].attempts == ()

    def test_opening_revives_a_finished_run_and_late_reports_do_not(self) -> None:
        run = Run()
        run.send({"step": 1, "scalars": {"loss": 0.5}, "status": "finished"})
        run.report(2, loss=0.4)
        finished = run.state.meta
        run.send({"open": {}})
        assert (finished.status, run.state.meta.status) == ("finished", "running")
        assert run.state.meta.updated_at == run.now

    def test_new_hands_nothing_over(self) -> None:
        run = Run()
        run.report(1, loss=0.5, by="p")
        run.send({"open": {"resume": "new"}}, by="q")
        assert run.state.counters["global_step"].attempts[0].writer == "p"

    def test_a_document_that_would_grow_too_large_is_left_as_it_is(self) -> None:
        run = Run()
        run.send({"summary": {"a": "x" * 40_000}})
        receipt = run.send({"summary": {"b": "x" * 40_000}, "step": 1, "scalars": {"loss": 0.5}}).receipt
        assert receipt.accepted == 1
        assert "summary was left as it is" in receipt.warnings[0]
        assert list(run.state.meta.summary) == ["a"]


def test_merge_patch_follows_the_examples_of_rfc_7396() -> None:
    assert merge_patch({"a": "b", "b": "c"}, {"a": None}) == {"b": "c"}
    assert merge_patch({"a": ["b"]}, {"a": "c"}) == {"a": "c"}
    assert merge_patch({"a": "c"}, {"a": ["b"]}) == {"a": ["b"]}
    assert merge_patch({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}) == {"a": {"b": "d"}}
    assert merge_patch({}, {"a": {"bb": {"ccc": None}}}) == {"a": {"bb": {}}}
    assert merge_patch({"e": None}, {"a": 1}) == {"e": None, "a": 1}


class TestLimits:
    def test_a_tag_too_many_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "TAGS_PER_RUN_MAX", 2)
        run = Run()
        run.report(1, a=1.0, b=1.0)
        (refusal,) = refusals(run, {"step": 2, "scalars": {"a": 1.0, "c": 1.0}}).refused
        assert (refusal.reason, refusal.tags) == ("too_many_tags", ["c"])

    def test_a_counter_too_many_is_refused_also_in_at(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "COUNTERS_PER_RUN_MAX", 1)
        run = Run()
        run.report(1, loss=1.0)
        reason = "too_many_counters"
        assert refusals(run, {"step": 1, "counter": "x", "scalars": {"x": 1.0}}).refused[0].reason == reason
        assert refusals(run, {"step": 2, "scalars": {"x": 1.0}, "at": {"x": 1}}).refused[0].reason == reason
        with pytest.raises(LimitError, match="counter 'x'"):
            run.rewind(x=0)

    def test_counters_in_at_are_counted_within_a_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "COUNTERS_PER_RUN_MAX", 2)
        run = Run()
        reports = [{"step": 1, "scalars": {name: 1.0}, "at": {name: 1}} for name in ("x", "y")]
        receipt = run.send({"partial": True, "reports": reports}).receipt
        assert [(r.row, r.reason) for r in receipt.refused] == [(1, "too_many_counters")]
        assert list(run.state.counters) == ["global_step", "x"]

    def test_attempts_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(limits, "ATTEMPTS_PER_COUNTER_MAX", 2)
        run = Run()
        run.rewind(global_step=0)
        run.rewind(global_step=0)
        before = run.state
        with pytest.raises(LimitError, match="2 attempts"):
            run.rewind(global_step=0)
        assert run.state is before

    @pytest.mark.parametrize("short_way", [True, False])
    def test_blocks_are_bounded_by_what_a_journal_can_number(self, short_way: bool) -> None:
        run = Run()
        run.report(1, loss=0.5)
        run.state = replace(run.state, pos=POSITION_MAX - 1)
        tags = {"loss": 0.5} if short_way else {"loss": 0.5, "new": 1.0}  # a new tag has to be judged
        too_many = {"reports": [{"step": 2, "scalars": tags}, {"step": 2, "scalars": {"other": 1.0}}]}
        before = run.state
        with pytest.raises(LimitError, match="4,294,967,294 journal blocks"):
            run.send(too_many)
        assert run.state is before
        outcome = run.send({"step": 2, "scalars": tags})
        assert [block.pos for block in outcome.blocks] == [run.state.pos] == [POSITION_MAX]
        before = run.state
        with pytest.raises(LimitError, match="report to a new run"):
            run.send({"step": 3, "scalars": tags, "partial": True})
        assert run.state is before
        assert run.send({"summary": {"best": 0.5}}).state.meta.summary == {"best": 0.5}  # needs no block


def test_what_did_not_change_is_the_same_object() -> None:
    """So that only what is new needs saving."""
    run = Run()
    run.report(1, loss=0.5)
    run.report(1, score=0.5, counter="eval")
    before = run.state
    run.report(2, loss=0.4)
    after = run.state
    assert after.tags is before.tags
    assert after.counters["eval"] is before.counters["eval"]
    assert after.counters["global_step"] is not before.counters["global_step"]
    assert before.counters["global_step"].last_step == 1


def test_the_state_keeps_no_request_body_alive() -> None:
    run = Run()
    values = np.ones((1000, 2))
    run.apply(Batch(columns=(Columns("global_step", ("a", "b"), np.arange(1000), np.zeros(1000), values),)))
    attempt = run.state.counters["global_step"].attempts[0]
    assert attempt.tail_values.base is None
    run.apply(Batch(columns=(Columns("global_step", ("c", "d"), np.full(1, 999), np.zeros(1), values[:1]),)))
    assert run.state.counters["global_step"].attempts[0].tail_values.base is None


class TestAlerts:
    def test_they_go_with_the_batch_in_order(self) -> None:
        run = Run()
        outcome = run.send({"alerts": [{"title": "a"}, {"title": "b", "wall_time": 5.0}], "summary": {"x": 1}}, by="p")
        assert [(kept.at, kept.producer, kept.alert.title) for kept in outcome.alerts] == [
            (run.now, "p", "a"), (run.now, "p", "b"),
        ]  # fmt: skip
        assert [kept.alert.wall_time for kept in outcome.alerts] == [run.now, 5.0]
        assert (outcome.blocks, run.state.counters, run.state.meta.status) == ((), {}, "running")

    def test_a_repeated_batch_raises_none(self) -> None:
        run = Run()
        run.send({"alerts": [{"title": "a", "wall_time": 5.0}]}, by="p", seq=1)
        again = run.send({"alerts": [{"title": "a", "wall_time": 5.0}]}, by="p", seq=1)
        assert (again.replayed, again.alerts) == (True, ())

    def test_where_counters_stood_makes_no_counter(self) -> None:
        run = Run()
        (kept,) = run.send({"alerts": [{"title": "a", "at": {"epoch": 3}}]}).alerts
        assert (kept.alert.at, kept.producer, run.state.counters) == ({"epoch": 3}, "anonymous", {})

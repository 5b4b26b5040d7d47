"""The step contract rule by rule, told in requests as a training job sends them."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tallyboard.wire import JSON, Batch, Columns, Receipt, Rewind, decode_batch, limits
from tallyboard_server.contract import (
    LimitError,
    Outcome,
    RefusedError,
    SeqGapError,
    SeqReusedError,
    apply,
    merge_patch,
    new_run,
)
from tallyboard_server.model import RunState

Point = tuple[str, int, str, int, float]
"""(counter, attempt, tag, step, value)"""


class Run:
    """A run that remembers the points it was given, as a store would."""

    def __init__(self) -> None:
        self.state: RunState = new_run(1, "mnist/try1", now=100.0)
        self.now = 100.0
        self.points: list[Point] = []
        self.seqs: dict[str, int] = {}

    def send(self, body: dict[str, Any], *, by: str | None = None, seq: int | None = None) -> Outcome:
        """Send one JSON body, in the stream of `by` if given."""
        self.now += 1.0
        if by is not None:
            body = {"producer": by, "seq": seq or self.seqs.get(by, 0) + 1, **body}
        batch = decode_batch(json.dumps(body).encode(), JSON, now=self.now)
        return self.apply(batch)

    def apply(self, batch: Batch) -> Outcome:
        """Apply a batch and keep what it stored."""
        outcome = apply(self.state, batch, now=self.now, last_step_before=self._last_step_before)
        self.state = outcome.state
        if batch.producer is not None and batch.seq is not None:
            self.seqs[batch.producer] = max(batch.seq, self.seqs.get(batch.producer, 0))
        counters = {counter.id: name for name, counter in self.state.counters.items()}
        tags = {tag.id: name for name, tag in self.state.tags.items()}
        for block in outcome.blocks:
            for row, step in enumerate(block.steps.tolist()):
                for j, tag_id in enumerate(block.tag_ids.tolist()):
                    value = float(block.values[row, j])
                    self.points.append((counters[block.counter_id], block.attempt, tags[tag_id], step, value))
        return outcome

    def report(self, step: int, counter: str = "global_step", by: str | None = None, **scalars: float) -> Receipt:
        """Send one report."""
        return self.send({"step": step, "counter": counter, "scalars": scalars}, by=by).receipt

    def rewind(self, by: str | None = None, id_: str | None = None, **next_steps: int) -> Receipt:
        """Send a rewind."""
        return self.send({"rewind": {"next_steps": next_steps, "id": id_}}, by=by).receipt

    def visible(self, tag: str) -> list[tuple[int, float]]:
        """(step, value) of a tag as charts show it."""
        found = []
        for counter, attempt, name, step, value in self.points:
            limit = self.state.counters[counter].limit(attempt)
            if name == tag and (limit is None or step < limit):
                found.append((step, value))
        return sorted(found)

    def value(self, counter: str = "global_step") -> int | None:
        """The counter's value."""
        return self.state.counters[counter].last_step

    def _last_step_before(self, counter_id: int, attempt: int, step: int) -> int | None:
        name = next(c.name for c in self.state.counters.values() if c.id == counter_id)
        steps = [p[3] for p in self.points if p[:2] == (name, attempt) and p[3] < step]
        return max(steps, default=None)


def refusals(run: Run, body: dict[str, Any], by: str | None = None) -> RefusedError:
    """Send what must be refused, and see that nothing changed."""
    before = run.state
    with pytest.raises(RefusedError) as caught:
        run.send(body, by=by)
    assert run.state is before
    return caught.value


def test_a_report_becomes_a_block_at_the_next_position() -> None:
    run = Run()
    outcome = run.send({"step": 3, "scalars": {"loss": 0.5, "acc": 0.25}, "wall_time": 12.5})
    (block,) = outcome.blocks
    assert (block.pos, block.counter_id, block.attempt) == (1, 1, 1)
    assert block.steps.tolist() == [3]
    assert block.wall_times.tolist() == [12.5]
    assert block.values.tolist() == [[0.5, 0.25]]
    assert block.tag_ids.tolist() == [1, 2]
    receipt = outcome.receipt
    assert (receipt.run, receipt.accepted, receipt.stored) == ("mnist/try1", 1, 2)
    assert receipt.counters["global_step"].last_step == 3
    assert receipt.counters["global_step"].attempt == 1
    assert run.report(4, loss=0.4).counters["global_step"].last_step == 4
    assert run.state.pos == 2


class TestRule1StepsNeverDecrease:
    def test_a_lower_step_is_refused_with_what_to_do(self) -> None:
        run = Run()
        run.report(10, loss=0.5)
        error = refusals(run, {"step": 9, "scalars": {"loss": 0.4}})
        (refusal,) = error.refused
        assert (refusal.reason, refusal.step, refusal.last_step) == ("step_decreased", 9, 10)
        assert (refusal.counter, refusal.tags) == ("global_step", ["loss"])
        assert "went back from 10 to 9" in refusal.detail
        assert "rewind global_step to 9" in refusal.detail

    def test_counters_are_independent(self) -> None:
        run = Run()
        run.report(1000, G_loss=0.5, counter="G_global_step")
        run.report(5, D_loss=0.5, counter="D_global_step")
        assert (run.value("G_global_step"), run.value("D_global_step")) == (1000, 5)

    def test_json_reports_are_judged_in_the_order_they_were_sent(self) -> None:
        run = Run()
        reports = [{"step": s, "scalars": {"loss" if s % 2 else "acc": 1.0}} for s in (1, 4, 3, 5)]
        receipt = run.send({"partial": True, "reports": reports}).receipt
        assert [(r.row, r.step, r.last_step) for r in receipt.refused] == [(2, 3, 4)]
        assert run.visible("loss") == [(1, 1.0), (5, 1.0)]

    def test_json_reports_of_different_tags_are_judged_in_order_too(self) -> None:
        run = Run()
        run.report(1, loss=1.0, acc=1.0)
        reports = [{"step": 5, "scalars": {"loss": 1.0}}, {"step": 4, "scalars": {"acc": 1.0}}]
        receipt = run.send({"partial": True, "reports": reports}).receipt
        assert [(r.row, r.step, r.last_step) for r in receipt.refused] == [(1, 4, 5)]

    def test_blocks_of_a_batch_are_merged_by_step(self) -> None:
        """Each step of training in one block, each tenth step's validation in another: nothing goes back."""
        run = Run()
        train = Columns("global_step", ("loss",), np.arange(30), np.zeros(30), np.ones((30, 1)), block=0)
        val = Columns("global_step", ("val",), np.arange(0, 30, 10), np.zeros(3), np.ones((3, 1)), block=1)
        outcome = run.apply(Batch(columns=(train, val)))
        assert outcome.receipt.accepted == 33
        assert [block.steps.tolist() for block in outcome.blocks] == [list(range(30)), [0, 10, 20]]

    def test_the_largest_step_there_is(self) -> None:
        run = Run()
        run.report(2**63 - 1, loss=1.0)
        assert refusals(run, {"step": 2**63 - 2, "scalars": {"loss": 1.0}}).refused_count == 1
        assert run.value() == 2**63 - 1


class TestRule2OneValuePerTagAndStep:
    def test_other_tags_fill_in_the_step(self) -> None:
        run = Run()
        run.report(1, loss=0.5)
        run.report(1, acc=0.9)
        assert run.visible("acc") == [(1, 0.9)]
        assert run.report(1, lr=0.1).stored == 1

    def test_the_same_value_again_is_stored_already(self) -> None:
        run = Run()
        run.report(1, loss=0.5, epoch=3.0)
        receipt = run.report(1, val_loss=0.6, epoch=3.0)
        assert (receipt.accepted, receipt.stored, receipt.repeated) == (1, 1, 1)
        assert run.visible("epoch") == [(1, 3.0)]

    def test_another_value_is_refused_and_its_whole_report_with_it(self) -> None:
        run = Run()
        run.report(1, loss=0.5)
        (refusal,) = refusals(run, {"step": 1, "scalars": {"loss": 0.6, "acc": 0.9}}).refused
        assert (refusal.reason, refusal.tags, refusal.last_step) == ("tag_repeated", ["loss"], 1)
        assert "is 0.5 at global_step 1 already, got 0.6" in refusal.detail
        assert "acc" not in run.state.tags

    def test_values_are_compared_bit_for_bit(self) -> None:
        run = Run()
        run.send({"step": 1, "scalars": {"loss": "NaN", "zero": 0.0}})
        assert run.send({"step": 1, "scalars": {"loss": "NaN"}}).receipt.repeated == 1
        assert refusals(run, {"step": 1, "scalars": {"zero": -0.0}}).refused[0].reason == "tag_repeated"

    def test_a_refused_report_blocks_nothing(self) -> None:
        """The tags of a refused report were not reported: a later report of the batch may set them."""
        run = Run()
        run.report(1, loss=0.5)
        reports: list[dict[str, Any]] = [
            {"step": 1, "scalars": {"loss": 0.6, "acc": 0.1}},
            {"step": 1, "scalars": {"acc": 0.2}},
        ]
        receipt = run.send({"partial": True, "reports": reports}).receipt
        assert (receipt.accepted, receipt.refused_count) == (1, 1)
        assert run.visible("acc") == [(1, 0.2)]


class TestRule3ATagBelongsToOneCounter:
    def test_elsewhere_it_is_refused(self) -> None:
        run = Run()
        run.report(1, loss=0.5)
        (refusal,) = refusals(run, {"step": 1, "counter": "epoch", "scalars": {"loss": 0.5}}).refused
        assert (refusal.reason, refusal.tags) == ("tag_of_other_counter", ["loss"])
        assert "belongs to counter 'global_step'" in refusal.detail
        assert "epoch" not in run.state.counters

    def test_it_is_free_once_it_has_no_visible_point(self) -> None:
        run = Run()
        run.report(5, loss=0.5)
        run.rewind(global_step=0)
        run.report(1, loss=0.4, counter="epoch")
        assert run.visible("loss") == [(1, 0.4)]
        refusals(run, {"step": 0, "scalars": {"loss": 0.5}})

    def test_it_stays_bound_as_long_as_one_point_shows(self) -> None:
        run = Run()
        run.report(5, loss=0.5)
        run.report(6, loss=0.5)
        run.rewind(global_step=6)
        refusals(run, {"step": 1, "counter": "epoch", "scalars": {"loss": 0.5}})

    def test_within_a_batch_the_counter_that_comes_first_gets_it(self) -> None:
        run = Run()
        reports = [{"step": 1, "counter": name, "scalars": {"loss": 0.5}} for name in ("epoch", "global_step")]
        receipt = run.send({"partial": True, "reports": reports}).receipt
        assert [refusal.counter for refusal in receipt.refused] == ["global_step"]


class TestRule4ACounterHasOneWriter:
    def test_the_holder_is_named_with_the_ways_on(self) -> None:
        run = Run()
        origin = {"host": "gpu7", "pid": 4242, "user": "ada", "argv": ["train.py"]}
        run.send({"open": {"provenance": origin}, "step": 1, "scalars": {"loss": 0.5}}, by="rank0")
        (refusal,) = refusals(run, {"step": 2, "scalars": {"loss": 0.4}}, by="rank1").refused
        assert refusal.reason == "counter_taken"
        for part in ("'rank0'", "host gpu7", "pid 4242", "user ada", "last seen 1 s ago"):
            assert part in refusal.detail
        for way in ("another counter", "rewind", 'resume="continue"'):
            assert way in refusal.detail
        assert "rank1" not in run.state.producers

    def test_reports_without_a_producer_are_one_writer(self) -> None:
        run = Run()
        run.report(1, loss=0.5)
        run.report(2, loss=0.4)
        (refusal,) = refusals(run, {"step": 3, "scalars": {"loss": 0.4}}, by="p").refused
        assert "reports without a producer" in refusal.detail

    def test_another_counter_is_free(self) -> None:
        run = Run()
        run.report(1, loss=0.5, by="trainer")
        run.report(1, score=0.5, counter="eval", by="evaluator")
        assert run.state.counters["eval"].attempts[0].writer == "evaluator"


class TestRule5Rewind:
    def test_what_lies_before_the_cut_stays_and_the_rest_is_superseded(self) -> None:
        run = Run()
        for step in range(6):
            run.report(step, loss=float(step))
        receipt = run.rewind(global_step=3)
        assert (receipt.counters["global_step"].last_step, receipt.counters["global_step"].attempt) == (2, 2)
        run.report(3, loss=30.0)
        assert run.visible("loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 30.0)]
        assert run.state.epoch == 1

    def test_all_counters_at_once_and_the_forgotten_ones_are_listed(self) -> None:
        run = Run()
        run.report(1000, loss=0.5)
        run.report(4, val=0.5, counter="epoch")
        run.report(7, score=0.5, counter="eval")
        receipt = run.rewind(global_step=500, epoch=2)
        assert {n: v.last_step for n, v in receipt.counters.items()} == {
            "global_step": None,
            "epoch": None,
            "eval": 7,
        }
        assert {n: v.last_step for n, v in receipt.not_rewound.items()} == {"eval": 7}
        assert run.state.epoch == 1

    def test_superseding_nothing_is_fine(self) -> None:
        run = Run()
        run.report(5, loss=0.5)
        run.rewind(global_step=6)
        assert (run.state.epoch, run.value()) == (0, 5)
        (refusal,) = refusals(run, {"step": 5, "scalars": {"loss": 0.5}}).refused
        assert (refusal.reason, refusal.last_step) == ("step_decreased", None)
        assert "rewound to start at 6" in refusal.detail

    def test_its_own_batchs_reports_come_after_it(self) -> None:
        run = Run()
        run.report(5, loss=0.5)
        run.send({"rewind": {"next_steps": {"global_step": 2}}, "step": 2, "scalars": {"loss": 0.1}})
        assert run.visible("loss") == [(2, 0.1)]

    def test_late_reports_of_the_old_writer_fill_up_to_the_cut_and_never_show_beyond(self) -> None:
        run = Run()
        run.report(1, loss=1.0, by="old")
        run.rewind(by="new", global_step=3)
        run.report(3, loss=30.0, by="new")
        epoch = run.state.epoch
        receipt = run.send({"reports": [{"step": s, "scalars": {"loss": 1.0}} for s in (2, 3, 4)]}, by="old").receipt
        assert (receipt.accepted, receipt.stored) == (3, 3)
        assert run.visible("loss") == [(1, 1.0), (2, 1.0), (3, 30.0)]
        assert run.state.epoch == epoch + 1
        (warning,) = receipt.warnings
        assert warning.startswith("2 reports of global_step at step 3 or later came to attempt 1")
        assert "attempt 2 superseded" in warning
        assert run.value() == 3

    def test_late_reports_that_never_show_need_no_new_event_file(self) -> None:
        run = Run()
        run.report(5, loss=1.0, by="old")
        run.rewind(by="new", global_step=0)
        epoch = run.state.epoch
        run.report(6, only_late=1.0, by="old")
        assert run.state.epoch == epoch
        assert run.state.tags["only_late"].counter_id == 0
        assert run.visible("only_late") == []

    def test_a_rewind_by_hand_may_be_repeated(self) -> None:
        run = Run()
        run.report(5, loss=1.0)
        run.rewind(global_step=0, id_="oops")
        before = run.state
        receipt = run.rewind(global_step=0, id_="oops")
        assert run.state.counters is before.counters
        assert (run.state.epoch, run.state.rewinds) == (1, ("oops",))
        assert receipt.counters["global_step"].attempt == 2
        assert "applied already" in receipt.warnings[0]

    def test_the_store_is_asked_once_however_many_attempts_there_are(self) -> None:
        run = Run()
        for start in range(0, 50, 10):
            run.rewind(global_step=start)
            run.report(start + 5, loss=1.0)
            run.report(start + 8, loss=1.0)
        asked = []

        def ask(counter_id: int, attempt: int, step: int) -> int | None:
            asked.append((counter_id, attempt, step))
            return 15

        batch = Batch(rewind=Rewind(next_steps={"global_step": 17}))
        state = apply(run.state, batch, now=0.0, last_step_before=ask).state
        assert asked == [(1, 2, 17)]
        shown = [attempt.last_visible for attempt in state.counters["global_step"].attempts]
        assert shown == [8, 15, None, None, None, None]

    def test_resume_hands_the_current_attempt_over(self) -> None:
        run = Run()
        run.report(5, loss=0.5, by="monday")
        receipt = run.send({"open": {"resume": "continue"}}, by="tuesday").receipt
        assert receipt.counters["global_step"].last_step == 5
        assert run.report(5, loss=0.5, by="tuesday").repeated == 1
        run.report(6, loss=0.4, by="tuesday")
        refusals(run, {"step": 7, "scalars": {"loss": 0.3}}, by="monday")
        assert len(run.state.counters["global_step"].attempts) == 1


class TestRule6ARefusedReportChangesNothing:
    REPORTS: Sequence[dict[str, Any]] = (
        {"step": 1, "scalars": {"loss": 0.5}},
        {"step": 0, "scalars": {"loss": 0.5}},
        {"step": 2, "scalars": {"loss": 0.4}},
    )

    def test_all_or_nothing(self) -> None:
        run = Run()
        error = refusals(run, {"reports": self.REPORTS, "rewind": {"next_steps": {"epoch": 3}}}, by="p")
        assert [(r.block, r.row, r.step) for r in error.refused] == [(0, 1, 0)]
        assert str(error).startswith("1 of 3 reports refused, so none was stored: global_step went back")
        run.report(0, loss=0.1, by="p")

    def test_partial_stores_the_good_ones_and_keeps_the_refused(self) -> None:
        run = Run()
        outcome = run.send({"reports": self.REPORTS, "partial": True}, by="p")
        assert run.visible("loss") == [(1, 0.5), (2, 0.4)]
        assert (outcome.receipt.accepted, outcome.receipt.refused_count) == (2, 1)
        (kept,) = outcome.refused
        assert (kept.at, kept.producer, kept.refusal) == (run.now, "p", outcome.receipt.refused[0])

    def test_lists_of_refusals_are_bounded_and_counted(self) -> None:
        run = Run()
        run.report(9, loss=0.5)
        reports = [{"step": 0, "scalars": {"loss": 0.5}}] * 1500
        outcome = run.send({"reports": reports, "partial": True})
        assert outcome.receipt.refused_count == 1500
        assert [r.row for r in outcome.receipt.refused] == list(range(limits.REFUSED_PER_RECEIPT_MAX))
        assert len(outcome.refused) == limits.REFUSED_KEPT_PER_RUN_MAX

    def test_a_refusal_names_a_bounded_number_of_tags(self) -> None:
        run = Run()
        run.report(9, loss=0.5)
        wide = {f"layer{i}/norm": 1.0 for i in range(500)}
        (refusal,) = refusals(run, {"step": 0, "scalars": wide}).refused
        assert refusal.tags == [f"layer{i}/norm" for i in range(20)]


class TestRule7ForgottenIncrement:
    def test_the_third_report_at_a_step_is_told_of_the_likely_bug(self) -> None:
        run = Run()
        run.report(0, loss=0.0)
        for count in range(2, 11):
            with pytest.raises(RefusedError) as caught:
                run.report(0, loss=float(count))
            run.state = caught.value.state
            hint = f"global_step has been 0 for {count} reports; is it being incremented?"
            assert (hint in str(caught.value)) == (count >= 3)
        run.report(1, loss=0.0)
        assert "incremented?" not in str(refusals(run, {"step": 1, "scalars": {"loss": 9.0}}))

    def test_within_one_batch(self) -> None:
        run = Run()
        reports = [{"step": 0, "scalars": {"loss": float(i)}} for i in range(10)]
        refused = run.send({"reports": reports, "partial": True}).receipt.refused
        assert "incremented?" not in refused[0].detail
        assert "global_step has been 0 for 10 reports; is it being incremented?" in refused[-1].detail
        assert run.state.counters["global_step"].attempts[0].refused_in_a_row == 9


class TestRule8At:
    def test_it_is_recorded_and_moves_nothing(self) -> None:
        run = Run()
        run.report(1000, loss=0.5)
        body = {"step": 1, "counter": "eval", "scalars": {"score": 0.5}, "at": {"global_step": 500, "epoch": 2}}
        (block,) = run.send(body).blocks
        ids = {name: counter.id for name, counter in run.state.counters.items()}
        assert {cid: column.tolist() for cid, column in block.at.items()} == {
            ids["global_step"]: [500],
            ids["epoch"]: [2],
        }
        assert run.value() == 1000
        assert run.state.counters["epoch"].attempts == ()


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
        assert run.state.meta.status == "finished"
        run.send({"open": {}})
        assert run.state.meta.status == "running"
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

"""The step contract rule by rule, told in requests as a training job sends them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tallyboard.wire import Batch, Columns, Rewind, limits
from tallyboard_server.contract import RefusedError, apply
from tests.unit.contract_run import Run, refusals


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

    def test_a_late_point_before_its_first_one_keeps_it_bound(self) -> None:
        run = Run()
        run.report(1, loss=0.5, by="old")
        run.rewind(by="new", global_step=10)
        run.report(10, acc=0.9, by="new")
        run.report(7, acc=0.8, by="old")
        run.rewind(by="new", global_step=9)
        assert run.visible("acc") == [(7, 0.8)]
        refusals(run, {"step": 1, "counter": "epoch", "scalars": {"acc": 0.5}})

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
        assert run.state.counters["global_step"].attempts[0].unmoved == 9


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

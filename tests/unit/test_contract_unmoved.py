"""Reports that come at one step and bring nothing new: how they are counted, and when a counter stalls."""

from dataclasses import replace
from typing import Any, Final

import pytest

from tallyboard_server.contract import RefusedError
from tallyboard_server.model import STALLED_FROM
from tests.unit.contract_run import Run, refusals

PARTIAL: Final[dict[str, Any]] = {"partial": True}


def unmoved(run: Run) -> int:
    return run.state.counters["global_step"].attempts[0].unmoved


def stalled(run: Run) -> bool:
    return run.state.counters["global_step"].stalled


def test_what_repeats_counts_as_what_is_refused() -> None:
    run = Run()
    run.report(0, lr=0.1)
    for _ in range(STALLED_FROM - 1):
        run.report(0, lr=0.1)
    assert (unmoved(run), stalled(run)) == (STALLED_FROM - 1, False)
    (refused,) = refusals(run, {"step": 0, "scalars": {"lr": 0.2}}).refused
    assert f"global_step has been 0 for {STALLED_FROM + 1} reports; is it being incremented?" in refused.detail
    run.report(0, lr=0.1)
    assert (unmoved(run), stalled(run)) == (STALLED_FROM, True)
    run.report(1, lr=0.1)
    assert (unmoved(run), stalled(run)) == (0, False)


def test_a_new_tag_begins_the_count_anew_wherever_it_comes() -> None:
    run = Run()
    for value in (0.1, 0.2, 0.3):
        run.send({"step": 5, "scalars": {"lr": value}, **PARTIAL})
    assert unmoved(run) == 2
    run.report(5, lr=0.1, loss=1.0)
    assert unmoved(run) == 0
    reports = [{"lr": 0.2}, {"acc": 0.5}, {"lr": 0.2}, {"acc": 0.5, "lr": 0.1}, {"acc": 0.6}]
    body = {"reports": [{"step": 5, "scalars": scalars} for scalars in reports], **PARTIAL}
    details = [refusal.detail for refusal in run.send(body).receipt.refused]
    assert [text.partition("has been ")[2] for text in details] == [
        "", "", "5 for 4 reports; is it being incremented?"
    ]  # fmt: skip
    assert unmoved(run) == 3


def test_steps_that_go_on_within_a_batch_leave_their_count_behind() -> None:
    run = Run()
    steps = [1, 1, 1, 2, 2, 0]
    run.send({"reports": [{"step": step, "scalars": {"lr": 0.1}} for step in steps], **PARTIAL})
    assert unmoved(run) == 1


def test_a_report_whose_step_is_refused_is_not_at_the_step() -> None:
    run = Run()
    run.report(5, lr=0.1)
    run.report(5, lr=0.1)
    run.send({"step": 4, "scalars": {"lr": 0.1}, **PARTIAL})
    assert unmoved(run) == 1


def test_of_a_request_that_is_refused_whole_only_this_is_kept() -> None:
    run = Run()
    run.report(0, loss=0.0)
    bodies = [{"step": 0, "scalars": {"loss": 1.0}}, {"step": 0, "scalars": {"acc": 1.0}}]
    with pytest.raises(RefusedError) as caught:
        run.send({"reports": bodies})
    changed = caught.value.state.counters["global_step"]
    assert [attempt.unmoved for attempt in changed.attempts] == [1]
    assert replace(caught.value.state, counters=run.state.counters) == run.state
    with pytest.raises(RefusedError) as caught:
        run.send({"step": 0, "scalars": {"loss": 1.0}, "counter": "epoch"})
    assert caught.value.state is run.state


def test_a_rewind_begins_anew_and_the_old_attempt_keeps_its_count() -> None:
    run = Run()
    for _ in range(STALLED_FROM + 1):
        run.report(0, lr=0.1)
    assert stalled(run)
    run.rewind(global_step=0)
    assert not stalled(run)
    assert [attempt.unmoved for attempt in run.state.counters["global_step"].attempts] == [STALLED_FROM, 0]


EPOCH: Final = {"counter": "epoch", "step": 3, "scalars": {"epoch": 3.0}}


def test_what_stands_while_another_counter_moves_does_not_stall() -> None:
    """An epoch that is told with each of its steps."""
    run = Run()
    for step in range(2 * STALLED_FROM):
        run.send({"reports": [EPOCH, {"step": step, "scalars": {"loss": 0.5}}, EPOCH]})
        assert run.state.counters["epoch"].attempts[0].unmoved == 0
    for _ in range(STALLED_FROM):
        run.send({"reports": [EPOCH, {"step": step, "scalars": {"loss": 0.5}}]})
    assert run.state.counters["epoch"].stalled
    assert stalled(run)


@pytest.mark.parametrize("beside", ["system", "tag:cpu"])
def test_what_moves_by_itself_excuses_nobody(beside: str) -> None:
    run = Run()
    for step in range(STALLED_FROM + 1):
        other = {"counter": beside, "step": step, "scalars": {"cpu": 0.5}}
        run.send({"reports": [{"step": 0, "scalars": {"loss": 0.5}}, other]})
    assert (unmoved(run), stalled(run)) == (STALLED_FROM, True)


def test_other_values_at_one_step_stall_whatever_else_moves() -> None:
    """A discriminator whose increment was forgotten, beside a generator."""
    run = Run()
    for step in range(STALLED_FROM + 1):
        mine = {"step": 0, "scalars": {"D/loss": step / 10}}
        run.send({"reports": [mine, {"counter": "G", "step": step, "scalars": {"G/loss": 0.5}}], **PARTIAL})
    assert (unmoved(run), stalled(run)) == (STALLED_FROM, True)


def test_a_tags_own_counter_never_stalls() -> None:
    run = Run()
    for _ in range(STALLED_FROM + 1):
        run.report(0, "tag:lr", lr=0.1)
    counter = run.state.counters["tag:lr"]
    assert (counter.attempts[0].unmoved, counter.stalled) == (STALLED_FROM, False)

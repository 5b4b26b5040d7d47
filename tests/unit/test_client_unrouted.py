"""Reports that name no counter, in a job that moves counters of its own: where they go is said, once."""

from collections.abc import Callable

import pytest

from tests.unit.client_kit import Recorded, recorded


def two_networks(mine: Recorded) -> None:
    d, g = mine.run.counter("D_step"), mine.run.counter("G_step")
    d.increment()
    g.increment()


def test_two_counters_and_a_report_that_names_neither_are_told_of_once() -> None:
    mine = recorded(strict=True)
    for step in range(1, 6):
        two_networks(mine)
        mine.log({"D/loss": 1.0 / step})
        mine.log({"G/loss": 2.0 / step})
    (said,) = mine.ears.heard
    assert "'D/loss' is reported without a counter, and so on global_step" in said
    assert "this job moves D_step, G_step" in said
    assert 'counters={"D/*": "D_step"}' in said
    assert 'run.counter("D_step").log(' in said
    assert "test_client_unrouted.py:" in said
    assert sorted(step for counter, step, _, _ in mine.rows() if counter == "global_step") == list(range(1, 11))


def test_a_counter_that_moves_later_is_noticed_then() -> None:
    mine = recorded()
    mine.log({"G/loss": 1.0})
    assert mine.ears.heard == []
    two_networks(mine)
    mine.log({"G/loss": 0.5})
    assert 'counters={"G/*": "G_step"}' in mine.ears.heard[0]


def test_a_text_is_told_of_as_well_and_a_plain_tag_named_whole() -> None:
    mine = recorded()
    two_networks(mine)
    mine.run.log_text("sample", "a cat")
    assert 'counters={"sample": "D_step"}' in mine.ears.heard[0]


def names_a_counter(mine: Recorded) -> None:
    mine.log({"loss": 1.0}, counter="D_step")


def names_a_step(mine: Recorded) -> None:
    mine.log({"loss": 1.0}, 7)


def asked_for_the_default(mine: Recorded) -> None:
    mine.run.counter()
    mine.log({"loss": 1.0})


def rewound_the_default(mine: Recorded) -> None:
    mine.run.rewind({"global_step": 5})
    mine.log({"loss": 1.0})


def is_routed(mine: Recorded) -> None:
    mine.log({"val/loss": 1.0})


@pytest.mark.parametrize(
    "report", [names_a_counter, names_a_step, asked_for_the_default, rewound_the_default, is_routed]
)
def test_nothing_is_said_of_a_job_that(report: Callable[[Recorded], None]) -> None:
    mine = recorded(counters={"val/*": "global_step"})
    two_networks(mine)
    report(mine)
    assert mine.ears.heard == []


def test_the_machines_figures_are_no_counter_of_the_job() -> None:
    mine = recorded()
    mine.log({"system/cpu": 0.5}, counter="system")
    mine.log({"loss": 1.0})
    mine.log({"loss": 1.0}, counter="tag:loss")
    mine.log({"acc": 1.0})
    assert [said for said in mine.ears.heard if "without a counter" in said] == []

"""The thousand-run demo's trials and curves: the same for the same seed, and as varied as they are to be."""

from collections import Counter

import numpy as np
import pytest

from tallyboard.wire import Batch, check_run, decode_batch, encode_batch
from tallyboard.wire.batch import MSGPACK
from tallyboard_server.cli.demo.curves import STEP, Curves, batches, curves, going_on, rank_batch
from tallyboard_server.cli.demo.sweeps import RANKS, RUNNING_MAX, Trial, steps_done, steps_left, trials

NOW = 1_760_000_000.0


def sent(trial: Trial, seed: int = 1) -> list[bytes]:
    found = curves(trial, seed, NOW)
    ranks = [rank_batch(found, rank) for rank in range(len(trial.ranks))]
    return [encode_batch(batch) for batch in (*batches(found), *ranks)]


@pytest.mark.parametrize("runs", [1, 7, 30, 400, 1_000, 2_500])
def test_there_are_as_many_runs_as_asked_for_and_no_name_comes_twice(runs: int) -> None:
    made = list(trials(runs, 1))
    names = [name for trial in made for name in (trial.name, *trial.ranks)]
    assert len(names) == len(set(names)) == runs
    for name in names:
        check_run(name)


def test_every_course_project_and_oddity_is_among_a_thousand() -> None:
    made = list(trials(1_000, 1))
    courses = Counter(trial.course for trial in made)
    assert set(courses) == {"finished", "diverged", "failed", "preempted", "lost", "running"}
    assert courses["finished"] > 500
    assert courses["running"] == RUNNING_MAX
    assert {trial.name.partition("/")[0] for trial in made} == {"vision", "language", "control"}
    assert sum(len(trial.ranks) for trial in made) >= 2 * RANKS
    assert sum(trial.refused for trial in made) > 10
    assert len({trial.group for trial in made}) >= 6
    for key in ("lr", "seed", "optimizer", "batch_size"):
        assert len({trial.config[key] for trial in made}) > 1


def test_the_same_seed_makes_the_same_bytes_and_another_does_not() -> None:
    assert list(trials(60, 5)) == list(trials(60, 5))
    assert list(trials(60, 5)) != list(trials(60, 6))
    trial = next(trials(60, 5))
    assert sent(trial) == sent(trial)
    assert sent(trial) != sent(trial, seed=2)


def test_every_batch_is_one_that_the_service_takes() -> None:
    for trial in trials(300, 3):
        for body in sent(trial):
            batch = decode_batch(body, MSGPACK, now=NOW)
            for columns in batch.columns:
                assert (np.diff(columns.steps) > 0).all()
                assert (columns.wall_times <= NOW + 3_600).all()


def of_course(course: str) -> Curves:
    trial = next(trial for trial in trials(1_000, 1) if trial.course == course)
    return curves(trial, 1, NOW)


def last_steps(batch: Batch) -> dict[str, int]:
    return {columns.counter: int(columns.steps[-1]) for columns in batch.columns}


def test_a_curve_falls_and_a_diverged_one_ends_in_no_number() -> None:
    for trial in trials(200, 1):
        loss = curves(trial, 1, NOW).columns[0].values[:, 0]
        if trial.course == "diverged":
            assert np.isnan(loss[-1])
            assert np.isfinite(loss[:100]).all()
        else:
            assert np.isfinite(loss).all()
            assert loss[-50:].mean() < 0.8 * loss[:20].mean(), trial.name


def test_a_preempted_trial_goes_back_on_every_counter_and_comes_to_its_end() -> None:
    found = of_course("preempted")
    first, second = (batch for batch in batches(found) if batch.open is not None)
    assert (first.producer, second.producer) == ("job-1", "job-2")
    assert second.rewind is not None
    begins = {columns.counter: int(columns.steps[0]) for columns in second.columns}
    for counter, last in last_steps(first).items():
        assert second.rewind.next_steps[counter] <= last
        assert begins[counter] >= second.rewind.next_steps[counter]
    assert last_steps(second)[STEP] == found.trial.total


def test_a_running_trial_goes_on_where_it_was_to_its_end() -> None:
    found = of_course("running")
    (begun, *_) = batches(found)
    assert last_steps(begun)[STEP] == steps_done(found.trial)
    assert begun.status is None
    left = list(steps_left(found.trial))
    assert left == list(range(steps_done(found.trial) + 1, found.trial.total + 1))
    more = [going_on(found, step, NOW + 5) for step in left]
    assert [last_steps(batch)[STEP] for batch in more] == left
    assert [batch.status for batch in more] == [None] * (len(left) - 1) + ["finished"]
    assert more[0].columns[0].wall_times.tolist() == [NOW + 5]
    for place, columns in enumerate(found.columns):
        counted = [c for batch in (begun, *more) for c in batch.columns if c.counter == columns.counter]
        assert np.concatenate([c.steps for c in counted]).tolist() == columns.steps.tolist(), place

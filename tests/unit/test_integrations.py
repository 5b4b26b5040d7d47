"""What integrations share: a training as one run, its checkpoints, and what came after them."""

import builtins
import importlib
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import tallyboard
from tallyboard import lifecycle
from tallyboard.integrations.checkpoints import FILE, NOTES_MAX, Saved, as_plain, from_plain, note, noted
from tallyboard.integrations.training import EPOCH, EVALUATION, GLOBAL_STEP, Training
from tallyboard.run import Run
from tests.service import RunningService


@pytest.fixture(autouse=True)
def _strict(service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whatever is refused raises; runs that a test leaves behind are finished."""
    monkeypatch.setenv("TALLYBOARD_URL", service.url)
    monkeypatch.setenv("TALLYBOARD_RUN", run_name)
    monkeypatch.setenv("TALLYBOARD_STRICT", "1")
    yield
    lifecycle.finish_all()


def saved(number: int, counters: dict[str, dict[str, int | bool]] | None = None) -> Saved:
    """A checkpoint's part, told from others by its number."""
    return Saved(str(number), "p/run", None, counters or {}, {GLOBAL_STEP: number}, {"epoch": GLOBAL_STEP})


def begun(resume: Any = None, checkpoint: Saved | None = None) -> tuple[Training, Run]:
    """A training whose run is begun."""
    training = Training(None, None, resume)
    return training, training.begin("p/default", stable=True, saved=checkpoint)


def step(training: Training, number: int) -> None:
    """An update that is reported."""
    training.move_on()
    training.at(GLOBAL_STEP, number)
    training.log({"loss": float(number)}, GLOBAL_STEP, number)


def steps(service: RunningService, run: Run, tag: str) -> list[int]:
    """Those of the visible points, once all is there."""
    assert run.flush()
    return [point[0] for point in service.points(run.name, tag)]


# ── checkpoints.py ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_checkpoint_holds_is_plain_json_and_comes_back() -> None:
    one = saved(1, {"global_step": {"value": 3, "next_step": 4, "moved": True}})

    assert from_plain(msgspec.json.decode(msgspec.json.encode(as_plain(one)))) == one


@pytest.mark.parametrize("plain", [None, {}, [], "state", {"id": 1}, {**as_plain(saved(1)), "counters": {"a": 1}}])
def test_what_is_no_part_of_ours_is_none(plain: object) -> None:
    assert from_plain(plain) is None


def test_the_end_of_a_checkpoints_step_is_found_by_its_id(tmp_path: Path) -> None:
    note(tmp_path, [saved(1), saved(2)], saved(10))
    note(tmp_path, [saved(2)], saved(11))

    assert [noted(tmp_path, saved(number)) for number in (1, 2, 3)] == [saved(10), saved(11), saved(3)]
    assert noted(None, saved(1)) == saved(1)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_notes_are_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    for number in range(NOTES_MAX + 5):
        note(tmp_path, [saved(number)], saved(100 + number))

    found = [number for number in range(NOTES_MAX + 5) if noted(tmp_path, saved(number)) != saved(number)]
    assert found == list(range(5, NOTES_MAX + 5))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"1": {"id": 2}}', b"\xff"])
def test_a_file_that_is_none_of_ours_says_nothing_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)

    assert noted(tmp_path, saved(1)) == saved(1)
    note(tmp_path, [saved(1)], saved(2))
    assert noted(tmp_path, saved(1)) == saved(2)


# ── training.py ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_and_a_name_are_not_given_together() -> None:
    with pytest.raises(tallyboard.ConfigurationError, match="not both"):
        Training("name", tallyboard.init(mode="disabled"), None)


def test_nothing_happens_before_it_is_begun(tmp_path: Path) -> None:
    training = Training(None, None, None)

    training.start({GLOBAL_STEP: 0}, {GLOBAL_STEP: 9})
    step(training, 1)
    training.log_evaluation({"x": 1.0})
    training.log_apart({"x": 1.0}, 3)
    training.put_back(saved(1), tmp_path)
    training.saved(tmp_path)
    training.end()
    training.finish()
    assert (training.run, training.save()) == (None, None)


def test_a_second_training_goes_on_where_the_first_ended(service: RunningService) -> None:
    training, run = begun()
    for _ in range(2):
        training.start({GLOBAL_STEP: 0, EPOCH: 0}, {GLOBAL_STEP: 3, EPOCH: 1})
        for number in range(1, 4):
            step(training, number)
        training.at(EPOCH, 1)
        training.log({"mean": 1.0}, EPOCH, 1)

    assert steps(service, run, "loss") == [1, 2, 3, 4, 5, 6]
    assert steps(service, run, "mean") == [1, 2]
    counters = service.get(f"/runs/{run.name}").json()["counters"]
    assert {name: counter["total"] for name, counter in counters.items()} == {GLOBAL_STEP: 6, EPOCH: 2}


def test_a_training_that_somebody_else_began_goes_on_at_the_frameworks_step(service: RunningService) -> None:
    training, run = begun()
    training.start({GLOBAL_STEP: 500}, {})
    step(training, 501)

    assert steps(service, run, "loss") == [501]


def test_a_tag_has_one_counter_and_another_name_on_others(service: RunningService) -> None:
    training, run = begun()
    training.log({"epoch": 0.5, "loss": 1.0}, GLOBAL_STEP, 1)
    training.log_evaluation({"epoch": 1.0})
    training.log_apart({"epoch": 2.0, "mine": 3.0}, 7)
    run.flush()

    counters = service.get(f"/runs/{run.name}").json()["counters"]
    assert counters[GLOBAL_STEP]["tags"] == ["epoch", "loss"]
    assert counters[EVALUATION]["tags"] == ["evaluation/epoch"]
    assert service.points(run.name, "tag/epoch") == [(7, 2.0)]
    assert service.points(run.name, "mine") == [(7, 3.0)]


def test_what_came_at_a_checkpoints_step_stays_and_what_came_later_is_done_again(
    service: RunningService, tmp_path: Path
) -> None:
    training, run = begun()
    training.start({GLOBAL_STEP: 0}, {})
    step(training, 1)
    checkpoint = training.save()
    assert checkpoint is not None
    training.saved(tmp_path)
    training.log_evaluation({"accuracy": 0.5})
    step(training, 2)
    training.log_evaluation({"accuracy": 0.6})
    assert steps(service, run, "accuracy") == [1, 2]
    training.finish()

    resumed, again = begun(checkpoint=checkpoint)
    resumed.put_back(checkpoint, tmp_path)
    resumed.start({}, {})

    assert again.name == run.name
    assert (steps(service, again, "loss"), steps(service, again, "accuracy")) == ([1], [1])
    resumed.log({"loss": 7.0}, GLOBAL_STEP, 1)  # which is there already
    step(resumed, 2)
    resumed.log_evaluation({"accuracy": 0.7})
    assert service.points(again.name, "loss")[:1] == [(1, 1.0)]
    assert (steps(service, again, "loss"), steps(service, again, "accuracy")) == ([1, 2], [1, 2])


def test_without_a_note_it_is_the_moment_of_saving(service: RunningService, tmp_path: Path) -> None:
    training, run = begun()
    training.start({GLOBAL_STEP: 0}, {})
    step(training, 1)
    checkpoint = training.save()
    assert checkpoint is not None
    training.saved(tmp_path / "gone")
    training.log_evaluation({"accuracy": 0.5})
    assert not (tmp_path / "gone").exists()
    assert steps(service, run, "accuracy") == [1]
    training.put_back(checkpoint, tmp_path / "gone")

    assert (steps(service, run, "loss"), steps(service, run, "accuracy")) == ([1], [])
    assert (run.counter(GLOBAL_STEP).value, run.counter(EVALUATION).value) == (1, 0)


def test_counters_that_began_after_a_checkpoint_begin_again(service: RunningService) -> None:
    training, run = begun()
    training.start({GLOBAL_STEP: 0}, {})
    training.log_apart({"early": 0.0}, None)
    step(training, 1)
    checkpoint = training.save()
    assert checkpoint is not None
    for _ in range(2):
        training.log_apart({"early": 1.0, "late": 1.0}, None)
        training.log_evaluation({"accuracy": 0.5})
    training.finish()
    resumed, again = begun(checkpoint=checkpoint)
    resumed.put_back(checkpoint, None)
    resumed.log_apart({"early": 2.0, "late": 2.0}, None)
    resumed.log_evaluation({"accuracy": 0.6})

    assert again.name == run.name
    assert (steps(service, again, "early"), steps(service, again, "late")) == ([0, 1], [0])
    assert steps(service, again, "accuracy") == [1]


def test_a_state_that_names_no_counters_leaves_them_where_they_are(
    service: RunningService, caplog: pytest.LogCaptureFixture
) -> None:
    training, run = begun()
    step(training, 1)
    training.put_back(saved(1, {"step": {"value": 3, "next_step": 4}}), None)

    assert "the counters stay where they are" in caplog.text
    assert steps(service, run, "loss") == [1]


def test_a_run_that_is_continued_from_scratch_is_begun_anew(service: RunningService) -> None:
    first, run = begun("continue")
    first.start({GLOBAL_STEP: 0}, {})
    for number in (1, 2, 3):
        step(first, number)
    first.log_evaluation({"accuracy": 0.5})
    run.counter("mine").log({"mine": 1.0})
    first.finish()

    second, again = begun("continue")
    second.start({GLOBAL_STEP: 0}, {})
    step(second, 1)

    assert again.name == run.name
    assert steps(service, again, "loss") == [1]
    assert (steps(service, again, "accuracy"), steps(service, again, "mine")) == ([], [])


def test_an_evaluation_before_a_training_stays(service: RunningService) -> None:
    training, run = begun("continue")
    training.log_evaluation({"accuracy": 0.1})
    training.start({GLOBAL_STEP: 0}, {})
    step(training, 1)
    training.log_evaluation({"accuracy": 0.2})

    assert (steps(service, run, "loss"), steps(service, run, "accuracy")) == ([1], [1, 2])


def test_a_checkpoint_of_a_run_by_another_name_is_no_reason_to_go_on_in_that(
    service: RunningService, run_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, run = begun()
    training.start({GLOBAL_STEP: 0}, {})
    step(training, 1)
    checkpoint = training.save()
    assert checkpoint is not None
    monkeypatch.setenv("TALLYBOARD_RUN", f"{run_name}-branch")
    branch, other = begun(checkpoint=checkpoint)
    branch.put_back(checkpoint, None)
    step(branch, 2)

    assert other.name == f"{run_name}-branch"
    assert (steps(service, run, "loss"), steps(service, other, "loss")) == ([1], [2])


# ── extras.py ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_a_framework_that_is_not_there_is_named_with_its_extra(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] == framework:
            raise ModuleNotFoundError(f"No module named {framework!r}", name=framework)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, f"tallyboard.integrations.{framework}", raising=False)

    with pytest.raises(ImportError, match=rf"pip install 'tallyboard\[{framework}\]'") as raised:
        importlib.import_module(f"tallyboard.integrations.{framework}")
    assert raised.value.name == framework

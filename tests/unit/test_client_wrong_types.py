"""What is of the wrong type altogether: said in words, with what was given and what to give."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import tallyboard
from tallyboard.errors import ConfigurationError, InvalidReportError
from tallyboard.integrations.training import Training
from tallyboard.schedules import piecewise_constant
from tallyboard.statistics import EpochTotals, ExponentialMovingAverage, GradientNorms
from tests.unit.client_kit import recorded


def odd(value: object) -> Any:
    """What a type checker would have refused."""
    return value


def run() -> Any:
    return recorded(strict=True).run


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: EpochTotals(4, run()), r'epoch is a counter, such as run.counter\("global_step"\), not Run'),
    (lambda: GradientNorms(odd("x")), r"a run or a counter to report to, not str 'x'"),
    (
        lambda: ExponentialMovingAverage(0.9, num_updates=run()),
        r"num_updates is a counter, .* a function .*, not Run",
    ),
    (lambda: ExponentialMovingAverage(0.9, num_updates=odd("x")), r"num_updates is a counter, .*, not str 'x'"),
    (lambda: run().counter(None), r'the name of a counter is a string, such as "global_step", not NoneType'),
    (lambda: run().counter(3), r"the name of a counter is a string, .*, not int 3"),
    (lambda: run().counter(create="old"), r"create 'old' is not known; use 'auto', 'new' or 'existing'$"),
    (lambda: piecewise_constant(odd(5), [0.1]), r"boundaries is a list of numbers, not int 5"),
    (lambda: piecewise_constant([1], odd(0.1)), r"values is a list of numbers, not float 0.1"),
    (lambda: run().counter().every("x"), r"n='x': give a whole number, 1 or more"),
    (lambda: run().counter().every(1.5), r"n=1.5: give a whole number, 1 or more"),
    (lambda: run().counter().log_every(None, {}), r"n=None: give a whole number, 1 or more"),
    (lambda: Training(odd(3), None, None), r'name is a string, such as "mnist/try1", not int 3'),
    (lambda: Training(None, odd("try1"), None), r"run is a run, such as tallyboard.init\('try1'\), not str 'try1'"),
    (lambda: Training("a/b", None, odd("yes")), r"resume 'yes' is not known; use 'new', 'continue' or 'must'"),
]


@pytest.mark.parametrize(("call", "said"), WRONG)
def test_a_part_says_what_it_takes(call: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        call()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": 3}, r'name is a string, such as "mnist/try1", not int 3'),
        ({"project": 3}, r'project is a string, such as "mnist", not int 3'),
        ({"notes": 3}, r"notes is a string, .*, not int 3"),
        ({"group": 3}, r"group is a string, .*, not int 3"),
        ({"tags": 3}, r'tags is a list of strings, such as \["baseline"\], not int 3'),
        ({"tags": "a"}, r"tags is a list of strings, .*, not str 'a'"),
        ({"tags": [3]}, r"each of tags is a string, .*, not int 3"),
        ({"counters": "epoch"}, r'counters is a dictionary .*, such as {"val/\*": "epoch"}, not str \'epoch\''),
        ({"exit_timeout_s": -1}, r"exit_timeout_s=-1: give a finite number that is 0 or more"),
        ({"exit_timeout_s": "x"}, r"exit_timeout_s='x': give a finite number"),
        ({"resume": "yes"}, r"resume 'yes' is not known; use 'new', 'continue' or 'must'"),
        ({"ranks": "one"}, r"ranks 'one' is not known; use 'zero' or 'all'"),
        ({"mode": "fast"}, r"mode 'fast' is not known; use 'online', 'offline' or 'disabled' \(TALLYBOARD_MODE\)"),
    ],
)
def test_init_says_what_it_takes_and_begins_nothing(arguments: dict[str, Any], said: str, tmp_path: Path) -> None:
    usual: dict[str, Any] = {"mode": "offline", "spool_dir": tmp_path}
    with pytest.raises(ConfigurationError, match=said):
        tallyboard.init(**usual | arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [10, None, 1.5])
def test_track_says_what_it_goes_through(wrong: Any) -> None:
    counter = run().counter()
    with pytest.raises(TypeError, match=r"track goes through something, such as .*, not (int 10|None|float)"):
        counter.track(wrong)


@pytest.mark.parametrize("wrong", ["x", None, [1]])
def test_an_increment_that_is_none_is_told_and_moves_nothing(wrong: Any) -> None:
    mine = recorded()
    counter = mine.run.counter()
    counter.increment()
    assert counter.increment(wrong) == 1
    (said,) = mine.ears.heard
    assert said.startswith("global_step was not moved: ")
    assert "is no number of steps" in said or "NoneType None is not a step" in said
    assert "test_client_wrong_types.py:" in said
    with pytest.raises(InvalidReportError, match=r"is no number of steps|is not a step"):
        run().counter().increment(wrong)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mnist/try1"], r"run is a run, such as tallyboard.init\('mnist/try1'\), not str 'mnist/try1'"),
        ([None], r"run is a run, such as tallyboard.init\('mnist/try1'\), not NoneType"),
        ([run(), "x"], r"log_every='x': give a whole number, 1 or more"),
        ([run(), 1, 5], r"checkpoints is a list of callbacks of Keras, not int 5"),
    ],
)
def test_the_callback_of_keras_says_what_it_takes(
    arguments: list[Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tallyboard.integrations.keras", raising=False)
    stand_in: Any = ModuleType("keras")
    stand_in.callbacks = SimpleNamespace(Callback=type("Callback", (), {}))
    monkeypatch.setitem(sys.modules, "keras", stand_in)
    module = importlib.import_module("tallyboard.integrations.keras")
    monkeypatch.delitem(sys.modules, "tallyboard.integrations.keras")
    given = dict(zip(("run", "log_every", "checkpoints"), arguments, strict=False))
    with pytest.raises(ConfigurationError, match=said):
        module.TallyboardCallback(**given)

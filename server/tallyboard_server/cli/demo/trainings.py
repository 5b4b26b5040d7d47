"""The example trainings as the demo runs them: the same files that can be run on their own."""

import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import tallyboard

_CLASSIFIER: Final = "digits_classifier"
_GAN: Final = "digits_gan"


class ExamplesMissingError(Exception):
    """The examples, or what they need, are not installed; the message says what to do."""


@dataclass(slots=True, frozen=True)
class Training:
    """One training: the arguments of its tallyboard.init, and what runs it, given the run."""

    name: str
    train: Callable[[Any], object]
    config: Mapping[str, Any]
    counters: Mapping[str, str] = field(default_factory=dict)


def check_examples() -> None:
    """Raises ExamplesMissingError if the demos could not train."""
    for name in (_CLASSIFIER, _GAN):
        load_example(name)


def rounds() -> Iterator[list[Training]]:
    """Endless rounds of trainings; each round has its own seed. Raises ExamplesMissingError."""
    classifier, gan = load_example(_CLASSIFIER), load_example(_GAN)
    seed = 0
    while True:
        yield [*_classifiers(classifier, seed), _gan(gan, seed)]
        seed += 1


def _classifiers(module: ModuleType, seed: int) -> Iterator[Training]:
    for learning_rate in module.LEARNING_RATES:
        yield Training(
            name=f"classifier-lr{learning_rate:g}",
            train=partial(module.train, learning_rate=learning_rate, seed=seed),
            config={"learning_rate": learning_rate, "batch_size": module.BATCH_SIZE, "seed": seed},
            counters={"val/*": "epoch"},
        )


def _gan(module: ModuleType, seed: int) -> Training:
    config = {"d_steps_per_g_step": module.D_STEPS_PER_G_STEP, "batch_size": module.BATCH_SIZE, "seed": seed}
    return Training(name="gan", train=partial(module.train, seed=seed), config=config)


def load_example(name: str) -> ModuleType:
    """An example as a module: inside the installed package, or beside it in a checkout. Raises ExamplesMissingError."""
    package = Path(tallyboard.__file__).parent
    candidates = (package / "examples" / f"{name}.py", package.parent / "examples" / f"{name}.py")
    path = next((path for path in candidates if path.exists()), None)
    if path is None:
        raise ExamplesMissingError(f"the example {name}.py is missing beside {package}; reinstall tallyboard")
    spec = importlib.util.spec_from_file_location(f"tallyboard_examples_{name}", path)
    if spec is None or spec.loader is None:
        raise ExamplesMissingError(f"{path} can't be loaded as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        raise ExamplesMissingError(
            f"{error.name} is not installed; pip install 'tallyboard[server,examples]'"
        ) from error
    return module

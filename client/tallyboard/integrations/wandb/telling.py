"""What code written for wandb is told: each thing once in a process, naming the line; and what stands for the rest."""

from collections.abc import Iterator
from typing import Any, Final, Self

from tallyboard.notices import Notices, caller_line, prepare

SAID_MAX: Final = 1_000
_notices: Final = Notices()
_said: Final[set[str]] = set()  # without a lock, which a forked child might find held for ever


class Error(Exception):
    """`wandb.Error`: what can't be had here, or not yet."""


def tell(message: str) -> None:
    """Warn, unless this was said before in this process."""
    if message not in _said and len(_said) < SAID_MAX:
        _said.add(message)
        prepare()
        _notices.warn(f"{message} ({caller_line()})")


class Absent:
    """Stands for what Tallyboard does not have: it can be called and asked for anything, and does nothing."""

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __call__(self, *_: Any, **__: Any) -> Self:
        tell(f"wandb.{self._name} does nothing here")
        return self

    def __getattr__(self, name: str) -> "Absent":
        if name.startswith("__"):  # of Python's own protocols it has none
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __setattr__(self, name: str, value: Any) -> None:
        tell(f"wandb.{self._name} does nothing here")

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __repr__(self) -> str:
        return f"<wandb.{self._name} of Tallyboard, which has none>"

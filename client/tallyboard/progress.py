"""A progress bar for a counter that goes through something; none where nobody sees it, which is without a terminal."""

import os
import sys
import threading
import time
from functools import cache
from typing import Any, Final

from tallyboard.notices import bars, undisturbed

SHOWN_EVERY_S: Final = 0.1


class Bar:
    """The bar that nobody sees."""

    def show(self, value: int) -> None:
        """Say where the counter stands."""

    def close(self) -> None:
        """Leave the terminal to others. Doing it again changes nothing."""


class TerminalBar(Bar):
    """A bar of tqdm's on sys.stderr. What fails about it takes the bar away, and leaves the training alone."""

    def __init__(self, name: str, value: int, total: int | None) -> None:
        """total: the value at the end. Raises whatever tqdm does."""
        kind = _kind()
        self._value = value
        self._due = 0.0
        self._bar: Any = None
        with undisturbed():
            # leave=None: the outermost bar stays when it is done, those inside go. By the last two it draws at each
            # update: `show` comes by rarely enough.
            self._bar = kind(
                desc=name, initial=value, total=total, leave=None, dynamic_ncols=True, mininterval=0, miniters=1
            )  # fmt: skip
        bars.add(self)

    def show(self, value: int) -> None:
        """Say where the counter stands; drawn now and then."""
        self._value = value
        if (now := time.monotonic()) < self._due or self._bar is None:
            return
        self._due = now + SHOWN_EVERY_S
        try:
            with undisturbed():
                self._bar.update(value - self._bar.n)
        except Exception:  # noqa: BLE001 - a terminal that fails must not end the training
            self.let_go()

    def close(self) -> None:
        """Draw where the counter came to, or clear the line of a bar inside another."""
        bar, self._bar = self._bar, None
        bars.discard(self)
        if bar is None:
            return
        try:
            with undisturbed():
                bar.n = self._value
                bar.close()
        except Exception:  # noqa: BLE001 - as above
            bar.disable = True

    def let_go(self) -> None:
        """Draw nothing more, not even when it is deleted."""
        bar, self._bar = self._bar, None
        bars.discard(self)
        if bar is not None:
            bar.disable = True


def open_bar(name: str, value: int, total: int | None) -> Bar:
    """A bar for a counter that goes from a value to a total, if that is known; without a terminal nobody sees it."""
    try:
        return TerminalBar(name, value, total) if sys.stderr is not None and sys.stderr.isatty() else Bar()
    except Exception:  # noqa: BLE001 - a stream that is closed, or replaced by who knows what
        return Bar()


@cache
def _kind() -> Any:
    """tqdm without what outlives a fork badly: its thread, and a lock that processes share."""
    from tqdm.std import tqdm

    kind = type("CounterBar", (tqdm,), {"monitor_interval": 0})
    kind.set_lock(threading.RLock())  # type: ignore[attr-defined]
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork_in_child)
    return kind


def _after_fork_in_child() -> None:
    """The terminal, and the lines of it that hold bars, are the parent's."""
    _kind().set_lock(threading.RLock())
    for bar in list(bars):
        bar.let_go()

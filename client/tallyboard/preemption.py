"""SIGTERM, by which schedulers announce that they take the machine away: send what fits, keep the rest, and go."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

PREEMPT_TIMEOUT_S: Final = 5.0
"""Schedulers wait ten seconds and more before they kill."""

_preempt: Callable[[str], None] | None = None
_masks: Final[dict[int, set[signal.Signals]]] = {}


def install(preempt: Callable[[str], None]) -> None:
    """Call `preempt` on SIGTERM, and then do what SIGTERM would have done.

    Only if nobody has installed a handler, and only from the main thread (others can't). A handler that is installed
    later may call this one. Not as the first process of a container, whom SIGTERM does not end. Forked children have
    none of it until they install it themselves.
    """
    global _preempt
    if threading.current_thread() is not threading.main_thread() or os.getpid() == 1:
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return
    if _preempt is None and hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
    _preempt = preempt
    signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    if _preempt is not None:
        _preempt(signal.Signals(number).name)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


# A child forgets signals that come before it is set up, if they have a handler: whoever terminates it at once, as
# multiprocessing may, would then wait for ever. So SIGTERM is held back until the child's is the default again.


def _before_fork() -> None:
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        _masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # type: ignore[assignment]


def _after_fork() -> None:
    mask = _masks.pop(threading.get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _after_fork()
    _masks.clear()

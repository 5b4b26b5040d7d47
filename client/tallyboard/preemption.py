"""SIGTERM, by which schedulers announce that they take the machine away: send what fits, keep the rest, and go.

A handler written in Python runs when the main thread next comes by, and a signal that arrives just before that thread
begins to wait does not end the wait: who waits for a lock that nobody releases, as a worker of multiprocessing's Pool
does when it is terminated, would never see it. So a thread is told of signals, and has the main thread look up.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Final

PREEMPT_TIMEOUT_S: Final = 5.0
"""Schedulers wait ten seconds and more before they kill."""
NUDGE_EVERY_S: Final = 0.2
NUDGES_MAX: Final = 10
"""More do not help: a main thread that is busy inside a library sees the signal when it comes back from there."""

_preempt: Callable[[str], None] | None = None
_obeying = False
_wakeup: tuple[int, int] | None = None
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
    _watch()


def _on_sigterm(number: int, _frame: FrameType | None) -> None:
    global _obeying
    if _obeying:
        return  # in the middle of what follows, which is bounded
    _obeying = True
    if _preempt is not None:
        _preempt(signal.Signals(number).name)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _watch() -> None:
    """Be told of signals, unless somebody else is (an event loop), who then does what is needed by himself."""
    global _wakeup
    if _wakeup is not None or not hasattr(signal, "pthread_kill"):
        return
    try:
        reader, writer = os.pipe()
    except OSError:  # no descriptors left: it works without, but for that one moment
        return
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
        return
    _wakeup = reader, writer
    threading.Thread(
        target=_nudge_main, args=(reader, threading.get_ident()), name="tallyboard-signals", daemon=True
    ).start()


def _nudge_main(reader: int, main: int) -> None:
    """On a thread of its own: repeat a SIGTERM until the main thread has seen it."""
    while signals := _told(reader):
        nudges = 0
        while signal.SIGTERM in signals and nudges < NUDGES_MAX:
            time.sleep(NUDGE_EVERY_S)
            if _obeying or signal.getsignal(signal.SIGTERM) is not _on_sigterm:
                break
            signal.pthread_kill(main, signal.SIGTERM)
            nudges += 1
        if nudges:
            _told(reader)  # of the nudges themselves


def _told(reader: int) -> bytes:
    """The numbers of the signals that came since; empty if there will be none any more."""
    try:
        return os.read(reader, 64)
    except OSError:  # the program has closed what it did not open
        return b""


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
    global _obeying, _wakeup
    if _wakeup is not None:
        if (told := signal.set_wakeup_fd(-1)) != _wakeup[1]:
            signal.set_wakeup_fd(told)
        for descriptor in _wakeup:
            os.close(descriptor)
    _obeying, _wakeup = False, None
    if signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _after_fork()
    _masks.clear()

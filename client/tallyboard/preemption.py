"""SIGTERM, by which schedulers announce that they take the machine away: send what fits, keep the rest, and go."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

PREEMPT_TIMEOUT_S: Final = 5.0
"""Schedulers wait ten seconds and more before they kill."""


def install(preempt: Callable[[str], None]) -> None:
    """Call `preempt` on SIGTERM, and then do what SIGTERM would have done.

    Only if nobody has installed a handler, and only from the main thread (others can't). A handler that is installed
    later may call this one. Not as the first process of a container, whom SIGTERM does not end.
    """
    if threading.current_thread() is not threading.main_thread() or os.getpid() == 1:
        return
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return

    def on_sigterm(number: int, _frame: FrameType | None) -> None:
        preempt(signal.Signals(number).name)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, on_sigterm)

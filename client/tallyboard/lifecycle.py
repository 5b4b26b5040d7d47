"""How runs end with their process: at exit, by an error or a signal, and in forked children."""

import atexit
import os
import sys
import threading
import time
import weakref
from types import TracebackType
from typing import Any, NoReturn

from tallyboard import preemption
from tallyboard.errors import ContractError
from tallyboard.notices import logger
from tallyboard.run import Run

_lock = threading.RLock()
_active: Run | None = None
_beside: list[Run] = []
_active_pid = 0
_runs: weakref.WeakSet[Run] = weakref.WeakSet()
_parents_runs: list[Run] = []
_hooked = False
_worker_pid: int | None = None


def activate(run: Run) -> None:
    """Make this the process's run: it is finished at exit, or by the next `init`."""
    global _active, _active_pid
    with _lock:
        _hook()
        _active, _active_pid = run, os.getpid()
        _runs.add(run)


def active() -> Run | None:
    """The process's run, if it has one that still reports."""
    return _active if _active is not None and not _active.finished else None


def accompany(run: Run) -> None:
    """Let a run stand beside the process's own: it is finished by whoever made it, or at exit."""
    global _active_pid
    with _lock:
        _hook()
        _active_pid = os.getpid()
        _beside.append(run)
        _runs.add(run)


def dismiss(run: Run) -> None:
    """Leave it to the caller to finish a run that stands beside the process's own."""
    with _lock:
        if run in _beside:
            _beside.remove(run)


def finish_active() -> None:
    """Finish the process's run, if it has one: a second `init`, typical of notebooks, ends the first."""
    global _active
    with _lock:
        run, _active = _active, None
    if run is not None:
        _finish(run, run.exit_timeout_s)


def finish_all() -> None:
    """Finish all runs of the process, in no more time than one of them may take."""
    global _active
    with _lock:
        runs, _active = _all(), None
        _beside.clear()
    deadline = time.monotonic() + max((run.exit_timeout_s for run in runs), default=0.0)
    for run in runs:
        _finish(run, min(run.exit_timeout_s, max(0.0, deadline - time.monotonic())))


def _finish(run: Run, timeout_s: float) -> None:
    try:
        run.finish("failed" if run.crashed else "finished", timeout_s=timeout_s)
    except ContractError as error:  # of a strict run, which is over: there is no line left to raise it on
        logger.warning("run %s: %s", run.name, error)


def _all() -> list[Run]:
    return [*([] if _active is None else [_active]), *_beside]


def preempt_all(signal_name: str) -> None:
    """Put the process's runs away: the process is about to be ended."""
    if _active_pid != os.getpid():  # a child just forked may not have forgotten them yet
        return
    deadline = time.monotonic() + preemption.PREEMPT_TIMEOUT_S
    for run in _all():
        try:
            run.preempt(signal_name, max(0.0, deadline - time.monotonic()))
        except ContractError as error:  # as above
            logger.warning("run %s: %s", run.name, error)


def _hook() -> None:
    global _hooked
    _hook_worker()
    preemption.install(preempt_all)
    if _hooked:
        return
    _hooked = True
    atexit.register(finish_all)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_abandon_all)
    _hook_errors()


def _hook_errors() -> None:
    """Notice exceptions that nobody catches, and `sys.exit` with a status that says failure.

    The interpreter tells nobody of a SystemExit, so one raised without `sys.exit` is not noticed.
    """
    previous_hook, previous_exit = sys.excepthook, sys.exit

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for run in _all():
            run.note_crash(error)
        previous_hook(kind, error, trace)

    def noted_exit(status: Any = None, /) -> NoReturn:
        if status not in (None, 0) and threading.current_thread() is threading.main_thread():
            for run in _all():
                run.note_exit(status)
        previous_exit(status)

    sys.excepthook = excepthook
    sys.exit = noted_exit


def _hook_worker() -> None:
    """Forked workers of multiprocessing end without atexit, but with finalizers of their own."""
    global _worker_pid
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is None or process is None or process.parent_process() is None or _worker_pid == os.getpid():
        return
    _worker_pid = os.getpid()
    util.Finalize(None, finish_all, exitpriority=0)


def _abandon_all() -> None:
    global _active, _lock
    _lock = threading.RLock()
    _parents_runs[:] = _runs  # never let go of: finalizers of what they hold may take locks, too
    _active = None
    _beside.clear()
    for run in _parents_runs:
        run.abandon()

"""What the client says to the person who trains: through logging, on stderr by default, each thing once."""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

logger: Final = logging.getLogger("tallyboard")

_ONCE_MAX: Final = 1_000
"""Different warnings that a run gives; later ones are only counted, so that a job in trouble can't fill its log."""
GATE_TIMEOUT_S: Final = 1.0
"""How long a fork waits for a notice, or a notice for a fork or another notice."""

_gate = threading.RLock()
_held_for_fork: Final[dict[int, bool]] = {}
_hooked = False


_INSIDE: Final = frozenset({"tallyboard", "tensorboardX"})
_CLEAR_LINE: Final = "\r\x1b[K"
bars: Final[set[Any]] = set()
"""Progress bars that stand on the line of the terminal to which a notice goes; they are drawn again below it."""


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the present sys.stderr, unless the program has set up logging of its own (which then gets it)."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("tallyboard: %(message)s"))

    def format(self, record: logging.LogRecord) -> str:
        return (_CLEAR_LINE if bars else "") + super().format(record)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers and sys.stderr is not None:
            super().emit(record)


def prepare() -> None:
    """Make notices visible by default. Doing it again changes nothing; a level set by the program stays."""
    if not any(isinstance(handler, _StderrHandler) for handler in logger.handlers):
        logger.addHandler(_StderrHandler())
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
    _hook()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Write to sys.stderr meanwhile: no fork happens.

    A child that is forked while another thread writes to a stream finds it locked for ever, by a thread that is not
    there. So forks wait until the sender has said what it has to say.
    """
    gate = _gate
    held = gate.acquire(timeout=GATE_TIMEOUT_S)  # bounded: a handler of the program's may lead back to here
    try:
        yield
    finally:
        if held:
            gate.release()


def _tell(level: int, message: str, *args: object, trace: bool = False) -> None:
    with undisturbed():
        logger.log(level, message, *args, exc_info=trace)


def _hook() -> None:
    global _hooked
    if not _hooked and hasattr(os, "register_at_fork"):
        _hooked = True
        os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _before_fork() -> None:
    _held_for_fork[threading.get_ident()] = _gate.acquire(timeout=GATE_TIMEOUT_S)


def _after_fork() -> None:
    if _held_for_fork.pop(threading.get_ident(), False):
        _gate.release()


def _after_fork_in_child() -> None:
    global _gate
    _gate = threading.RLock()
    _held_for_fork.clear()


class Notices:
    """What one run says. Thread-safe; never raises."""

    def __init__(self) -> None:
        self._said: set[tuple[object, ...]] = set()
        self._lock = threading.RLock()

    def say(self, message: str) -> None:
        """Tell what happened."""
        _tell(logging.INFO, message)

    def warn(self, message: str) -> None:
        """Tell what went wrong."""
        _tell(logging.WARNING, message)

    def warn_once(self, key: tuple[object, ...], message: str) -> None:
        """Warn, unless this was said before."""
        if self._first(key):
            _tell(logging.WARNING, message)

    def bug(self, where: str) -> None:
        """Tell, once, of an error of the client's own, with its traceback; called while it is being handled."""
        if self._first(("bug", where)):
            _tell(logging.WARNING, "an error inside the client (%s); training goes on", where, trace=True)

    def after_fork(self) -> None:
        """In a forked child, where the lock may be held by a thread that is not there."""
        self._lock = threading.RLock()

    def _first(self, key: tuple[object, ...]) -> bool:
        with self._lock:
            if key in self._said or len(self._said) >= _ONCE_MAX:
                return False
            self._said.add(key)
            return True


def caller_line() -> str:
    """`file:line` of the innermost caller outside this package, and outside tensorboardX, which may stand between."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _INSIDE:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"

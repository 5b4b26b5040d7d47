"""What an object storage raises, as errors that say what was done to what; and a pause for all while it fails."""

import errno
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 10.0
_SECRETS: Final = re.compile(r"(?i)((?:sig|signature|x-amz-[a-z-]+|token|password|secret|key)=)[^&\s]+|(://)[^/@\s]*@")
_TEXT_MAX: Final = 500
_OF_ONE_OBJECT: Final = frozenset({errno.EINVAL, errno.ENAMETOOLONG, errno.EMSGSIZE, errno.EISDIR, errno.ENOTDIR})
"""What is wrong with one object only."""


class ObjectStorageError(OSError):
    """An object could not be written, read or removed. errno EIO: nor could others be."""

    def __str__(self) -> str:
        return str(self.strerror)


class ExtraMissingError(ValueError):
    """What a location needs is not installed."""


class Breaker:
    """Keeps calls from an object storage that fails: each would wait for its timeout, one after the other.

    After a failure that is not one object's own, calls fail at once for a while, then one is let through.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_until = 0.0
        self._message = ""
        self.errors_total = 0

    @property
    def failing(self) -> bool:
        """Whether the last call failed."""
        return self._failures > 0

    @contextmanager
    def calling(self, what: str, *, may_miss: bool = False) -> Iterator[None]:
        """Around one call. may_miss: FileNotFoundError is an answer. Raises it, or ObjectStorageError."""
        self._pass()
        try:
            yield
        except FileNotFoundError as error:
            if may_miss:
                self._went_well()
                raise
            raise self._noted(what, error) from error
        except Exception as error:
            raise self._noted(what, error) from error
        self._went_well()

    def _pass(self) -> None:
        with self._lock:
            if not self._failures:
                return
            now = self._clock()
            if now < self._closed_until:
                raise ObjectStorageError(errno.EIO, self._message)
            self._closed_until = now + self._pause_s()  # whoever comes meanwhile waits for this one

    def _went_well(self) -> None:
        with self._lock:
            self._failures = 0

    def _noted(self, what: str, error: Exception) -> ObjectStorageError:
        text = _SECRETS.sub(lambda found: f"{found[1] or found[2]}…" + ("@" if found[2] else ""), str(error))
        with self._lock:
            self.errors_total += 1
            number = error.errno if isinstance(error, OSError) else None
            if number in _OF_ONE_OBJECT:
                return ObjectStorageError(number, f"{what}: {_short(error, text)}")
            self._failures += 1
            self._message = f"the object storage does not serve us: {_short(error, text)}"
            self._closed_until = self._clock() + self._pause_s()
            return ObjectStorageError(errno.EIO, self._message)

    def _pause_s(self) -> float:
        return min(_PAUSE_MAX_S, _PAUSE_FIRST_S * 2.0 ** min(self._failures - 1, 16))


def _short(error: Exception, text: str) -> str:
    name = type(error).__name__
    return f"{name}: {text[:_TEXT_MAX]}" if text else name

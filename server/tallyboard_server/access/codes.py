"""The one-time link of a first start: a code that lets one browser in, once, within an hour."""

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable
from typing import Final

CODE_S: Final = 3600.0


class LoginCode:
    """At most one code, of which only the SHA-256 is kept, in memory. clock: seconds since the epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._made: tuple[bytes, str, float] | None = None

    def make(self, token_id: str) -> str:
        """A code that stands for a token; an older one is good no more."""
        code = secrets.token_urlsafe(32)
        with self._lock:
            self._made = (_hash(code), token_id, self._clock() + CODE_S)
        return code

    def use(self, code: str) -> str | None:
        """The id of the token that a code stands for, once; None if it is wrong, used or too old."""
        with self._lock:
            if self._made is None or not hmac.compare_digest(_hash(code), self._made[0]):
                return None
            _, token_id, until = self._made
            self._made = None
        return token_id if self._clock() < until else None


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()

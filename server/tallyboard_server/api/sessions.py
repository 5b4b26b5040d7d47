"""Browsers that gave the token once: a cookie derived from it, and how often a wrong one may be tried.

The service keeps no list of sessions. A cookie says until when it is good, sealed with a key that is derived from the
token; so it holds over restarts, ends when the token is changed, and the token can't be had from it but by guessing.
"""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

GOOD_S: Final = 30 * 24 * 3600.0
TRIES_MAX: Final = 10
"""Wrong tokens from one address in TRIES_S; beyond it none is looked at."""
TRIES_S: Final = 60.0
_ADDRESSES_MAX: Final = 1_000
_ROUNDS: Final = 100_000
"""Of PBKDF2, once at the start: what a guess costs whoever has a cookie."""
_PURPOSE: Final = b"tallyboard session 1"
_COOKIE_CHARS_MAX: Final = 200


class Sessions:
    """What tells a browser that was let in. clock: seconds since the epoch."""

    def __init__(self, token: str, clock: Callable[[], float] = time.time) -> None:
        self._token = token.encode()
        self._clock = clock
        self._key = hashlib.pbkdf2_hmac("sha256", self._token, _PURPOSE, _ROUNDS)
        self.cookie_name = f"tallyboard_{self._sealed(b'name')[:8]}"
        """By the token: cookies know no ports, and services of one machine must not overwrite each other's."""

    def is_token(self, given: bytes) -> bool:
        """Whether this is the token, in constant time."""
        return hmac.compare_digest(given, self._token)

    def begin(self) -> str:
        """A new cookie's value."""
        until = str(int(self._clock() + GOOD_S))
        return f"{until}.{self._sealed(until.encode())}"

    def holds(self, cookie_header: bytes) -> bool:
        """Whether a Cookie header has a cookie that is good."""
        value = _cookie(cookie_header, self.cookie_name)
        if value is None or len(value) > _COOKIE_CHARS_MAX:
            return False
        until, _, seal = value.partition(".")
        genuine = hmac.compare_digest(seal.encode("latin-1"), self._sealed(until.encode("latin-1")).encode())
        return genuine and self._clock() < int(until)

    def _sealed(self, what: bytes) -> str:
        return hmac.new(self._key, what, hashlib.sha256).hexdigest()


class Tries:
    """Wrong tokens by address, bounded. clock: seconds, any beginning."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long an address has to wait before its next try; 0.0: not at all."""
        began, wrong = self._wrong.get(address, (0.0, 0))
        return max(0.0, began + TRIES_S - self._clock()) if wrong >= TRIES_MAX else 0.0

    def failed(self, address: str) -> None:
        """A wrong token came from an address."""
        began, wrong = self._wrong.pop(address, (0.0, 0))
        now = self._clock()
        if not wrong or now - began > TRIES_S:
            began, wrong = now, 0
        self._wrong[address] = (began, wrong + 1)
        while len(self._wrong) > _ADDRESSES_MAX:
            self._wrong.popitem(last=False)


def has_cookie(header: bytes, name: str) -> bool:
    """Whether a Cookie header has one of that name."""
    return _cookie(header, name) is not None


def _cookie(header: bytes, name: str) -> str | None:
    """A cookie's value; of several of one name the first, which has the longest path."""
    for part in header.decode("latin-1").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value.strip('"')
    return None

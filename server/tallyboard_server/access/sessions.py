"""Browsers that have logged in: a cookie of 256 random bits, of which only the SHA-256 is kept, with its token's id."""

import hashlib
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from tallyboard_server.principal import Session

SESSION_S: Final = 30 * 24 * 3600.0
SESSIONS_MAX: Final = 10_000
_COOKIE_CHARS: Final = 43


class Sessions:
    """All sessions, in memory; what the store has to be told of them is handed out by `unsaved`. Any thread may call.

    clock: seconds since the epoch. most: beyond it the oldest one goes of the token that has most, so that nobody's
    logins end those of others.
    """

    def __init__(self, clock: Callable[[], float], sessions: Iterable[Session] = (), most: int = SESSIONS_MAX) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._most = most
        self._known = OrderedDict((session.hash, session) for session in sessions)
        self._new: dict[bytes, Session] = {}
        self._gone: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._known)

    def begin(self, token_id: str) -> str:
        """A new cookie's value, for a browser that gave a token."""
        value = secrets.token_urlsafe(32)
        session = Session(hash_of_cookie(value), token_id, self._clock() + SESSION_S)
        with self._lock:
            self._known[session.hash] = self._new[session.hash] = session
            self._make_room()
        return value

    def token_of(self, cookie: str) -> str | None:
        """The id of the token that the browser with this cookie gave; None if that is no session, or none any more."""
        if not may_be_cookie(cookie):
            return None
        found = self._known.get(hash_of_cookie(cookie))
        return None if found is None or self._clock() >= found.until else found.token

    def end(self, cookie: str) -> None:
        """Whoever has this cookie is not let in any more."""
        with self._lock:
            self._forget(hash_of_cookie(cookie))

    def end_of(self, is_over: Callable[[str], bool]) -> None:
        """End those whose token's id is so, and those whose time is over."""
        now = self._clock()
        with self._lock:
            for session in list(self._known.values()):
                if now >= session.until or is_over(session.token):
                    self._forget(session.hash)

    def replace(self, sessions: Iterable[Session]) -> None:
        """These are in the store; what is not saved yet stays."""
        with self._lock:
            known = {session.hash: session for session in sessions if session.hash not in self._gone}
            self._known = OrderedDict(known | self._new)
            self._make_room()

    def learn(self, sessions: Iterable[Session]) -> None:
        """These are in the store, too."""
        with self._lock:
            for session in sessions:
                if session.hash not in self._gone:
                    self._known.setdefault(session.hash, session)

    def unsaved(self) -> tuple[list[Session], list[bytes]]:
        """What began and what ended since the last call that returned it."""
        with self._lock:
            new, gone = list(self._new.values()), list(self._gone)
            self._new.clear()
            self._gone.clear()
        return new, gone

    def put_back(self, new: Iterable[Session], gone: Iterable[bytes]) -> None:
        """`unsaved` could not be saved: hand it out again next time."""
        with self._lock:
            self._new |= {session.hash: session for session in new if session.hash in self._known}
            self._gone |= set(gone)

    def _make_room(self) -> None:
        while len(self._known) > self._most:
            ((greedy, _),) = Counter(one.token for one in self._known.values()).most_common(1)
            self._forget(next(one.hash for one in self._known.values() if one.token == greedy))

    def _forget(self, hashed: bytes) -> None:
        if self._known.pop(hashed, None) is not None and self._new.pop(hashed, None) is None:
            self._gone.add(hashed)


def cookie_value(header: bytes, name: str) -> str | None:
    """A cookie's value; of several of one name the first, which has the longest path."""
    for part in header.decode("latin-1").split(";"):
        key, _, value = part.strip().partition("=")
        if key == name:
            return value.strip('"')
    return None


def may_be_cookie(cookie: str) -> bool:
    """Whether a text looks like a session's cookie at all."""
    return len(cookie) == _COOKIE_CHARS and cookie.isascii()


def hash_of_cookie(cookie: str) -> bytes:
    """What is kept of a cookie."""
    return hashlib.sha256(cookie.encode("latin-1", "replace")).digest()

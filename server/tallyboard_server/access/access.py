"""Who a request comes from: by a token, by a browser's cookie, or anybody while the service is open."""

import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, replace
from typing import Final

from tallyboard_server.access import rules
from tallyboard_server.access.codes import LoginCode
from tallyboard_server.access.errors import AdminTokenFirstError, TokenNotFoundError, TokenRefusedError
from tallyboard_server.access.sessions import Sessions, cookie_value
from tallyboard_server.access.tokens import ENVIRONMENT_TOKEN, Book, TokenWanted, hashed, is_usable, new_text
from tallyboard_server.access.tries import Tries
from tallyboard_server.ingest.auditing import note
from tallyboard_server.principal import SERVICE, Principal, Token
from tallyboard_server.store.protocol import Store, StoreBusyError, StoreError, Transaction

SAVE_EVERY_S: Final = 60.0
"""When tokens were last used is saved at most so often."""
_COOKIE_ID_CHARS: Final = 8
_ROUNDS: Final = 100_000
"""Of PBKDF2, once at the start: what a guess of TALLYBOARD_TOKEN costs whoever has a copy of the store."""
_PURPOSE: Final = b"tallyboard session 2"

Record = Callable[[Callable[[Transaction], None]], None]
log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class FirstToken:
    """What a first start off loopback made: the token's text, and a code that lets one browser in."""

    text: str
    code: str


class Access:
    """Tokens and sessions of one service. Made before the store is there; `open` takes over what is in it.

    token: TALLYBOARD_TOKEN. may_be_open: whether it takes anybody as long as there never was a token. clock: seconds
    since the epoch. Any thread may call; what changes the store waits for the writer.
    """

    def __init__(self, token: str | None, *, may_be_open: bool, clock: Callable[[], float] = time.time) -> None:
        self.own_token = f"tb_service_{secrets.token_urlsafe(32)}"
        """What the service gives when it asks itself over HTTP: in memory only."""
        self.tries = Tries()
        """Wrong tokens given to the login page; right ones are looked at no more, either."""
        self.wrong_tokens = Tries()
        """Wrong tokens in headers; right ones are always taken."""
        self.cookie_name = ""
        self.first: FirstToken | None = None
        self.codes = LoginCode(clock)
        self.sessions = Sessions(clock)
        self._clock = clock
        self._may_be_open = may_be_open
        self._own = hashed(self.own_token.encode())
        self._environment: tuple[bytes, str] | None = None
        if token is not None:
            sealed = hashlib.pbkdf2_hmac("sha256", token.encode(), _PURPOSE, _ROUNDS).hex()
            self._environment = hashed(token.encode()), f"{ENVIRONMENT_TOKEN}:{sealed[:32]}"
        self._book = Book()
        self._record: Record | None = None
        self._store: Store | None = None
        self._changing = threading.Lock()
        self._used_saved_at = clock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="tallyboard-access", daemon=True)

    def open(self, store: Store, record: Record) -> None:
        """Take over what is in the store, make a first token if one is needed, and begin to save.

        record: runs a function in a transaction of the writer. Raises StoreError.
        """
        with store.snapshot() as view:
            identity, tokens, sessions = view.identity(), view.tokens(), view.sessions()
        self._record = record
        self._store = store
        self.cookie_name = f"tallyboard_{identity[:_COOKIE_ID_CHARS]}"
        self._book = Book(tokens)
        self.sessions = Sessions(self._clock, sessions)
        self.sessions.end_of(self._is_over)
        now = self._clock()
        has_admin = any(rules.is_for_all(token) and is_usable(token, now) for token in self._book)
        if not (self._may_be_open or self._environment or has_admin):
            token, text = self._made(TokenWanted("admin", "first start"), SERVICE, now)
            self.first = FirstToken(text, self.codes.make(token.id))
        self._thread.start()

    def reload(self) -> None:
        """Another service has changed tokens or sessions: take over what is in the store. Raises StoreError."""
        if self._store is None:
            return
        with self._store.snapshot() as view:
            tokens, sessions = view.tokens(), view.sessions()
        book = Book(tokens)
        book.used = self._book.used
        self._book = book
        self.sessions.replace(sessions)
        self.sessions.end_of(self._is_over)

    def close(self, timeout_s: float = 10.0) -> None:
        """Save once more, and end."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def is_open(self) -> bool:
        """Whether anybody may do anything: nobody ever made a token, and only this machine can ask."""
        return self._may_be_open and self._environment is None and not len(self._book)

    @property
    def has_environment_token(self) -> bool:
        """Whether TALLYBOARD_TOKEN is set."""
        return self._environment is not None

    def of_token(self, text: bytes, address: str) -> Principal:
        """Who gave this token. Raises TokenRefusedError."""
        given = hashed(text)
        if self._environment is not None and hmac.compare_digest(given, self._environment[0]):
            return self._of_environment(address)
        if hmac.compare_digest(given, self._own):
            return Principal(SERVICE.name, "write", address=address, rate=0.0)
        return _principal(self._book.holder(text, self._clock()), address)

    def of_cookie(self, header: bytes, address: str) -> Principal | None:
        """Whose browser sends this Cookie header; None if it is nobody's, or nobody's any more."""
        value = cookie_value(header, self.cookie_name)
        known = None if value is None else self.sessions.token_of(value)
        if known is None:
            return None
        if self._environment is not None and known == self._environment[1]:
            return self._of_environment(address)
        token, now = self._book.get(known), self._clock()
        if token is None or not is_usable(token, now):
            return None
        self._book.used[token.id] = now
        return _principal(token, address)

    def log_in(self, by: Principal) -> str:
        """A cookie's value for a browser that gave its token; saved when the store can."""
        known = by.token or ""
        if self._environment is not None and known == ENVIRONMENT_TOKEN:
            known = self._environment[1]
        value = self.sessions.begin(known)
        self._wake.set()
        return value

    def of_code(self, code: str, address: str) -> Principal:
        """Who a one-time code stands for. Raises TokenRefusedError."""
        token_id = self.codes.use(code)
        token = None if token_id is None else self._book.get(token_id)
        if token is None or not is_usable(token, self._clock()):
            raise TokenRefusedError("the link is wrong, too old, or was used before")
        return _principal(token, address)

    def log_out(self, header: bytes) -> None:
        """End the session of a Cookie header, if it has one."""
        if (value := cookie_value(header, self.cookie_name)) is not None:
            self.sessions.end(value)
            self._wake.set()

    def is_good(self, by: Principal) -> bool:
        """Whether somebody who was let in still would be: a stream may outlast its token."""
        if by.token is None or by.token == ENVIRONMENT_TOKEN:
            return True
        token = self._book.get(by.token)
        return token is not None and is_usable(token, self._clock())

    def listed(self, by: Principal) -> list[Token]:
        """The tokens that somebody may see, oldest first, each with its last use."""
        found = [self._book.shown(token) for token in self._book if rules.may_see(by, token)]
        return sorted(found, key=lambda token: (token.created_at, token.id))

    def create(self, wanted: TokenWanted, by: Principal) -> tuple[Token, str]:
        """Make a token; its text is known to nobody but the caller from here on.

        Raises AccessError, StoreError.
        """
        with self._changing:
            now = self._clock()
            if self.is_open and not (wanted.scope == "admin" and wanted.project is None):
                raise AdminTokenFirstError(
                    "no token was ever made here, and as soon as there is one, nobody gets in without. Make one of "
                    "scope admin without a project first: tallyboard token create --scope admin"
                )
            if not self.is_good(by):  # the request may have begun long before its body was here
                raise TokenRefusedError("the token that asks for another was revoked or has expired meanwhile")
            own = None if by.token is None else self._book.get(by.token)
            wanted = rules.within_own(wanted, by, own, now)
            rules.check_room(self._book, by, now)
            return self._made(wanted, by, now)

    def revoke(self, token_id: str, by: Principal) -> Token:
        """End a token and the sessions that were begun with it, at once; one that was revoked stays so.

        Raises AccessError, StoreError.
        """
        with self._changing:
            token = self._book.get(token_id)
            if token_id == ENVIRONMENT_TOKEN and by.project is None:
                raise TokenNotFoundError("TALLYBOARD_TOKEN is no token of the store; start the service without it")
            if token is None or not rules.may_see(by, token):
                raise TokenNotFoundError(f"there is no token {token_id[:100]!r}; GET /api/v1/tokens lists them")
            if token.revoked_at is not None:
                return token
            now = self._clock()
            if self._environment is None:
                rules.check_not_last(token, self._book, now)
            token = replace(self._book.shown(token), revoked_at=now)

            def work(transaction: Transaction) -> None:
                transaction.save_token(token)
                transaction.drop_sessions_of(token.id)
                _note(transaction, now, by, "token.revoke", token)

            self._write(work)
            self._book.put(token)
            self.sessions.end_of(self._is_over)
            return token

    def save(self, *, last: bool = False) -> None:
        """Tell the store which sessions began and ended, and now and then when tokens were used; try again later if
        it can't. last: there is no later."""
        with self._changing:
            now = self._clock()
            is_due = last or now - self._used_saved_at >= SAVE_EVERY_S
            if is_due:
                self.sessions.end_of(self._is_over)
            used = [self._book.shown(token) for token in self._book if token.id in self._book.used] if is_due else []
            new, gone = self.sessions.unsaved()
            if not (used or new or gone):
                return

            def work(transaction: Transaction) -> None:
                for token in used:
                    transaction.save_token(token)
                transaction.drop_sessions(gone)
                for session in new:
                    transaction.save_session(session)

            self._used_saved_at = now if is_due else self._used_saved_at
            try:
                self._write(work)
            except Exception as error:  # noqa: BLE001 - nobody waits for it, and the next attempt comes by itself
                self.sessions.put_back(new, gone)
                log.warning("sessions and last uses of tokens could not be saved: %s", error)
                return
            for token in used:
                self._book.put(token)
                if self._book.used.get(token.id) == token.last_used_at:
                    del self._book.used[token.id]

    def _made(self, wanted: TokenWanted, by: Principal, now: float) -> tuple[Token, str]:
        token_id, text = new_text()
        token = Token(
            id=token_id,
            name=wanted.name or token_id,
            scope=wanted.scope,
            project=wanted.project,
            hash=hashed(text.encode()),
            created_at=now,
            created_by=by.name,
            expires_at=None if wanted.expires_s is None else now + wanted.expires_s,
            rate=wanted.rate,
        )
        forgotten = self._book.too_many_ended(now)

        def work(transaction: Transaction) -> None:
            transaction.save_token(token)
            for ended in forgotten:
                transaction.drop_token(ended)
            _note(transaction, now, by, "token.create", token)

        self._write(work)
        self._book.put(token)
        for ended in forgotten:
            self._book.drop(ended)
        return token, text

    def _write(self, work: Callable[[Transaction], None]) -> None:
        if self._record is None:
            raise StoreError("the service does not run")
        try:
            self._record(work)
        except FutureTimeoutError as error:
            raise StoreBusyError("the store did not commit in time; look whether it was done, then retry") from error

    def _of_environment(self, address: str) -> Principal:
        return Principal(ENVIRONMENT_TOKEN, "admin", token=ENVIRONMENT_TOKEN, address=address)

    def _is_over(self, known: str) -> bool:
        """Whether sessions that were begun with a token are good no more."""
        if self._environment is not None and known == self._environment[1]:
            return False
        token = self._book.get(known)
        return token is None or not is_usable(token, self._clock())

    def _keep(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(SAVE_EVERY_S)
            self._wake.clear()
            self.save()
        self.save(last=True)


def _principal(token: Token, address: str) -> Principal:
    return Principal(token.name, token.scope, token.project, token.id, address, token.rate)


def _note(transaction: Transaction, now: float, by: Principal, action: str, token: Token) -> None:
    """Keep in the audit what was done to a token."""
    detail = {
        "id": token.id, "name": token.name, "scope": token.scope, "project": token.project,
        "expires_at": token.expires_at, "rate": token.rate,
    }  # fmt: skip
    note(transaction, now, by, action, None, **detail)

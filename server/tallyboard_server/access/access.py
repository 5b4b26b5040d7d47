"""Who a request comes from: by a token, by a browser's cookie, or anybody while the service is open."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tallyboard_server.access import rules
from tallyboard_server.access.codes import CODE_S, hash_of_code, may_be_code, new_code
from tallyboard_server.access.errors import (
    AdminTokenFirstError,
    TokenNotFoundError,
    TokenRefusedError,
    TokenUnknownError,
)
from tallyboard_server.access.lookups import Lookups
from tallyboard_server.access.memory import Memory
from tallyboard_server.access.sessions import cookie_value, hash_of_cookie, may_be_cookie
from tallyboard_server.access.tokens import ENVIRONMENT_TOKEN, Book, TokenWanted, hashed, id_of, is_usable, new_text
from tallyboard_server.access.tries import Tries
from tallyboard_server.ingest.auditing import note
from tallyboard_server.principal import SERVICE, Principal, Token
from tallyboard_server.store.protocol import Record, Store, Transaction

_COOKIE_ID_CHARS: Final = 8
_ROUNDS: Final = 100_000
"""Of PBKDF2, once at the start: what a guess of TALLYBOARD_TOKEN costs whoever has a copy of the store."""
_PURPOSE: Final = b"tallyboard session 2"


@dataclass(slots=True, frozen=True)
class FirstToken:
    """What a first start off loopback made: the token's text, and a code that lets one browser in."""

    text: str
    code: str


def new_own_token() -> str:
    """What a service gives when it asks itself; services behind one port share it."""
    return f"tb_service_{secrets.token_urlsafe(32)}"


class Access:
    """Tokens and sessions of one service. Made before the store is there; `open` takes over what is in it.

    token: TALLYBOARD_TOKEN. may_be_open: whether it takes anybody as long as there never was a token. clock: seconds
    since the epoch. Any thread may call, but for what is awaited; what changes the store waits for that.

    Other services may share the store: what they made is found by a second look (`who_gave`, `whose`), what they ended
    is told to `reload`.
    """

    def __init__(
        self,
        token: str | None,
        *,
        may_be_open: bool,
        clock: Callable[[], float] = time.time,
        own_token: str | None = None,
    ) -> None:
        self.own_token = own_token or new_own_token()
        """What the service gives when it asks itself over HTTP: in memory only."""
        self.tries = Tries()
        """Wrong tokens given to the login page; right ones are looked at no more, either."""
        self.wrong_tokens = Tries()
        """Wrong tokens in headers; right ones are always taken."""
        self.cookie_name = ""
        self.first: FirstToken | None = None
        self.is_made_elsewhere = False
        """Whether another service, started at the same time, has made the first token."""
        self._clock = clock
        self._may_be_open = may_be_open
        self._own = hashed(self.own_token.encode())
        self._environment: tuple[bytes, str] | None = None
        if token is not None:
            sealed = hashlib.pbkdf2_hmac("sha256", token.encode(), _PURPOSE, _ROUNDS).hex()
            self._environment = hashed(token.encode()), f"{ENVIRONMENT_TOKEN}:{sealed[:32]}"
        self._memory = Memory(clock, self._is_over)
        self._lookups = Lookups(self._memory.learn)

    def open(self, store: Store, record: Record) -> None:
        """Take over what is in the store, make a first token if one is needed, and begin to save. Raises StoreError."""
        self._memory.open(store, record)
        with store.snapshot() as view:
            self.cookie_name = f"tallyboard_{view.identity()[:_COOKIE_ID_CHARS]}"
        if not (self._may_be_open or self._environment or self._has_admin(self._memory.book)):
            self.first = self._memory.decide(self._first_token)
            self.is_made_elsewhere = self.first is None
        self._memory.start()

    def reload(self) -> None:
        """Another service has changed tokens or sessions: take over what is in the store, in a moment."""
        self._memory.read_soon()

    def on_end(self, listener: Callable[[], None]) -> None:
        """Call `listener`, on any thread, when a token that was good is so no more: streams may outlast theirs."""
        self._memory.on_end = listener

    def close(self, timeout_s: float = 10.0) -> None:
        """Save once more, and end."""
        self._memory.close(timeout_s)

    @property
    def is_open(self) -> bool:
        """Whether anybody may do anything: nobody ever made a token, and only this machine can ask."""
        return self._may_be_open and self._environment is None and not len(self._memory.book)

    @property
    def has_environment_token(self) -> bool:
        """Whether TALLYBOARD_TOKEN is set."""
        return self._environment is not None

    async def who_gave(self, text: bytes, address: str) -> Principal:
        """`of_token`, with a second look in a store that is shared. Raises TokenRefusedError, StoreError.

        Whatever looks like a token and is wrong is looked up, whether its id is known or not: so the time it takes
        tells nothing of which there are.
        """
        try:
            return self.of_token(text, address)
        except TokenUnknownError:
            token_id = id_of(text)
            if token_id is None or not self._memory.is_shared:
                raise
        await self._lookups.look(token_id)
        return self.of_token(text, address)

    async def whose(self, header: bytes, address: str) -> Principal | None:
        """`of_cookie`, with a second look in a store that is shared. Raises StoreError."""
        if (found := self.of_cookie(header, address)) is not None or not self._memory.is_shared:
            return found
        value = cookie_value(header, self.cookie_name)
        if value is None or not may_be_cookie(value):
            return None
        await self._lookups.look(hash_of_cookie(value))
        return self.of_cookie(header, address)

    def of_token(self, text: bytes, address: str) -> Principal:
        """Who gave this token, as far as this service knows. Raises TokenRefusedError."""
        given = hashed(text)
        if self._environment is not None and hmac.compare_digest(given, self._environment[0]):
            return self._of_environment(address)
        if hmac.compare_digest(given, self._own):
            return Principal(SERVICE.name, "write", address=address, rate=0.0)
        return _principal(self._memory.book.holder(text, self._clock()), address)

    def of_cookie(self, header: bytes, address: str) -> Principal | None:
        """Whose browser sends this Cookie header, as far as this service knows; None if it is nobody's, or nobody's
        any more."""
        value = cookie_value(header, self.cookie_name)
        known = None if value is None else self._memory.sessions.token_of(value)
        if known is None:
            return None
        if self._environment is not None and known == self._environment[1]:
            return self._of_environment(address)
        token, now = self._memory.book.get(known), self._clock()
        if token is None or not is_usable(token, now):
            return None
        self._memory.book.used[token.id] = now
        return _principal(token, address)

    def log_in(self, by: Principal) -> str:
        """A cookie's value for a browser that gave its token; saved when the store can.

        If that is shared, the browser's next request may come to another service, so it is saved first. Raises
        StoreError if it can't be then.
        """
        known = by.token or ""
        if self._environment is not None and known == ENVIRONMENT_TOKEN:
            known = self._environment[1]
        value = self._memory.sessions.begin(known)
        if not self._memory.is_shared:
            self._memory.save_soon()
        elif (error := self._memory.save()) is not None:
            self._memory.sessions.end(value)
            raise error
        return value

    def of_code(self, code: str, address: str) -> Principal:
        """Who a one-time code stands for, once, whichever service made it. Raises TokenRefusedError, StoreError."""
        found: list[tuple[str, float] | None] = [None]

        def work(transaction: Transaction) -> None:
            found[:] = [transaction.take_login_code(hash_of_code(code))]

        if may_be_code(code):
            self._memory.write(work)
        token_id, until = found[0] or ("", 0.0)
        if token_id and self._memory.book.get(token_id) is None:
            self._memory.learn([token_id])
        token, now = self._memory.book.get(token_id), self._clock()
        if token is None or now >= until or not is_usable(token, now):
            raise TokenRefusedError("the link is wrong, too old, or was used before")
        return _principal(token, address)

    def log_out(self, header: bytes) -> None:
        """End the session of a Cookie header, if it has one."""
        if (value := cookie_value(header, self.cookie_name)) is not None:
            self._memory.sessions.end(value)
            self._memory.save_soon()

    def is_good(self, by: Principal) -> bool:
        """Whether somebody who was let in still would be: a stream may outlast its token."""
        return self._is_good(by, self._memory.book)

    def listed(self, by: Principal) -> list[Token]:
        """The tokens that somebody may see, oldest first, each with its last use. Raises StoreError."""
        book = self._memory.as_stored()
        found = [book.shown(token) for token in book if rules.may_see(by, token)]
        return sorted(found, key=lambda token: (token.created_at, token.id))

    def create(self, wanted: TokenWanted, by: Principal) -> tuple[Token, str]:
        """Make a token; its text is known to nobody but the caller from here on.

        Raises AccessError, StoreError.
        """
        anybody = self.is_open and by is not SERVICE

        def decide(transaction: Transaction, book: Book) -> tuple[Token, str]:
            now = self._clock()
            is_first = self._may_be_open and self._environment is None and not len(book)
            if is_first and not (wanted.scope == "admin" and wanted.project is None):
                raise AdminTokenFirstError(
                    "no token was ever made here, and as soon as there is one, nobody gets in without. Make one of "
                    "scope admin without a project first: tallyboard token create --scope admin"
                )
            if anybody and not is_first:  # another service has made the first one meanwhile
                raise TokenRefusedError("a token was made a moment ago, and from now on this service asks for one")
            if not self._is_good(by, book):  # the request may have begun long before its body was here
                raise TokenRefusedError("the token that asks for another was revoked or has expired meanwhile")
            own = None if by.token is None else book.get(by.token)
            within = rules.within_own(wanted, by, own, now)
            rules.check_room(book, by, now)
            return self._made(transaction, book, within, by, now)

        return self._memory.decide(decide)

    def revoke(self, token_id: str, by: Principal) -> Token:
        """End a token and the sessions that were begun with it, at once; one that was revoked stays so.

        Raises AccessError, StoreError.
        """

        def decide(transaction: Transaction, book: Book) -> Token:
            token = book.get(token_id)
            if token_id == ENVIRONMENT_TOKEN and by.project is None:
                raise TokenNotFoundError("TALLYBOARD_TOKEN is no token of the store; start the service without it")
            if token is None or not rules.may_see(by, token):
                raise TokenNotFoundError(f"there is no token {token_id[:100]!r}; GET /api/v1/tokens lists them")
            if token.revoked_at is not None:
                return token
            now = self._clock()
            if self._environment is None:
                rules.check_not_last(token, book, now)
            token = replace(self._memory.book.shown(token), revoked_at=now)
            transaction.save_token(token)
            transaction.drop_sessions_of(token.id)
            _note(transaction, now, by, "token.revoke", token)
            book.put(token)
            return token

        return self._memory.decide(decide)

    def save(self) -> None:
        """Tell the store which sessions began and ended, and now and then when tokens were used; try again later if
        it can't."""
        self._memory.save()

    def _first_token(self, transaction: Transaction, book: Book) -> FirstToken | None:
        """An admin's token, unless there is one by now."""
        if self._has_admin(book):
            return None
        now, code = self._clock(), new_code()
        token, text = self._made(transaction, book, TokenWanted("admin", "first start"), SERVICE, now)
        transaction.save_login_code(hash_of_code(code), token.id, now + CODE_S)
        return FirstToken(text, code)

    def _made(
        self, transaction: Transaction, book: Book, wanted: TokenWanted, by: Principal, now: float
    ) -> tuple[Token, str]:
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
        forgotten = book.too_many_ended(now)
        transaction.save_token(token)
        for ended in forgotten:
            transaction.drop_token(ended)
        _note(transaction, now, by, "token.create", token)
        book.put(token)
        for ended in forgotten:
            book.drop(ended)
        return token, text

    def _has_admin(self, book: Book) -> bool:
        now = self._clock()
        return any(rules.is_for_all(token) and is_usable(token, now) for token in book)

    def _is_good(self, by: Principal, book: Book) -> bool:
        if by.token is None or by.token == ENVIRONMENT_TOKEN:
            return True
        token = book.get(by.token)
        return token is not None and is_usable(token, self._clock())

    def _of_environment(self, address: str) -> Principal:
        return Principal(ENVIRONMENT_TOKEN, "admin", token=ENVIRONMENT_TOKEN, address=address)

    def _is_over(self, known: str) -> bool:
        """Whether sessions that were begun with a token are good no more."""
        if self._environment is not None and known == self._environment[1]:
            return False
        token = self._memory.book.get(known)
        return token is None or not is_usable(token, self._clock())


def _principal(token: Token, address: str) -> Principal:
    return Principal(token.name, token.scope, token.project, token.id, address, token.rate)


def _note(transaction: Transaction, now: float, by: Principal, action: str, token: Token) -> None:
    """Keep in the audit what was done to a token."""
    detail = {
        "id": token.id, "name": token.name, "scope": token.scope, "project": token.project,
        "expires_at": token.expires_at, "rate": token.rate,
    }  # fmt: skip
    note(transaction, now, by, action, None, **detail)

"""Tokens: their text, and the book in which they are looked up without telling anything by the time that takes."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tallyboard_server.access.errors import TokenRefusedError, TokenUnknownError
from tallyboard_server.principal import Scope, Token

TOKENS_MAX: Final = 1_000
"""Tokens in use: neither revoked nor expired."""
PROJECT_TOKENS_MAX: Final = 100
"""Of them those of one project (the first part of its name), if an admin of that makes another: else one project's
admin could leave all others without."""
ENDED_KEPT_MAX: Final = 1_000
"""Revoked and expired tokens that are still listed; the oldest go. At least one stays: it keeps the service closed."""
ENVIRONMENT_TOKEN: Final = "TALLYBOARD_TOKEN"  # noqa: S105 - its name
"""The id of the token that is not in the store but in the environment."""

_ID_CHARS: Final = 10
_TEXT: Final = re.compile(rf"tb_([0-9a-z]{{{_ID_CHARS}}})_[A-Za-z0-9_-]{{43}}", re.ASCII)
_ID_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_TEXT_BYTES_MAX: Final = 4_096
"""No token is longer; what is longer is not hashed."""


@dataclass(slots=True, frozen=True)
class TokenWanted:
    """A token to be made. name "": called by its id. project None: all. expires_s: from now, None: never.

    rate: requests per second, None: as the service's setting says.
    """

    scope: Scope
    name: str = ""
    project: str | None = None
    expires_s: float | None = None
    rate: float | None = None


def new_text() -> tuple[str, str]:
    """The id and the text of a token that nobody has: 256 random bits behind a public id."""
    token_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARS))
    return token_id, f"tb_{token_id}_{secrets.token_urlsafe(32)}"


def id_of(text: bytes) -> str | None:
    """The id in a token's text; None: no token that was ever made looks like that."""
    found = _TEXT.fullmatch(text.decode("latin-1")) if len(text) <= _TEXT_BYTES_MAX else None
    return None if found is None else found[1]


def hashed(text: bytes) -> bytes:
    """What is kept of a token. 256 random bits need no slower sum."""
    return hashlib.sha256(text[: _TEXT_BYTES_MAX + 1]).digest()


_NOBODY: Final = Token("", "", "read", None, hashed(secrets.token_bytes(32)), 0.0, "", revoked_at=0.0)
"""What a text without a known id is compared with, so that it takes as long as one with."""


def is_usable(token: Token, now: float) -> bool:
    """Whether a token is neither revoked nor expired."""
    return token.revoked_at is None and (token.expires_at is None or now < token.expires_at)


class Book:
    """Tokens by id, in memory. Changed by one thread at a time; any may look."""

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._tokens = {token.id: token for token in tokens}
        self.used: dict[str, float] = {}
        """When tokens were last used, by id, as far as the store does not know yet."""

    def __len__(self) -> int:
        return len(self._tokens)

    def __iter__(self) -> Iterator[Token]:
        return iter(list(self._tokens.values()))

    def get(self, token_id: str) -> Token | None:
        """A token by its id."""
        return self._tokens.get(token_id)

    def put(self, token: Token) -> None:
        """Add a token, or replace the one with its id."""
        self._tokens[token.id] = token

    def drop(self, token_id: str) -> None:
        """Forget a token."""
        self._tokens.pop(token_id, None)
        self.used.pop(token_id, None)

    def shown(self, token: Token) -> Token:
        """A token as the book knows it, with its last use."""
        times = [at for at in (self.used.get(token.id), token.last_used_at) if at is not None]
        return replace(token, last_used_at=max(times, default=None))

    def holder(self, text: bytes, now: float) -> Token:
        """The usable token with this text. Raises TokenRefusedError.

        Whatever was given, one sum is made and one compared in constant time.
        """
        token_id = id_of(text)
        token = _NOBODY if token_id is None else self._tokens.get(token_id, _NOBODY)
        if not hmac.compare_digest(hashed(text), token.hash):
            raise TokenUnknownError("the token is wrong")
        if token.revoked_at is not None:
            raise TokenRefusedError(f"the token {token.id} was revoked")
        if not is_usable(token, now):
            raise TokenRefusedError(f"the token {token.id} has expired")
        self.used[token.id] = now
        return token

    def were_saved(self, used: Mapping[str, float]) -> None:
        """The store knows that tokens were used at these times."""
        for token_id, at in used.items():
            token = self._tokens.get(token_id)
            if token is not None:
                self._tokens[token_id] = replace(token, last_used_at=max(at, token.last_used_at or at))
            if self.used.get(token_id) == at:
                del self.used[token_id]

    def too_many_ended(self, now: float, leaving: int = ENDED_KEPT_MAX) -> list[str]:
        """The ids of the oldest tokens that ended, beyond those that stay listed."""
        ended = [token for token in self._tokens.values() if not is_usable(token, now)]
        ended.sort(key=lambda token: (token.created_at, token.id))
        return [token.id for token in ended[: max(0, len(ended) - leaving)]]

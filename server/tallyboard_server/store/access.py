"""What a store keeps of who may do what, and of who did what: tokens, browsers that have logged in, the audit."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from tallyboard_server.principal import AuditEntry, Session, Token

AUDIT_ENTRIES_MAX: Final = 1_000_000
"""Entries of the audit that are kept at least; older ones may be forgotten."""


class AccessChanges(Protocol):
    """The part of a transaction."""

    def lock_tokens(self) -> list[Token]:
        """All tokens as of now, oldest first; until the transaction ends nobody else changes tokens, or ends sessions.

        Whoever makes or revokes one looks here first.
        """
        ...

    def touch_tokens(self, used: Mapping[str, float]) -> None:
        """When tokens were used, by id (seconds since the epoch): that moves forward only, and nothing else changes."""
        ...

    def save_login_code(self, hashed: bytes, token_id: str, until: float) -> None:
        """Keep a one-time code, by its hash, in the place of any other; it stands for a token until a time."""
        ...

    def take_login_code(self, hashed: bytes) -> tuple[str, float] | None:
        """What a one-time code stands for, once: the id of the token, and until when; None if there is no such code."""
        ...

    def save_token(self, token: Token) -> None:
        """Insert or replace a token by its id."""
        ...

    def drop_token(self, token_id: str) -> None:
        """Forget a token, and the sessions that were begun with it."""
        ...

    def save_session(self, session: Session) -> None:
        """Keep a browser's session."""
        ...

    def drop_sessions(self, hashes: Sequence[bytes]) -> bool:
        """Forget sessions; those that are gone are passed over. Whether any was there."""
        ...

    def drop_sessions_of(self, token_id: str) -> None:
        """Forget the sessions that were begun with a token."""
        ...

    def append_audit(self, entry: AuditEntry) -> None:
        """Keep what was done, under the next id; nothing ever changes it. The newest AUDIT_ENTRIES_MAX stay."""
        ...


class AccessView(Protocol):
    """The part of a snapshot."""

    def tokens(self, ids: Sequence[str] | None = None) -> list[Token]:
        """All tokens, or those with these ids (a few thousand at most), oldest first; bounded by whoever makes them."""
        ...

    def sessions(self, hashes: Sequence[bytes] | None = None) -> list[Session]:
        """All sessions of browsers, or those with these hashes (a few thousand at most); those that end first before
        the others. Bounded by whoever begins them."""
        ...

    def audit(
        self,
        *,
        prefix: str = "",
        run: str | None = None,
        action: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditEntry]:
        """Entries of the audit, newest first: of runs whose names begin with `prefix` ("": all, and what was done to
        no run), of one run, of one action; those whose id is less than `before`."""
        ...

"""What POST, GET and DELETE /tokens take and answer."""

from typing import Any

import msgspec

from tallyboard.wire.messages import Message
from tallyboard_server.principal import Scope, Token


class TokenBody(Message, kw_only=True):
    """A token to be made. name: for people, as the audit shows it; its id if empty. project: the one whose runs it
    reaches; null: all. expires_s: seconds until it is good no more; null: never. rate: requests a second that it may
    make; null: as the service's setting says.
    """

    scope: Scope
    name: str = ""
    project: str | None = None
    expires_s: float | None = None
    rate: float | None = None


class TokenView(msgspec.Struct, kw_only=True):
    """A token, without its text. Times: seconds since the epoch; null: never. last_used_at: to the minute."""

    id: str
    name: str
    scope: Scope
    project: str | None
    created_at: float
    created_by: str
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    rate: float | None


class TokenMade(TokenView, kw_only=True):
    """A token that was just made. token: its text, which nobody can be shown again."""

    token: str


class TokensPage(msgspec.Struct, kw_only=True):
    """Tokens, oldest first. environment: whether TALLYBOARD_TOKEN is good, too."""

    tokens: list[TokenView]
    environment: bool


def token_view(token: Token) -> TokenView:
    """A token as it is shown."""
    return TokenView(**_shown(token))


def token_made(token: Token, text: str) -> TokenMade:
    """A token as it is shown once."""
    return TokenMade(**_shown(token), token=text)


def _shown(token: Token) -> dict[str, Any]:
    return {name: getattr(token, name) for name in TokenView.__struct_fields__}

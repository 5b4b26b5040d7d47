"""Who gets in: tokens, the browsers that gave one, and the one-time link of a first start."""

from tallyboard_server.access.access import Access, FirstToken, new_own_token
from tallyboard_server.access.errors import (
    AccessError,
    AdminTokenFirstError,
    BeyondOwnError,
    LastAdminTokenError,
    TokenNotFoundError,
    TokenRefusedError,
    TokensTooManyError,
)
from tallyboard_server.access.sessions import SESSION_S, Sessions
from tallyboard_server.access.tokens import ENVIRONMENT_TOKEN, TOKENS_MAX, TokenWanted
from tallyboard_server.access.tries import TRIES_MAX, TRIES_S, Tries

__all__ = [
    "ENVIRONMENT_TOKEN",
    "SESSION_S",
    "TOKENS_MAX",
    "TRIES_MAX",
    "TRIES_S",
    "Access",
    "AccessError",
    "AdminTokenFirstError",
    "BeyondOwnError",
    "FirstToken",
    "LastAdminTokenError",
    "Sessions",
    "TokenNotFoundError",
    "TokenRefusedError",
    "TokenWanted",
    "TokensTooManyError",
    "Tries",
    "new_own_token",
]

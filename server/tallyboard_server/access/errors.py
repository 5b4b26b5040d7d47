"""Why a token is not taken, made or revoked."""


class AccessError(Exception):
    """Base of what this package raises."""


class TokenRefusedError(AccessError):
    """The token that was given is wrong, expired or revoked; the message says which, and nothing else."""


class TokenUnknownError(TokenRefusedError):
    """The token that was given is none that is known here; another service on the same store may have made it."""


class TokenNotFoundError(AccessError):
    """There is no such token, or none that whoever asks may see."""


class TokensTooManyError(AccessError):
    """As many tokens as may be are in use."""


class AdminTokenFirstError(AccessError):
    """Another token would close an open service to everybody."""


class LastAdminTokenError(AccessError):
    """Without this token nobody could make another one."""


class BeyondOwnError(AccessError):
    """A token that could do more than whoever makes it."""

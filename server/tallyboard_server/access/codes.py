"""The one-time link of a first start: a code that lets one browser in, once, within an hour.

Its hash is in the store, so that every service on it takes the code, and only one does.
"""

import hashlib
import secrets
from typing import Final

CODE_S: Final = 3600.0
CODE_CHARS: Final = 43


def new_code() -> str:
    """A code that nobody has."""
    return secrets.token_urlsafe(32)


def hash_of_code(code: str) -> bytes:
    """What is kept of a code."""
    return hashlib.sha256(code.encode("utf-8", "replace")).digest()


def may_be_code(code: str) -> bool:
    """Whether a text looks like a code at all: for anything else the store need not be asked."""
    return len(code) == CODE_CHARS and code.isascii()

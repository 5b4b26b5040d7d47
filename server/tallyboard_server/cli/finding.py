"""What the doctor found: one line, and what to do if it is amiss."""

from typing import NamedTuple


class Finding(NamedTuple):
    """`text` says what is so; `remedy` what to do about it (empty if nothing)."""

    ok: bool
    text: str
    remedy: str = ""


def good(text: str) -> Finding:
    """All is well here."""
    return Finding(True, text)


def bad(text: str, remedy: str) -> Finding:
    """Something is amiss."""
    return Finding(False, text, remedy)

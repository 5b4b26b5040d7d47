"""What the doctor found: one line, and what to do if it is amiss."""

from typing import NamedTuple


class Finding(NamedTuple):
    """`text` says what is so; `remedy` what to do about it, or why it is well (empty if nothing).

    mark: what the line begins with.
    """

    ok: bool
    text: str
    remedy: str
    mark: str


def good(text: str) -> Finding:
    """All is well here."""
    return Finding(True, text, "", "✓")


def note(text: str, why: str) -> Finding:
    """Nothing is amiss, though it may look so."""
    return Finding(True, text, why, "·")


def bad(text: str, remedy: str) -> Finding:
    """Something is amiss."""
    return Finding(False, text, remedy, "✗")

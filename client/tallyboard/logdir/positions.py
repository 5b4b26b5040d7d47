"""How far each event file of a run has been read, as the run's provenance on the service keeps it.

A batch carries the positions that it leads to, so points and positions are stored in one transaction: whoever goes on,
wherever and after whatever, goes on exactly there.
"""

from collections.abc import Mapping
from typing import Any, Final

from tallyboard.logdir.crc import crc32c

KEY: Final = "event_files"
"""In the provenance: {file name: [bytes read, checksum of its first bytes]}."""
OLDER_KEY: Final = "event_files_before"
"""In the provenance: files whose names come before this one in the order of files have been read whole."""
LOGDIR_KEY: Final = "logdir"
HEAD_BYTES: Final = 40
"""What a file is known by: most first records are as long, and hold the time at which the file was begun."""
FILES_MAX: Final = 150
"""Files of a run whose positions are kept; of 200 bytes a name, they fill half of what a provenance may hold."""


class Position:
    """How far a file has been read: so many bytes, and the checksum of the first of them."""

    __slots__ = ("bytes", "head")

    def __init__(self, nbytes: int = 0, head: int = 0) -> None:
        self.bytes = nbytes
        self.head = head

    def matches(self, head: bytes) -> bool:
        """Whether a file with these first bytes (HEAD_BYTES of them) is the one that was read."""
        return self.bytes == 0 or crc32c(head[: min(self.bytes, HEAD_BYTES)]) == self.head

    def moved(self, nbytes: int, head: bytes) -> "Position":
        """As it is after so many bytes of a file that begins like this."""
        return Position(nbytes, crc32c(head[: min(nbytes, HEAD_BYTES)]))


def read_positions(provenance: Mapping[str, Any]) -> dict[str, Position]:
    """The positions that a provenance holds; whatever in it makes no sense counts as absent."""
    found: dict[str, Position] = {}
    files = provenance.get(KEY)
    for name, position in files.items() if isinstance(files, Mapping) else ():
        match position:
            case [int(nbytes), int(head)] if nbytes >= 0:
                found[name] = Position(nbytes, head)
    return found


def patch(key: str, stored: dict[str, Position]) -> dict[str, Any]:
    """What to merge into the provenance for a file's new position, which is in `stored`.

    Where there are too many, those of the first names are taken out of `stored` and the provenance.
    """
    position = stored[key]
    change: dict[str, Any] = {KEY: {key: [position.bytes, position.head]}}
    if len(stored) > FILES_MAX:
        names = sorted(stored)
        dropped = [name for name in names[:-FILES_MAX] if name != key]
        change[KEY] |= dict.fromkeys(dropped)
        change[OLDER_KEY] = names[-FILES_MAX]
        for name in dropped:
            del stored[name]
    return change

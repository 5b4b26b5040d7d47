"""From runs and segments to the keys of objects.

<prefix>/<run>/events.out.tfevents.<seconds>.<host>.<run id>.<generation>.<segment>

TensorBoard reads the objects of a run in the order of their names, as it does files. What globbing or chained URLs
would misread in a run's name is written as %XX: a reader that stumbles over one name shows none any more. The
encoding is one to one.
"""

import re
from typing import Final

from tallyboard.wire import InvalidNameError, check_run
from tallyboard_server.eventfiles.layout import UnsafePathError

_MISREAD: Final = re.compile(r"[*?\[\]#]|(?<=:):|%(?=[0-9A-Fa-f]{2})")
_DIGITS: Final = 6
_SEGMENT: Final = re.compile(rf"events\.out\.tfevents\.(\d{{10}})\.[A-Za-z0-9-]+\.\d+\.\d+\.\d{{{_DIGITS}}}")
SEGMENTS_MAX: Final = 10**_DIGITS
"""Names of more would not sort."""


def run_key(name: str) -> str:
    """A run's part of its objects' keys; raises UnsafePathError."""
    try:
        checked = check_run(name)
    except InvalidNameError as error:
        raise UnsafePathError(str(error)) from error
    return _MISREAD.sub(lambda found: f"%{ord(found[0]):02X}", checked)


def segment_name(file_name: str, number: int) -> str:
    """The name of a segment of the generation with that file name."""
    return f"{file_name}.{number:0{_DIGITS}d}"


def generation_of(name: str) -> str:
    """The file name of the generation that an object of this name would be a segment of."""
    return name.rpartition(".")[0]


def seconds_of(name: str) -> int | None:
    """The time in the name of a segment; None if no segment is called so."""
    found = _SEGMENT.fullmatch(name)
    return None if found is None else int(found[1])

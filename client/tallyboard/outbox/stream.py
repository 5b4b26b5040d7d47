"""Under which run, producer and number a job's batches go out: what has to be known to go on with them later."""

import os
import socket
from typing import Final

import msgspec

from tallyboard.wire import Open

FORMAT: Final = 1


class Stream(msgspec.Struct, kw_only=True):
    """The stream of one `init`, as it is kept beside its spooled batches (as JSON; never with a token).

    uid: of the init. asked, run: the name it asked for, and the one it reports to as far as that is settled. url: the
    service that it was told to report to; None if nobody said. opening: how the run begins. began_at: seconds since
    the epoch. producer: whose numbers its batches carry. reopening: what a new producer has to send before anything
    else, as number 1. counters: those that it reports on. held:
    why the batches must not be sent to this run, if so.
    """

    format: int = FORMAT
    uid: str
    asked: str
    run: str
    url: str | None = None
    opening: Open
    began_at: float
    producer: str
    reopening: Open | None = None
    counters: list[str] = []
    held: str = ""
    host: str = msgspec.field(default_factory=socket.gethostname)
    pid: int = msgspec.field(default_factory=os.getpid)

    @property
    def owner(self) -> str:
        """The process that it belongs to, as messages name it."""
        return f"process {self.pid} on {self.host}"


def new_id() -> str:
    """What names an init, or a producer: 64 random bits."""
    return os.urandom(8).hex()

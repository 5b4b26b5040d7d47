"""What earlier processes on this machine left unsent of a run that is now continued: it goes first, in order."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from tallyboard.delivery.dispatch import Dispatcher, Sent, final
from tallyboard.delivery.transmit import Outcome, Seen, Stopped
from tallyboard.outbox.claims import gone_on
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.spooldir import NoSpoolError, SpoolDir, stream_dirs

FORERUNNERS_MAX: Final = 100
"""Left to `tallyboard sync` if there are more."""


class Forerunner:
    """One of them, on its way. `unchecked`: whether others went on with the run since has still to be looked up."""

    def __init__(self, spool: DiskSpool, make_id: Callable[[], str]) -> None:
        self._spool = spool
        self._trouble = ""
        self.dispatcher = Dispatcher(spool, make_id)
        self.unchecked = True

    def finished(self) -> bool:
        """Whether nothing more of it can be sent."""
        if self._trouble:
            return True
        try:
            return self._spool.head() is None
        except OSError as error:
            self._trouble = str(error)
            return True

    def conclude(self, sent: Sent | None, outcome: Outcome | Seen) -> bool:
        """Take note of an answer. Returns whether it has to be left to `tallyboard sync`."""
        stream = self._spool.stream
        try:
            if isinstance(outcome, Seen):
                self.unchecked = False
                if outcome.view is not None:
                    self._trouble = gone_on(outcome.view, stream, self._spool.survey().claims) or ""
            elif isinstance(outcome, Stopped):
                self._trouble = _said(outcome)
            elif sent is not None:
                self.dispatcher.settle(sent, outcome)
                if (end := final(sent, outcome)) is not None:
                    self._trouble = _said(end)
        except OSError as error:
            self._trouble = str(error)
        return bool(self._trouble)

    def close(self) -> str:
        """Let go of it; removed if all of it is delivered. Returns what to say."""
        stream, spool = self._spool.stream, self._spool
        try:
            if not self._trouble and spool.head() is None:
                reports = spool.progress.reports
                spool.remove()
                return f"{reports:,} reports that {stream.owner} had left of {stream.run} are sent"
        except OSError as error:
            self._trouble = str(error)
        spool.close()
        return f"{spool.path} is left as it is ({self._trouble or 'not all of it is sent'}); see `tallyboard sync`"

    def abandon(self) -> None:
        """In a forked child: let go of the parent's files."""
        self._spool.close()


def find(root: Path | None, run: str, url: str | None, make_id: Callable[[], str]) -> list[Forerunner]:
    """The spools below `root` of a run and a service whose jobs are gone, oldest first."""
    if root is None:
        return []
    found: list[DiskSpool] = []
    try:
        for folder in stream_dirs(root):
            if len(found) < FORERUNNERS_MAX and (spool := _abandoned(folder, run, url)) is not None:
                found.append(spool)
    except OSError:
        return []  # whoever has to write there will say why it can't be read
    found.sort(key=lambda spool: spool.stream.began_at)
    return [Forerunner(spool, make_id) for spool in found]


def _said(end: Stopped) -> str:
    return end.problem.detail or end.problem.title or f"status {end.problem.status}"


def _abandoned(folder: SpoolDir, run: str, url: str | None) -> DiskSpool | None:
    """The spool in a folder, if it is of that run and service, and nobody writes or sends it."""
    try:
        stream = folder.load()
        if stream.run != run or stream.url != url or stream.held:
            return None
        spool = DiskSpool.take(folder)
        if spool is None or spool.is_abandoned():
            return spool
    except (OSError, NoSpoolError):
        return None
    spool.close()
    return None

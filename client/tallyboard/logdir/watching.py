"""`tallyboard watch`: a logdir goes to the service as it grows, for as long as one likes.

The files are the spool: nothing is kept but how far each has been read, and that on the service. No file is held open.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from tallyboard.logdir.files import FoundFile, FoundRun, LogdirError, find_runs
from tallyboard.logdir.importing import named
from tallyboard.logdir.mends import Mends
from tallyboard.logdir.runs import LogdirRun, origin
from tallyboard.logdir.scan import Lengths
from tallyboard.logdir.shipping import AwayError, Clock, ForgottenError, RunStoppedError, Service, SystemClock
from tallyboard.logdir.tags import CounterRule

POLL_S: Final = 1.0
QUIET_S: Final = 3600.0
"""A run whose files have not grown for this long is said to be finished; if it grows again, it is running again."""
_LOOKING_SHARE: Final = 4.0
"""Looking at a large logdir pauses for this many times what it took."""
PIECES_PER_TURN: Final = 8
"""Of one run before the others have their turn: some 30 MiB."""
AGAIN_S: Final = 60.0
"""After which a run that had to be begun anew is."""


@dataclass(slots=True)
class _Watched:
    """A run under watch: how its files looked at its last turn, and when they last changed."""

    name: str
    run: LogdirRun | None = None
    looked: tuple[FoundFile, ...] = ()
    grown_at: float = 0.0
    unsettled: bool = True
    stopped: bool = False
    again_at: float = 0.0


@dataclass(slots=True)
class Watch:
    """A watch over a logdir."""

    logdir: Path
    service: Service
    project: str | None = None
    rules: Sequence[CounterRule] = ()
    tell: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=SystemClock)
    mends: Mends = field(default_factory=Mends)
    points: int = 0
    _runs: dict[tuple[str, ...], _Watched] = field(default_factory=dict)
    _lengths: Lengths = field(default_factory=Lengths)
    _told: set[str] = field(default_factory=set)
    _is_away: bool = False

    def run(self) -> None:
        """Watch until the clock's wait is cut short. Raises LogdirError if there is no such directory at the start."""
        find_runs(self.logdir, self._tell_once)
        while True:
            begun = self.clock.now()
            self.poll()
            if not self.clock.wait(max(POLL_S, _LOOKING_SHARE * (self.clock.now() - begun))):
                return

    def poll(self) -> None:
        """Look once at everything, and send what is new."""
        try:
            found = find_runs(self.logdir, self._tell_once)
        except LogdirError as error:  # a disk may come back
            self._tell_once(str(error))
            return
        for run in found:
            watched = self._runs.get(run.parts)
            if watched is None:
                watched = self._runs[run.parts] = _Watched(named(run, self.logdir, self.project, self.mends))
            if watched.stopped or self.clock.now() < watched.again_at:
                continue
            try:
                self._turn(run, watched)
            except AwayError as error:
                if not self._is_away:
                    self.tell(f"the service takes nothing ({error}); waiting for it")
                self._is_away = True
                return
            except RunStoppedError as error:
                self.tell(f"{watched.name}: {error}")
                self.mends.add("failed", 1, f"{watched.name}: {error}")
                watched.stopped = True
            except ForgottenError as error:
                self.tell(f"{error}; sending again what it misses")
                self._drop(watched)
                watched.again_at = self.clock.now() + AGAIN_S
        if self._is_away:
            self.tell("the service is back")
            self._is_away = False

    def end(self) -> None:
        """Take in what was mended in runs that are still under watch."""
        for watched in self._runs.values():
            self._drop(watched)

    def _turn(self, found: FoundRun, watched: _Watched) -> None:
        now = self.clock.now()
        if found.files != watched.looked:
            watched.looked, watched.grown_at, watched.unsettled = found.files, now, True
        elif not watched.unsettled:
            if watched.run is not None and now - watched.grown_at >= QUIET_S:
                watched.run.end("finished")
            return
        run = watched.run
        if run is None:
            run = LogdirRun(watched.name, self.service, self.rules, self._lengths, origin(self.logdir))
            run.begin(found.files, recreate=False)
            watched.run = run
            self.tell(f"watching {watched.name}")
        before = run.points_stored
        turn = run.turn(found.files, final=False)
        done = sum(1 for _ in islice(turn, PIECES_PER_TURN))
        turn.close()
        watched.unsettled = done == PIECES_PER_TURN or not run.settled
        self.points += run.points_stored - before

    def _drop(self, watched: _Watched) -> None:
        if watched.run is not None:
            self.mends.merge(watched.run.mends, watched.name)
        watched.run = None
        watched.looked = ()

    def _tell_once(self, text: str) -> None:
        if text not in self._told and len(self._told) < 10_000:
            self._told.add(text)
            self.tell(text)

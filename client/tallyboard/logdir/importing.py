"""`tallyboard import`: everything that a logdir holds goes to the service, once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tallyboard.logdir.files import FoundRun, find_runs, run_name
from tallyboard.logdir.mends import Mends
from tallyboard.logdir.runs import LogdirRun, origin
from tallyboard.logdir.scan import Lengths
from tallyboard.logdir.shipping import AwayError, Clock, ForgottenError, RunStoppedError, Service, SystemClock
from tallyboard.logdir.tags import CounterRule

BEGINNINGS_MAX: Final = 3
"""How often a run is begun again because the service was restored meanwhile."""
PROGRESS_EVERY_S: Final = 2.0


@dataclass(slots=True)
class Summary:
    """What an import came to. away: why it was broken off, if the service went away."""

    runs: int = 0
    runs_sent: int = 0
    points_read: int = 0
    points_sent: int = 0
    bytes_read: int = 0
    seconds: float = 0.0
    away: str = ""
    mends: Mends = field(default_factory=Mends)


@dataclass(slots=True, frozen=True)
class Import:
    """What is to be imported, and how. service: None only reads. tell: is given lines of progress."""

    logdir: Path
    service: Service | None
    project: str | None = None
    rules: Sequence[CounterRule] = ()
    tell: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=SystemClock)

    def run(self) -> Summary:
        """Carry it out. Raises LogdirError."""
        summary = Summary()
        begun = self.clock.now()
        found = find_runs(self.logdir, lambda text: summary.mends.add("failed", 1, text))
        summary.runs = len(found)
        progress = _Progress(self.clock, self.tell, sum(file.size for run in found for file in run.files))
        lengths = Lengths()
        for run in found:
            name = named(run, self.logdir, self.project, summary.mends)
            try:
                self._one(run, name, lengths, summary, progress)
            except AwayError as error:
                summary.away = str(error)
                break
            except (RunStoppedError, ForgottenError) as error:
                summary.mends.add("failed", 1, f"{name}: {error}")
        summary.seconds = self.clock.now() - begun
        return summary

    def _one(self, found: FoundRun, name: str, lengths: Lengths, summary: Summary, progress: "_Progress") -> None:
        for attempt in range(1, BEGINNINGS_MAX + 1):
            run = LogdirRun(name, self.service, self.rules, lengths, origin(self.logdir))
            try:
                run.begin(found.files, recreate=True)
                for moved in run.turn(found.files, final=True):
                    progress.step(moved, name)
                run.end("finished")
            except ForgottenError:
                if attempt == BEGINNINGS_MAX:
                    raise
                continue
            finally:
                summary.points_read += run.points_read
                summary.points_sent += run.points_stored
                summary.bytes_read += run.bytes_read
                summary.mends.merge(run.mends, name)
            summary.runs_sent += run.bytes_read > 0
            return


def named(run: FoundRun, logdir: Path, project: str | None, mends: Mends) -> str:
    """The run's name; told among the mends if its path could not be it."""
    name = run_name(run.parts, logdir.resolve().name or "logdir", project)
    if run.parts and not name.endswith("/".join(run.parts)):
        mends.add("run_renamed", 1, f"{'/'.join(run.parts)!r} became {name!r}")
    return name


class _Progress:
    """Lines of progress, not too many."""

    def __init__(self, clock: Clock, tell: Callable[[str], None], total: int) -> None:
        self._clock = clock
        self._tell = tell
        self._total = total
        self._done = 0
        self._said_at = clock.now()

    def step(self, moved: int, run: str) -> None:
        self._done += moved
        now = self._clock.now()
        if now < self._said_at + PROGRESS_EVERY_S:
            return
        self._said_at = now
        share = 100 * self._done // max(1, self._total)
        self._tell(f"{share:3d} %  {self._done / 1e6:,.0f} of {self._total / 1e6:,.0f} MB  {run}")

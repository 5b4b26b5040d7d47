"""`tallyboard sync`: send what jobs have left on this machine's disk, to the service they were told of or another.

It can be stopped and started again at any time, run twice at once, and run while jobs write: of each stream, one
process sends at a time, and how far it has come is on disk.
"""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from tallyboard.delivery.dispatch import Dispatcher, final
from tallyboard.delivery.transmit import Later, Outcome, Seen, Stopped, Transmitter
from tallyboard.delivery.transport import USER_AGENT, HttpTransport
from tallyboard.errors import ConfigurationError
from tallyboard.outbox.claims import afresh, gone_on
from tallyboard.outbox.diskspool import DiskSpool
from tallyboard.outbox.segments import Survey
from tallyboard.outbox.spooldir import NoSpoolError, SpoolDir, stream_dirs
from tallyboard.outbox.stream import Stream, new_id
from tallyboard.remedies import cause, foreign
from tallyboard.settings import DEFAULT_URL, default_spool_dir, service_ca_file, service_token, service_url
from tallyboard.wire import limits

PATIENCE_S: Final = 60.0
"""How long a service that has answered before may be away until the rest is left for another time."""
FIRST_PATIENCE_S: Final = 5.0
PROGRESS_EVERY_S: Final = 2.0

State = Literal["sent", "growing", "busy", "held", "away", "stopped", "damaged"]


@dataclass(slots=True, frozen=True)
class Synced:
    """What became of one stream.

    state: `sent` (all of it, and removed here), `growing` (all so far; its job still writes), `busy` (somebody else
    is sending it), `held` (it must not go to its run), `away` (the service does not answer), `stopped` (the service
    wants no more of it), `damaged` (all that could be read was sent, and something could not). reports: sent now; of
    these the service refused so many. remaining: reports that are still here. detail: why, and what to do.
    """

    path: Path
    run: str
    state: State
    detail: str = ""
    reports: int = 0
    refused: int = 0
    remaining: int = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.state == "sent"


def sync(
    directory: str | os.PathLike[str] | None = None,
    *,
    url: str | None = None,
    token: str | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    fingerprint: str | None = None,
    as_new: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    wanted: Callable[[Stream], bool] = lambda _: True,
) -> list[Synced]:
    """Send all streams in a spool dir (or the one in its folder), in the order in which their jobs began.

    directory: TALLYBOARD_SPOOL_DIR, or ~/.local/state/tallyboard/spool, if None. url: the service; if None the one that
    the job was told of, else TALLYBOARD_URL, else http://127.0.0.1:6007. token: TALLYBOARD_TOKEN if None. ca_file:
    authorities that vouch for its certificate; TALLYBOARD_CA_FILE, or those of the system, if None. fingerprint:
    SHA-256, in hex, of the one certificate that it has to show instead. as_new: what must not go to its run any more
    gets a run of its own. tell: is given lines of progress. wanted: which streams.

    Raises ConfigurationError for a url, token or ca_file that is none, or a directory that can't be read.
    """
    root = Path(directory) if directory is not None else default_spool_dir(os.environ)
    if root is None:
        raise ConfigurationError("there is no spool dir: name one, or set TALLYBOARD_SPOOL_DIR")
    found = []
    try:
        for folder in stream_dirs(root):
            stream = _loaded(folder, tell)
            if stream is not None and wanted(stream):
                found.append((stream.began_at, folder))
    except OSError as error:
        raise ConfigurationError(f"{root} can't be read: {error.strerror or error}") from error
    found.sort(key=lambda item: item[0])
    with _Services(url, token, ca_file, fingerprint, os.environ) as services:
        results = [_Sync(folder, services, as_new, tell).run() for _, folder in found]
    return [result for result in results if result is not None]


class _Services:
    """Ways to the services that streams go to, one each."""

    def __init__(
        self,
        url: str | None,
        token: str | None,
        ca_file: str | os.PathLike[str] | None,
        fingerprint: str | None,
        environ: Mapping[str, str],
    ) -> None:
        self._url = None if url is None else service_url(url)
        self._fallback = service_url(environ.get("TALLYBOARD_URL") or DEFAULT_URL)
        self._token = service_token(token or environ.get("TALLYBOARD_TOKEN") or None)
        self._ca_file = service_ca_file(ca_file, environ)
        self._fingerprint = fingerprint
        self._ways: dict[str, Transmitter] = {}
        self.answered: set[str] = set()

    def url_for(self, stream: Stream) -> str:
        return self._url or stream.url or self._fallback

    def way(self, url: str) -> Transmitter:
        if url not in self._ways:
            transport = HttpTransport(
                url, self._token, USER_AGENT, ca_file=self._ca_file, fingerprint=self._fingerprint
            )
            self._ways[url] = Transmitter(transport, random.Random())
        return self._ways[url]

    def __enter__(self) -> "_Services":
        return self

    def __exit__(self, *_: object) -> None:
        for way in self._ways.values():
            way.close()


class _Sync:
    """The sending of one stream."""

    def __init__(self, folder: SpoolDir, services: _Services, as_new: bool, tell: Callable[[str], None]) -> None:
        self._folder = folder
        self._services = services
        self._as_new = as_new
        self._tell = tell

    def run(self) -> Synced | None:
        """Send it; None if somebody else has sent and removed it meanwhile."""
        try:
            spool = DiskSpool.take(self._folder)
        except (OSError, NoSpoolError) as error:
            return Synced(self._folder.path, "?", "stopped", str(error)) if self._folder.exists() else None
        if spool is None:
            return self._busy()
        try:
            return self._sent(spool)
        except OSError as error:
            return self._ended(spool, "stopped", f"can't read or write {spool.path}: {error.strerror or error}")
        finally:
            spool.close()

    def _busy(self) -> Synced | None:
        stream = _loaded(self._folder, self._tell)
        if stream is None:
            return None
        detail = f"its job ({stream.owner}) sends it by itself, or another `tallyboard sync` does"
        return Synced(self._folder.path, stream.run, "busy", detail)

    def _sent(self, spool: DiskSpool) -> Synced:
        url = self._services.url_for(spool.stream)
        transmitter = self._services.way(url)
        dispatcher = Dispatcher(spool, new_id)
        before, survey = spool.progress, spool.survey()
        obstacle = spool.stream.held or self._outdated(spool, survey, transmitter)
        if isinstance(obstacle, Later | Stopped):
            return self._ended(spool, *self._why(obstacle, url, spool.stream.run))
        if obstacle and not self._as_new:
            return self._ended(spool, "held", f"{obstacle}; --as-new sends it to a run of its own")
        if obstacle:
            spool.stream.held = ""
            dispatcher.start_over(afresh(spool.stream))
        done = spool.progress.batches
        say = _Progress(spool, survey, self._tell, done)
        for outcome, patience_s in self._deliveries(dispatcher, transmitter, url):
            say.step()
            if isinstance(outcome, Stopped) or (isinstance(outcome, Later) and patience_s <= 0):
                state, detail = self._why(outcome, url, spool.stream.run)
                return self._ended(spool, state, detail, before.reports)
        return self._drained(spool, dispatcher, before.reports, before.refused)

    def _outdated(self, spool: DiskSpool, survey: Survey, transmitter: Transmitter) -> str | Later | Stopped | None:
        """Why its claims on counters are outdated, if it has any left to make."""
        if not survey.claims:
            return None
        seen = transmitter.look(spool.stream.run, time.monotonic)
        if isinstance(seen, Seen):
            return None if seen.view is None else gone_on(seen.view, spool.stream, survey.claims)
        return seen

    def _deliveries(
        self, dispatcher: Dispatcher, transmitter: Transmitter, url: str
    ) -> Iterator[tuple[Outcome, float]]:
        """Deliver one batch after the other; yields each outcome, and how much patience is left."""
        patience_s = PATIENCE_S if url in self._services.answered else FIRST_PATIENCE_S
        give_up_at = time.monotonic() + patience_s
        while (sent := dispatcher.next()) is not None:
            outcome = transmitter.deliver(sent.letter, time.monotonic)
            dispatcher.settle(sent, outcome)
            outcome = final(sent, outcome) or outcome
            now = time.monotonic()
            if not isinstance(outcome, Later):
                self._services.answered.add(url)
                give_up_at = now + PATIENCE_S
            yield outcome, give_up_at - now
            if isinstance(outcome, Later):
                time.sleep(max(0.0, min(outcome.at_s - now, give_up_at - now)))

    def _why(self, outcome: Later | Stopped, url: str, run: str) -> tuple[State, str]:
        if isinstance(outcome, Later) and outcome.foreign is not None:
            return "away", foreign(url, outcome.foreign)
        if isinstance(outcome, Later):
            return "away", f"{url} takes nothing at the moment ({outcome.why})"
        said = outcome.problem.detail or outcome.problem.title
        return "stopped", f"{cause(outcome.problem, url, run)}. The server said: {said}"

    def _drained(self, spool: DiskSpool, dispatcher: Dispatcher, reports: int, refused: int) -> Synced:
        """All that could be read is delivered: check the account, and remove it if its job is gone."""
        progress = spool.progress
        if not progress.balanced:
            detail = f"the answers account for other reports than were sent ({progress}); nothing is removed"
            return self._ended(spool, "stopped", detail, reports)
        if not spool.is_abandoned():
            return self._ended(spool, "growing", f"its job ({spool.stream.owner}) still writes", reports)
        if spool.head() is not None:  # added by the job just before it ended
            return self._ended(spool, "growing", "more came meanwhile; run it again", reports)
        notes, path, torn = [], spool.path, spool.survey().nbytes
        if torn:
            notes.append(f"its last batch was never finished ({torn:,} bytes)")
        if dispatcher.lost_batches:
            notes.append(f"{dispatcher.lost_batches:,} batches acknowledged before are not on this server")
        if progress.rejected:
            notes.append(f"{progress.rejected:,} reports were not taken at all")
        if spool.damaged_bytes:
            notes.append(f"{spool.damaged_bytes:,} bytes were damaged and could not be sent")
        state: State = "damaged" if spool.damaged_bytes else "sent"
        result = Synced(
            path, spool.stream.run, state, "; ".join(notes), progress.reports - reports, progress.refused - refused
        )
        spool.remove()
        return result

    def _ended(self, spool: DiskSpool, state: State, detail: str, reports: int | None = None) -> Synced:
        try:
            remaining = spool.survey().reports
        except OSError:  # it may be why we end
            remaining = 0
        sent = 0 if reports is None else spool.progress.reports - reports
        return Synced(spool.path, spool.stream.run, state, detail, sent, remaining=remaining)


class _Progress:
    """Lines of progress, not too many."""

    def __init__(self, spool: DiskSpool, survey: Survey, tell: Callable[[str], None], done: int) -> None:
        self._spool = spool
        self._total = survey.batches
        self._mib = survey.nbytes / limits.MIB
        self._tell = tell
        self._done = done
        self._said_at = time.monotonic()

    def step(self) -> None:
        now = time.monotonic()
        if now < self._said_at + PROGRESS_EVERY_S:
            return
        self._said_at = now
        done = self._spool.progress.batches - self._done
        self._tell(f"{self._spool.stream.run}: {done:,} of {self._total:,} batches ({self._mib:,.1f} MiB in all)")


def _loaded(folder: SpoolDir, tell: Callable[[str], None]) -> Stream | None:
    try:
        return folder.load()
    except NoSpoolError as error:
        if folder.exists():  # it was not just sent and removed
            tell(str(error))
        return None

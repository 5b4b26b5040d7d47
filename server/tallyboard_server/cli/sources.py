"""What verify, repair, backup and others work on: a running service, or a store without one."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeVar

from tallyboard.wire import Problem
from tallyboard_server.api.messages import PruneBody, RepairAnswer, RepairBody
from tallyboard_server.cli.http import ApiProblemError, Service, run_path, service_from
from tallyboard_server.cli.output import Exit, count, fail
from tallyboard_server.cli.serve import read_settings
from tallyboard_server.eventfiles import Destination
from tallyboard_server.export import Export, Format, MissingPartError, UnfitFormatError, Wanted
from tallyboard_server.ingest import Ingest, RunNotFoundError
from tallyboard_server.ingest.heartbeats import RUNS_MAX
from tallyboard_server.objecturl import parse_logdir
from tallyboard_server.retention import Outcome, Policy, Pruner
from tallyboard_server.settings import is_postgresql
from tallyboard_server.store.paging import run_names
from tallyboard_server.store.protocol import Store, StoreError
from tallyboard_server.store.sqlite import SqliteStore
from tallyboard_server.store.sqlite.directory import DATABASE_NAME
from tallyboard_server.verify import CATCH_UP_S, RunCheck, RunGoneError, RunReport

REPAIR_TIMEOUT_S: Final = 600.0
DATABASE_VARIABLE: Final = "TALLYBOARD_DATABASE_URL"
FROM_ENVIRONMENT: Final = "-"
"""Stands for the value of that variable: a command line is for all of the machine to see, its password, too."""

_T = TypeVar("_T")
Progress = Callable[[int], object]
"""Told how many scalars were read so far."""


class Source(Protocol):
    """Something that holds runs. Runs that are not there raise ApiProblemError, as the service says it."""

    def runs(self) -> Iterator[str]:
        """The names of all runs."""
        ...

    def verify(self, run: str, progress: Progress) -> RunReport:
        """Compare what was sent, what is stored and what the event file holds."""
        ...

    def repair(self, run: str) -> RepairAnswer:
        """Write a run's event file anew."""
        ...

    def prune(self, run: str, body: PruneBody, progress: Progress) -> Outcome:
        """Remove old points of a run, or look what would go."""
        ...

    def export(self, run: str, form: Format, wanted: Wanted) -> tuple[str, Iterator[bytes]]:
        """A name for a file with a run's points, and the file's bytes as they are made."""
        ...

    def backup(self, target: Path) -> None:
        """Copy everything into a file that does not exist yet. OSError if it can't be written."""
        ...


class Online:
    """A running service, over HTTP."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def runs(self) -> Iterator[str]:
        """See Source.runs."""
        return (row.run for row in self._service.runs())

    def verify(self, run: str, progress: Progress) -> RunReport:
        """See Source.verify."""
        report = None
        for line in self._service.verify(run):
            progress(line.scalars_read)
            report = line.report
        return _last(report)

    def prune(self, run: str, body: PruneBody, progress: Progress) -> Outcome:
        """See Source.prune."""
        outcome = None
        for line in self._service.prune(run, body):
            progress(line.scalars_read)
            outcome = line.outcome
        return _last(outcome)

    def repair(self, run: str) -> RepairAnswer:
        """See Source.repair."""
        return self._service.post(run_path("/repair", run), RepairBody(reason="tallyboard repair"), RepairAnswer)

    def export(self, run: str, form: Format, wanted: Wanted) -> tuple[str, Iterator[bytes]]:
        """See Source.export."""
        return self._service.export(run, form.name, wanted.tags, "all" if wanted.superseded else "visible")

    def backup(self, target: Path) -> None:
        """See Source.backup."""
        with target.open("xb") as file:
            self._service.download("/backup", file)


class Offline:
    """A store that this process opened by itself; one that is shared may have services."""

    def __init__(self, store: Store, destination: Destination, services: Callable[[], int] = lambda: 0) -> None:
        """services: how many work on it now."""
        self._store = store
        self._destination = destination
        self._services = services

    def runs(self) -> Iterator[str]:
        """See Source.runs."""
        return run_names(self._store)

    def verify(self, run: str, progress: Progress) -> RunReport:
        """See Source.verify."""
        catch_up_s = CATCH_UP_S if self._services() else 0.0
        check = RunCheck(self._store, self._destination.shelf(self._store), run, catch_up_s=catch_up_s)
        scalars = 0
        try:
            for read in check.steps():
                scalars += read
                progress(scalars)
        except RunGoneError as error:
            raise _not_found(str(error)) from error
        return check.report

    def repair(self, run: str) -> RepairAnswer:
        """See Source.repair."""
        self._refuse_beside_services("repair")
        with self._store.snapshot() as view:
            state = view.load(run)
        if state is None:
            raise _not_found(f"there is no run {run!r}")
        ingest = Ingest(self._store)
        exporter = self._destination.exporter(self._store, ingest.record)
        ingest.start()
        exporter.start()
        try:
            exporter.rebuild(state.id)
            done = exporter.drain(REPAIR_TIMEOUT_S)
        finally:
            exporter.stop()
            ingest.close()
        with self._store.snapshot() as view:
            live = [generation for generation in view.generations(state.id) if generation.state == "live"]
        return RepairAnswer(run=run, event_file=live[-1].file_name if live else None, done=done)

    def prune(self, run: str, body: PruneBody, progress: Progress) -> Outcome:
        """See Source.prune. Event files follow when a service starts."""
        self._refuse_beside_services("prune")
        ingest = Ingest(self._store)
        with self._store.snapshot() as view:
            heard, until = view.heartbeats(limit=RUNS_MAX)
        ingest.heartbeats.restore(heard, until, time.time())
        pruner = Pruner(self._store, ingest.record, ingest.submit_blocking, ingest.heartbeats.last_seen)
        before = time.time() - body.older_than_s if body.older_than_s else None
        policy = Policy(before, superseded=body.superseded, thin=body.thin, whole=body.whole)
        pruning = pruner.run(run, policy, dry=body.dry_run)
        ingest.start()
        scalars = 0
        try:
            for read in pruning.steps():
                scalars += read
                progress(scalars)
        except RunNotFoundError as error:
            raise _not_found(str(error)) from error
        finally:
            ingest.close()
        return pruning.outcome

    def export(self, run: str, form: Format, wanted: Wanted) -> tuple[str, Iterator[bytes]]:
        """See Source.export."""
        with self._store.snapshot() as view:
            state = view.load(run)
        if state is None:
            raise _not_found(f"there is no run {run!r}")
        try:
            made = Export(self._store, state, form, wanted)
        except (MissingPartError, UnfitFormatError) as error:
            fail(str(error))
        return made.file_name, made.pieces()

    def backup(self, target: Path) -> None:
        """See Source.backup."""
        for _ in self._store.backup(target):
            pass

    def _refuse_beside_services(self, command: str) -> None:
        """Services have event files open, and facts in memory."""
        if services := self._services():
            fail(f"{count(services, 'service')} on this database: have one do it, {command} without --database-url")


@contextmanager
def source(data_dir: Path | None, logdir: str | None, database_url: str | None = None) -> Iterator[Source]:
    """The running service, or the store in a data directory or a database; ends the command if it can't be had.

    database_url: "-" is the one of the environment.
    """
    if data_dir is not None and database_url is not None:
        fail("give --data-dir or --database-url: a run is in one store")
    if database_url is not None:
        with _database(database_url, logdir) as found:
            yield found
        return
    if data_dir is None:
        yield Online(service_from())
        return
    if not (data_dir / DATABASE_NAME).is_file():
        fail(f"{data_dir} is no data directory of Tallyboard", Exit.NOT_FOUND)
    try:
        destination = Destination(parse_logdir(logdir) if logdir else data_dir / "logdir")
    except ValueError as error:
        fail(f"--logdir: {error}")
    try:
        store = SqliteStore.open(data_dir)
        try:
            yield Offline(store, destination)
        finally:
            store.close()
    except StoreError as error:
        fail(f"{error}. (Without --data-dir the running service is asked.)")


def database_of(text: str) -> str:
    """A database's URL as it was given, or for "-" that of the environment; ends the command if it is none."""
    url = os.environ.get(DATABASE_VARIABLE, "") if text == FROM_ENVIRONMENT else text
    if not is_postgresql(url):
        named = f"{DATABASE_VARIABLE} is" if text == FROM_ENVIRONMENT else "that is"
        fail(f"{named} no database's URL; it looks like postgresql://user:password@host:5432/name")
    return url


@contextmanager
def _database(text: str, logdir: str | None) -> Iterator[Source]:
    url = database_of(text)
    settings = read_settings({"database_url": url} | ({} if logdir is None else {"logdir": logdir}))
    try:
        from tallyboard_server.store.postgres import PostgresStore
    except ImportError as error:
        fail(f"a store on PostgreSQL needs the extra `postgres` ({error}); install tallyboard with [server,postgres]")
    try:
        destination = Destination(settings.event_file_dir)
    except ValueError as error:
        fail(f"--logdir: {error}")
    try:
        store = PostgresStore.open(url)
        try:
            yield Offline(store, destination, store.services)
        finally:
            store.close()
    except StoreError as error:
        fail(f"{error}. (Without --database-url the running service is asked.)")


def default_backup_name() -> str:
    """A name for a backup that is taken now (UTC)."""
    return time.strftime("tallyboard-%Y%m%d-%H%M%S.sqlite3", time.gmtime())


def _last(found: _T | None) -> _T:
    """What the last line of an answer had."""
    if found is None:
        problem = Problem(title="The answer is cut", status=502, code="cut", detail="the answer ended early; retry")
        raise ApiProblemError(problem)
    return found


def _not_found(detail: str) -> ApiProblemError:
    return ApiProblemError(Problem(title="There is no such run", status=404, code="run_not_found", detail=detail))

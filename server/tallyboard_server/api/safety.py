"""Whether what was acknowledged is still there: verify a run, write its event file anew, back everything up."""

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Final

import msgspec
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tallyboard.wire import check_text, decode_message
from tallyboard.wire.limits import MIB
from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer
from tallyboard_server.api.body import DOCUMENT_BYTES_MAX
from tallyboard_server.api.documented import BODY, STORE, WRITE, Given, Sent, documented
from tallyboard_server.api.messages import RepairAnswer, RepairBody, VerifyLine
from tallyboard_server.api.names import RunName
from tallyboard_server.api.problems import BackupElsewhereError, TooBusyError, described
from tallyboard_server.api.reading import check_exists, load_run
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.ingest.auditing import note
from tallyboard_server.ingest.errors import RunNotFoundError
from tallyboard_server.principal import Principal
from tallyboard_server.store.protocol import Generation, Store, StoreFullError
from tallyboard_server.verify import RunCheck, RunGoneError

NDJSON: Final = "application/x-ndjson"
OCTETS: Final = "application/octet-stream"

TELL_EVERY_S: Final = 1.0
"""A line at least so often, so that nothing between client and service takes the connection for dead."""
REST_MAX_S: Final = 0.1
"""After each step a check rests for as long as it took, but no longer than this: reports go first."""
VERIFICATIONS_WAITING_MAX: Final = 16
"""Each that waits is a request being served, and takes the place of others'."""
REPAIR_TIMEOUT_S: Final = 30.0
ASK_AGAIN_S: Final = 8.0
"""Another service is asked again after so long: it may have ended, and its runs be somebody else's by now."""
_POLL_S: Final = 0.1
BACKUP_PREFIX: Final = "backup-"
_CHUNK_BYTES: Final = MIB
_FREE_BYTES_KEPT: Final = 64 * MIB
"""What must stay free on the data directory's disk beside the copy."""

log = logging.getLogger(__name__)
router = APIRouter(tags=["safety"])


@router.get(
    "/verify/{run:path}",
    **documented(
        "verify",
        "Compare what was sent, stored and exported",
        needs="read",
        answers={
            200: Given(VerifyLine, examples.VERIFY_LINE, "One JSON document a line; the last holds `report`.",
                       media_type=NDJSON)
        },
        problems=("invalid_run_name", "run_not_found", "run_deleted", *STORE),
    ),
)  # fmt: skip
async def verify(service: Running, run: RunName) -> Response:
    """Read everything that is stored of a run, and its event file, and compare counts and checksums with what was
    acknowledged: per counter and attempt, and where they differ by tag and step.

    Takes a while for long runs, so the answer is a stream: a line about every second while it reads, then one with
    the `report` (or with a `problem`). A run may grow meanwhile.
    """
    await run_in_threadpool(check_exists, service.store, run)
    if (waiting := service.verifications.statistics().tasks_waiting) >= VERIFICATIONS_WAITING_MAX:
        raise TooBusyError(f"{waiting} verifications wait already; retry when some are done")
    return StreamingResponse(_verify_lines(service, run), media_type=NDJSON)


@router.post(
    "/repair/{run:path}",
    **documented(
        "repair",
        "Write a run's event file anew",
        needs="write",
        sent=Sent(RepairBody, examples.REPAIR, required=False),
        answers={
            200: Given(RepairAnswer, examples.REPAIRED, "The new event file is in place."),
            202: Given(RepairAnswer, examples.REPAIRED | {"done": False}, "It is still being written."),
        },
        problems=("invalid_run_name", "run_not_found", "run_deleted", *BODY, *STORE),
    ),
)
async def repair(request: Request, service: Running, asking: Asking, run: RunName) -> Response:
    """Begin a new event file from the store, under a new name, whatever the state of the present one.

    The store is not changed. The old file goes after a grace period. `event_file` is null if nothing is visible.
    """
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX, optional=True) as body:
        message = decode_message(body.data, body.content_type, RepairBody) if body.data else RepairBody()
        check_text(message.reason, "$.reason")
    run_id, before = await run_in_threadpool(_newest_file, service.store, run)
    log.info("event file of %s: a new one was asked for (%s)", run, message.reason or "no reason given")
    if before is None:
        return answer(request, RepairAnswer(run=run, event_file=None, done=True))
    await run_in_threadpool(_note, service, asking, "run.repair", run, reason=message.reason)
    until = time.monotonic() + REPAIR_TIMEOUT_S
    ask_at = 0.0
    while True:
        if time.monotonic() >= ask_at:
            ask_at = float("inf") if _rebuild(service, run_id, run) else time.monotonic() + ASK_AGAIN_S
        _, now = await run_in_threadpool(_newest_file, service.store, run)
        if now is not None and now.number > before.number:
            return answer(request, RepairAnswer(run=run, event_file=now.file_name, done=True))
        if time.monotonic() >= until:
            return answer(request, RepairAnswer(run=run, event_file=before.file_name, done=False), status=202)
        await asyncio.sleep(_POLL_S)


@router.get(
    "/backup",
    **documented(
        "backup",
        "Download a copy of everything",
        needs="admin", all_projects=True,
        answers={200: Given(bytes, None, "A SQLite database; `tallyboard restore` makes a data directory of it.",
                            media_type=OCTETS)},
        problems=("backup_elsewhere", *WRITE),
    ),
)  # fmt: skip
async def backup(service: Running, asking: Asking) -> Response:
    """A consistent copy of the store, taken while reports go on. Event files are not in it: they are rebuilt.

    The copy is made first, then sent, so the answer begins late for a large store. One copy is made at a time. A store
    on PostgreSQL is copied with PostgreSQL's own tools instead: 501.
    """
    if service.store.shared:
        raise BackupElsewhereError(
            "the store is on PostgreSQL: copy it with pg_dump, or with pg_basebackup and an archive of its log"
        )
    if service.copying.locked():
        raise TooBusyError("a backup is being made already; retry when it is done")
    async with service.copying:
        copy = await run_in_threadpool(make_copy, service.store, service.settings.data_dir)
    size = os.fstat(copy.fileno()).st_size
    try:
        await run_in_threadpool(_note, service, asking, "backup.download", None, bytes=size)
    except BaseException:  # no copy leaves that the audit does not know
        copy.close()
        raise
    name = time.strftime("tallyboard-%Y%m%d-%H%M%S.sqlite3", time.gmtime(service.clock()))
    headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_chunks(copy), media_type=OCTETS, headers=headers)


def make_copy(store: Store, folder: Path) -> IO[bytes]:
    """A backup as an open file that has no name any more, so that it goes with whoever holds it.

    Raises StoreFullError if the disk has no room for it, StoreError.
    """
    needed = int(store.stats()["store_file_bytes"] + store.stats()["store_log_file_bytes"]) + _FREE_BYTES_KEPT
    if (free := shutil.disk_usage(folder).free) < needed:
        raise StoreFullError(f"a backup takes {needed} bytes in {folder} for a while, and {free} are free; make room")
    with tempfile.TemporaryDirectory(prefix=BACKUP_PREFIX, dir=folder) as made:
        path = Path(made) / "copy.sqlite3"
        for _ in store.backup(path):
            pass
        return path.open("rb")


def remove_unfinished_copies(folder: Path) -> None:
    """Remove what a process that was killed while it made a backup left behind."""
    for left in folder.glob(f"{BACKUP_PREFIX}*"):
        if left.is_dir() and not left.is_symlink():
            log.info("removing the unfinished backup %s", left)
            shutil.rmtree(left)


def _rebuild(service: Service, run_id: int, run: str) -> bool:
    """Have a run's event file written anew by whoever writes it; whether that is this service."""
    if service.shares.has(run_id):
        service.event_files.rebuild(run_id)
        return True
    service.rebuild_elsewhere(run_id, run)
    return False


def _note(service: Service, asking: Principal, action: str, run: str | None, **detail: object) -> None:
    """Keep in the audit what is about to be done."""
    now = service.clock()
    service.ingest.record(lambda transaction: note(transaction, now, asking, action, run, **detail))


async def _chunks(copy: IO[bytes]) -> AsyncIterator[bytes]:
    with copy:
        while chunk := await run_in_threadpool(copy.read, _CHUNK_BYTES):
            yield chunk


async def _verify_lines(service: Service, run: str) -> AsyncIterator[bytes]:
    async with service.verifications:
        check = RunCheck(service.store, service.shelf, run)
        steps = check.steps()
        line = VerifyLine()
        told_at = begun = time.monotonic()
        try:
            while (scalars := await run_in_threadpool(next, steps, None)) is not None:
                line.scalars_read += scalars
                if (now := time.monotonic()) - told_at >= TELL_EVERY_S:
                    told_at = now
                    yield _line(line)
                await asyncio.sleep(min(REST_MAX_S, now - begun))
                begun = time.monotonic()
            line.report = check.report
        except RunGoneError as error:
            line.problem, _ = described(RunNotFoundError(str(error)))
        except Exception as error:  # noqa: BLE001 - the status line is sent already: the stream has to say it
            line.problem, _ = described(error)
        finally:
            steps.close()  # type: ignore[attr-defined]
        yield _line(line)


def _line(line: VerifyLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _newest_file(store: Store, run: str) -> tuple[int, Generation | None]:
    """A run's id and its live event file."""
    with store.snapshot() as view:
        state = load_run(view, run)
        live = [generation for generation in view.generations(state.id) if generation.state == "live"]
    return state.id, live[-1] if live else None

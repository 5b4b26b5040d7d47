"""POST /prune: remove superseded points, most points of long curves, or a whole run; or look what that would remove."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

import msgspec
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from tallyboard.wire import InvalidBatchError, decode_message
from tallyboard_server.api import examples
from tallyboard_server.api.body import DOCUMENT_BYTES_MAX
from tallyboard_server.api.documented import BODY, WRITE, Given, Sent, documented
from tallyboard_server.api.messages import PruneBody, PruneLine
from tallyboard_server.api.names import RunName
from tallyboard_server.api.problems import described
from tallyboard_server.api.reading import check_exists
from tallyboard_server.api.safety import NDJSON, REST_MAX_S, TELL_EVERY_S
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.retention import THIN_MIN, Policy, RunPruning

log = logging.getLogger(__name__)
router = APIRouter(tags=["safety"])


@router.post(
    "/prune/{run:path}",
    **documented(
        "prune",
        "Remove old points of a run, or look what would go",
        needs="admin",
        sent=Sent(PruneBody, examples.PRUNE),
        answers={
            200: Given(PruneLine, examples.PRUNE_LINE, "One JSON document a line; the last holds `outcome`.",
                       media_type=NDJSON)
        },
        problems=("invalid_run_name", "run_not_found", "run_deleted", *BODY, *WRITE),
    ),
)  # fmt: skip
async def prune(request: Request, service: Running, asking: Asking, run: RunName) -> Response:
    """Remove superseded points, thin long curves, or delete the run: by default only look, and say what would go.

    Of a thinned tag, the first, least, greatest and last point of each stretch of steps stay, and the first NaN,
    Infinity and -Infinity. Points that event files still need, or that are not merged yet, stay for now. Account is
    kept of what went: `verify` knows it. Takes a while for long runs, so the answer is a stream, as that of verify.
    """
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX) as body:
        message = decode_message(body.data, body.content_type, PruneBody)
    if not 0.0 <= message.older_than_s < float("inf"):
        raise InvalidBatchError("$.older_than_s", "a number of seconds, 0 or more")
    if message.thin is not None and message.thin < THIN_MIN:
        raise InvalidBatchError("$.thin", f"at least {THIN_MIN} points")
    await run_in_threadpool(check_exists, service.store, run)
    policy = Policy(
        changed_before=service.clock() - message.older_than_s if message.older_than_s else None,
        superseded=message.superseded,
        thin=message.thin,
        whole=message.whole,
    )
    pruning = service.pruner.run(run, policy, dry=message.dry_run, by=asking)
    return StreamingResponse(_lines(service, pruning, dry=message.dry_run), media_type=NDJSON)


async def _lines(service: Service, pruning: RunPruning, *, dry: bool) -> AsyncIterator[bytes]:
    async with service.verifications:
        steps = pruning.steps()
        line = PruneLine()
        told_at = begun = time.monotonic()
        try:
            while (scalars := await run_in_threadpool(next, steps, None)) is not None:
                line.scalars_read += scalars
                if (now := time.monotonic()) - told_at >= TELL_EVERY_S:
                    told_at = now
                    yield _encoded(line)
                await asyncio.sleep(min(REST_MAX_S, now - begun))
                begun = time.monotonic()
            line.outcome = pruning.outcome
        except Exception as error:  # noqa: BLE001 - the status line is sent already: the stream has to say it
            line.problem, _ = described(error)
        finally:
            steps.close()  # type: ignore[attr-defined]
        if not dry:
            log.info("pruned: %s", pruning.outcome)
        yield _encoded(line)


def _encoded(line: PruneLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"

"""Watchdogs: what is wrong with runs now, what is looked for, and a test of a webhook."""

import hashlib
from collections.abc import Callable
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import InvalidBatchError, InvalidNameError, check_run, decode_message
from tallyboard_server.api import etags, examples
from tallyboard_server.api.answers import answer
from tallyboard_server.api.body import DOCUMENT_BYTES_MAX
from tallyboard_server.api.documented import BODY, STORE, WRITE, Given, Sent, documented
from tallyboard_server.api.problems import ForbiddenError, InvalidRunNameError, NoWebhookError, RulesChangedError
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.service import Asking, Running, Service
from tallyboard_server.api.views import incident_item
from tallyboard_server.api.watchmessages import IncidentsPage, TestAnswer, WatchAnswer
from tallyboard_server.ingest.auditing import note
from tallyboard_server.principal import Principal
from tallyboard_server.store.protocol import Transaction
from tallyboard_server.watch import ProjectsTooManyError, WatchRules, WebhookRule, check_rules
from tallyboard_server.watch.book import ALL

INCIDENTS_MAX: Final = 1_000

router = APIRouter(tags=["watchdogs"])


def _project_of_path(
    project: Annotated[str, Path(description="What the names of its runs begin with, up to a slash.")],
) -> str:
    try:
        return check_run(project)
    except InvalidNameError as error:
        raise InvalidRunNameError(str(error).replace("run name", "project", 1), field="project") from error


ProjectName = Annotated[str, Depends(_project_of_path)]
"""A route's parameter for a project."""

_ETAG: Final = {"ETag": "Of the own rules: a PUT with If-Match changes them only if nobody has changed them meanwhile."}
_GIVEN: Final = {200: Given(WatchAnswer, examples.WATCH, "What it changes, and what holds in all.", _ETAG)}
_GIVEN_ALL: Final = {
    200: Given(WatchAnswer, examples.WATCH_ALL, "What is changed for all, and what holds then.", _ETAG)
}
_TESTED: Final = {200: Given(TestAnswer, examples.WATCH_TESTED, "What became of it.")}
_DROPPED: Final = {204: Given(None, None, "It has no rules of its own any more.")}


@router.get(
    "/incidents",
    **documented(
        "incidents",
        "List what is wrong with runs now",
        needs="read",
        answers={200: Given(IncidentsPage, examples.INCIDENTS, "Open incidents, newest first.")},
        problems=("invalid_query", *STORE),
    ),
)
def incidents(
    request: Request,
    service: Running,
    asking: Asking,
    project: Annotated[str | None, Query(description="What the runs' names begin with, up to a slash.")] = None,
    limit: Annotated[int, Query(ge=1, le=INCIDENTS_MAX, description="At most so many.")] = 100,
) -> Response:
    """What watchdogs found and have not seen end. What is over is told in the alerts of its run."""
    check_known(request, ("project", "limit"))
    prefix = asking.within("" if project is None else f"{project}/")
    if prefix is None:
        return answer(request, IncidentsPage(incidents=[], more=False))
    with service.store.snapshot() as view:
        found = view.incidents(prefix=prefix, limit=limit + 1)
    items = [incident_item(run, incident) for run, incident in found[:limit]]
    return answer(request, IncidentsPage(incidents=items, more=len(found) > limit))


@router.get(
    "/watch",
    **documented(
        "get_watch",
        "Show what watchdogs do for all",
        needs="read",
        all_projects=True,
        answers=_GIVEN_ALL,
        problems=STORE,
    ),
)
def get_watch(request: Request, service: Running, asking: Asking) -> Response:
    """The rules of all projects: what was changed of the defaults, and what holds where no project changes more."""
    return _show(request, service, asking, ALL)


@router.put(
    "/watch",
    **documented(
        "put_watch",
        "Change what watchdogs do for all",
        needs="admin",
        all_projects=True,
        sent=Sent(WatchRules, examples.WATCH_RULES),
        answers=_GIVEN_ALL,
        problems=("rules_changed", *BODY, *WRITE),
    ),
)
async def put_watch(request: Request, service: Running, asking: Asking) -> Response:
    """Take the place of the rules of all projects; what is absent is as it is by default.

    With the `ETag` of what was read in `If-Match`, nothing that somebody else changed meanwhile is lost: then the
    answer is 412.
    """
    return await _change(request, service, asking, ALL)


@router.delete(
    "/watch",
    **documented(
        "delete_watch", "Watch as by default", needs="admin", all_projects=True, answers=_DROPPED, problems=WRITE
    ),
)
async def delete_watch(service: Running, asking: Asking) -> Response:
    """Forget what was changed for all projects; what a project changes stays."""
    return await _reset(service, asking, ALL)


@router.post(
    "/watch:test",
    **documented(
        "test_watch",
        "Try the webhook of all",
        needs="admin",
        all_projects=True,
        answers=_TESTED,
        problems=("no_webhook",),
    ),
)
async def test_watch(request: Request, service: Running) -> Response:
    """Send a test notice to the webhook of all projects, and say what it answered."""
    return await _test(request, service, ALL)


@router.get(
    "/watch/{project:path}",
    **documented(
        "get_project_watch",
        "Show what watchdogs do for a project",
        needs="read",
        answers=_GIVEN,
        problems=("invalid_run_name", *STORE),
    ),
)
def get_project_watch(request: Request, service: Running, asking: Asking, project: ProjectName) -> Response:
    """What the project changes, and what holds for its runs: what is not changed is inherited from the projects that
    it lies in, from the rules of all, and from the defaults."""
    return _show(request, service, asking, project)


@router.put(
    "/watch/{project:path}",
    **documented(
        "put_project_watch",
        "Change what watchdogs do for a project",
        needs="admin",
        sent=Sent(WatchRules, examples.WATCH_RULES),
        answers=_GIVEN,
        problems=("invalid_run_name", "rules_changed", *BODY, *WRITE),
    ),
)
async def put_project_watch(request: Request, service: Running, asking: Asking, project: ProjectName) -> Response:
    """Take the place of the project's own rules; what is absent is inherited. It need not have runs yet.

    With the `ETag` of what was read in `If-Match`, nothing that somebody else changed meanwhile is lost: then the
    answer is 412.

    Webhooks are set by those who may change the whole service: others can't have it send requests.
    """
    return await _change(request, service, asking, project)


@router.delete(
    "/watch/{project:path}",
    **documented(
        "delete_project_watch",
        "Have a project inherit all rules",
        needs="admin",
        answers=_DROPPED,
        problems=("invalid_run_name", *WRITE),
    ),
)
async def delete_project_watch(service: Running, asking: Asking, project: ProjectName) -> Response:
    """Forget what the project changes."""
    return await _reset(service, asking, project)


@router.post(
    "/watch/{project:path}:test",
    **documented(
        "test_project_watch",
        "Try the webhook of a project",
        needs="admin",
        all_projects=True,
        answers=_TESTED,
        problems=("invalid_run_name", "no_webhook"),
    ),
)
async def test_project_watch(request: Request, service: Running, project: ProjectName) -> Response:
    """Send a test notice to the webhook that hears of the project's runs, and say what it answered."""
    return await _test(request, service, project)


def _show(request: Request, service: Service, asking: Principal, project: str) -> Response:
    if service.store.shared:  # what another service changed a moment ago is here in a moment; who asks wants it now
        service.rules.load(service.store)
    own, rules = service.rules.own(project) or WatchRules(), service.rules.of_project(project).whole()
    return answer(
        request,
        WatchAnswer(project=project or None, own=_as_seen(own, asking), rules=_as_seen(rules, asking)),
        headers={"ETag": _etag(_as_seen(own, asking))},
    )


async def _change(request: Request, service: Service, asking: Principal, project: str) -> Response:
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX) as body:
        wanted = check_rules(decode_message(body.data, body.content_type, WatchRules))
    named = etags.named_by_if_match(request)

    def change(own: WatchRules) -> WatchRules:
        if named is not None and "*" not in named and _etag(_as_seen(own, asking)) not in named:
            raise RulesChangedError("somebody has changed these rules since you read them; read them again")
        return _with_webhook(wanted, own, asking)

    await _keep(service, asking, project, change)
    return await run_in_threadpool(_show, request, service, asking, project)


async def _reset(service: Service, asking: Principal, project: str) -> Response:
    def change(own: WatchRules) -> WatchRules | None:
        kept = _with_webhook(WatchRules(), own, asking)
        return kept if kept.set_fields() else None

    await _keep(service, asking, project, change)
    return Response(status_code=204)


async def _test(request: Request, service: Service, project: str) -> Response:
    run = f"{project}/test" if project else "test/test"
    owner = service.rules.owner_of(run) if project else ALL
    webhook = None if owner is None else service.rules.webhook_at(owner)
    if webhook is None:
        raise NoWebhookError(
            "nobody hears of these runs: set a webhook with `tallyboard watchdogs set --webhook URL`, or "
            "TALLYBOARD_WEBHOOK_URL"
        )
    sent = await run_in_threadpool(service.notifier.test, webhook, run)
    return answer(request, TestAnswer(taken=sent.taken, status=sent.status, detail=sent.detail))


async def _keep(
    service: Service, asking: Principal, project: str, change: Callable[[WatchRules], WatchRules | None]
) -> None:
    """Make rules hold, and keep in the audit who did so, and what was changed: not the URL, which may be a secret."""
    now = service.clock()

    def told(transaction: Transaction, rules: WatchRules | None) -> None:
        fields = sorted(rules.set_fields()) if rules is not None else []
        note(transaction, now, asking, "watch.change", None, project=project or None, fields=fields)

    try:
        await run_in_threadpool(service.rules.change, service.ingest.record, project, change, told)
    except ProjectsTooManyError as error:
        raise InvalidBatchError("$", str(error)) from error


def _with_webhook(wanted: WatchRules, own: WatchRules, asking: Principal) -> WatchRules:
    """What is to hold: a webhook that somebody may not change stays as it is. Raises ForbiddenError."""
    if asking.project is None:
        return wanted
    if wanted.webhook is not msgspec.UNSET and wanted.webhook != _as_seen(own, asking).webhook:
        raise ForbiddenError("only who may do everything can set a webhook; leave `webhook` out, and it stays as it is")
    return msgspec.structs.replace(wanted, webhook=own.webhook)


def _etag(own: WatchRules) -> str:
    """What tells rules from others, as somebody sees them."""
    return f'"{hashlib.sha256(msgspec.json.encode(own)).hexdigest()[:32]}"'


def _as_seen(rules: WatchRules, asking: Principal) -> WatchRules:
    """Rules as somebody may see them: of a webhook, whose URL is often a secret, perhaps only the host."""
    hook = rules.webhook
    if hook is None or hook is msgspec.UNSET or (asking.project is None and asking.may("admin")):
        return rules
    parts = urlsplit(hook.url)
    return msgspec.structs.replace(
        rules, webhook=WebhookRule(url=f"{parts.scheme}://{parts.netloc}/***", format=hook.format)
    )

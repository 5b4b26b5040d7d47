"""GET /audit: who did what to which run, and when; newest first."""

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer
from tallyboard_server.api.documented import STORE, Given, documented
from tallyboard_server.api.messages import AuditItem, AuditPage
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.service import Asking, Running
from tallyboard_server.principal import AuditEntry

ENTRIES_PER_PAGE_MAX: Final = 1_000
_ID_MAX: Final = 2**63 - 1

router = APIRouter(tags=["operations"])


@router.get(
    "/audit",
    **documented(
        "audit",
        "Who did what, and when",
        needs="admin",
        answers={200: Given(AuditPage, examples.AUDIT, "Entries, the newest first.")},
        problems=("invalid_query", *STORE),
    ),
)
def audit(
    request: Request,
    service: Running,
    asking: Asking,
    run: Annotated[str | None, Query(description="Only what was done to this run, there or not.")] = None,
    project: Annotated[str | None, Query(description="Only runs whose names begin with this, up to a slash.")] = None,
    action: Annotated[str | None, Query(description="Only this action: `run.delete`.")] = None,
    before: Annotated[int | None, Query(ge=0, le=_ID_MAX, description="`before` of the page before this one.")] = None,
    limit: Annotated[int, Query(ge=1, le=ENTRIES_PER_PAGE_MAX, description="At most so many.")] = 100,
) -> Response:
    """What was done to runs, tokens and the service, each entry written in one transaction with what it tells.

    Nothing changes or removes an entry but time: the newest million are kept. A token that is for one
    project sees what was done to its runs.
    """
    check_known(request, ("run", "project", "action", "before", "limit"))
    prefix = asking.within("" if project is None else f"{project}/")
    found: list[AuditEntry] = []
    if prefix is not None:
        with service.store.snapshot() as view:
            found = view.audit(prefix=prefix, run=run, action=action, before=before, limit=limit)
    more = found[-1].id if len(found) == limit else None
    return answer(request, AuditPage(entries=[_item(entry) for entry in found], before=more))


def _item(entry: AuditEntry) -> AuditItem:
    detail = msgspec.json.decode(entry.detail, type=dict[str, Any])
    return AuditItem(
        id=entry.id, at=entry.at, actor=entry.actor, token=entry.token, address=entry.address, action=entry.action,
        run=entry.run, detail=detail,
    )  # fmt: skip

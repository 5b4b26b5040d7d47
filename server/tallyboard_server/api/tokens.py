"""POST /tokens makes a token, GET lists them, DELETE revokes one."""

import math
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from tallyboard.wire import InvalidBatchError, InvalidNameError, check_run, check_text, decode_message
from tallyboard_server.access import TokenWanted
from tallyboard_server.api import examples
from tallyboard_server.api.answers import answer
from tallyboard_server.api.body import DOCUMENT_BYTES_MAX
from tallyboard_server.api.documented import BODY, STORE, WRITE, Given, Sent, documented
from tallyboard_server.api.queries import check_known
from tallyboard_server.api.service import Asking, Running
from tallyboard_server.api.tokenmessages import TokenBody, TokenMade, TokensPage, token_made, token_view

NAME_BYTES_MAX: Final = 200
EXPIRES_S_MAX: Final = 100 * 365 * 86_400.0
RATE_MAX: Final = 1e6

router = APIRouter(tags=["access"])


@router.post(
    "/tokens",
    **documented(
        "create_token",
        "Make a token",
        needs="admin",
        sent=Sent(TokenBody, examples.TOKENS_WANTED),
        answers={201: Given(TokenMade, examples.TOKEN_MADE, "Made. `token` is its text, shown this once.")},
        problems=("admin_token_first", "too_many_tokens", *BODY, *WRITE),
    ),
)
async def create_token(request: Request, service: Running, asking: Asking) -> Response:
    """A token for jobs and people. The service keeps its SHA-256 only.

    `read` is for looking, verifying and exporting; `write` also reports, creates, changes and rewinds; `admin` also
    deletes, prunes and makes tokens. With `project` it reaches the runs `project/…` only. Where nobody has made a
    token yet, the first one has to be an admin's for all projects; from then on nobody gets in without.

    A project's admin makes tokens within that project, which may do no more than its own and expire no later.
    """
    async with service.bodies.body(request, bytes_max=DOCUMENT_BYTES_MAX) as body:
        wanted = _checked(decode_message(body.data, body.content_type, TokenBody))
    token, text = await run_in_threadpool(service.access.create, wanted, asking)
    return answer(request, token_made(token, text), status=201, headers={"Cache-Control": "no-store"})


@router.get(
    "/tokens",
    **documented(
        "list_tokens",
        "List tokens",
        needs="admin",
        answers={200: Given(TokensPage, examples.TOKENS, "All tokens that are kept, oldest first.")},
        problems=("invalid_query", *STORE),
    ),
)
async def list_tokens(request: Request, service: Running, asking: Asking) -> Response:
    """Tokens with when they were last used, those that were revoked or have expired included; never their texts.

    A project's admin sees those of its project.
    """
    check_known(request, ())
    found = [token_view(token) for token in await run_in_threadpool(service.access.listed, asking)]
    return answer(request, TokensPage(tokens=found, environment=service.access.has_environment_token))


@router.delete(
    "/tokens/{id}",
    **documented(
        "revoke_token",
        "Revoke a token",
        needs="admin",
        answers={204: Given(None, None, "Nobody gets in with it any more, nor browsers that gave it.")},
        problems=("token_not_found", "last_admin_token", *WRITE),
    ),
)
async def revoke_token(
    service: Running,
    asking: Asking,
    token_id: Annotated[str, Path(alias="id", description="The token's id: the part between its first two `_`.")],
) -> Response:
    """End a token at once, and all that began with it: sessions of browsers, streams. Repeating it changes nothing.

    The last admin token for all projects can't be revoked, unless the service has a TALLYBOARD_TOKEN.
    """
    await run_in_threadpool(service.access.revoke, token_id, asking)
    return Response(status_code=204)


def _checked(body: TokenBody) -> TokenWanted:
    check_text(body.name, "$.name", NAME_BYTES_MAX)
    if not body.name.isprintable():
        raise InvalidBatchError("$.name", "no control characters, please: people read it in lists")
    if body.project is not None:
        try:
            check_run(body.project)
        except InvalidNameError as error:
            raise InvalidBatchError("$.project", str(error)) from error
    _check_number(body.expires_s, "$.expires_s", EXPIRES_S_MAX, "seconds")
    _check_number(body.rate, "$.rate", RATE_MAX, "requests a second")
    return TokenWanted(body.scope, body.name, body.project, body.expires_s, body.rate)


def _check_number(value: float | None, path: str, most: float, unit: str) -> None:
    if value is not None and not (math.isfinite(value) and 0 < value <= most):
        raise InvalidBatchError(path, f"{value:g} can't be; {unit}, more than 0 and at most {most:g}")

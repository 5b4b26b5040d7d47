"""The way in for browsers: a page that asks for the token, POST /login, POST /logout. It needs no script."""

import asyncio
import base64
import hashlib
import logging
import math
import re
from collections.abc import Awaitable, Callable
from html import escape
from typing import Any, Final
from urllib.parse import parse_qs, quote

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from tallyboard_server.access import SESSION_S, Access, TokenRefusedError
from tallyboard_server.access.sessions import cookie_value
from tallyboard_server.api.documented import hidden
from tallyboard_server.api.problems import UnauthorizedError
from tallyboard_server.api.service import Running
from tallyboard_server.principal import Principal
from tallyboard_server.store.protocol import StoreError

PATH: Final = "/login"
LOGOUT: Final = "/logout"
OPEN_TO_ALL: Final = frozenset({PATH, LOGOUT})
"""Asked without a token; Host and Origin are checked all the same."""

FORM_BYTES_MAX: Final = 16 * 1024
NEXT_CHARS_MAX: Final = 4_000

_NEXT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.~/-]*/?|")
"""Where one may be led after the login: a path below the service's own, written with nothing that needs to be."""
_STYLE: Final = """
:root { color-scheme: light dark; --background: #f6f7f9; --raised: #fff; --text: #1b2026; --quiet: #57606b;
  --line: #dde1e6; --field: #7b8591; --accent: #1f5fb8; --on-accent: #fff; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --background: #15181d; --raised: #1f242b; --text: #e4e7eb;
  --quiet: #9aa4b0; --line: #2f363f; --field: #6d7782; --accent: #7fb0f2; --on-accent: #10161e; --bad: #f28b82; } }
* { box-sizing: border-box; }
body { display: grid; min-height: 100vh; margin: 0; padding: 16px; place-items: center; background: var(--background);
  color: var(--text); font: 14px/20px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main { width: min(360px, 100%); margin-bottom: 16vh; padding: 24px; border: 1px solid var(--line); border-radius: 8px;
  background: var(--raised); }
h1 { margin: 0 0 16px; font-size: 20px; line-height: 28px; font-weight: 600; }
label { display: block; }
small { color: var(--quiet); font-size: 12px; }
input, button { width: 100%; min-height: 40px; margin-top: 8px; padding: 0 12px; border: 1px solid var(--field);
  border-radius: 6px; background: var(--background); color: inherit; font: inherit; }
input[aria-invalid] { border-color: var(--bad); }
button { margin-top: 16px; border-color: var(--accent); background: var(--accent); color: var(--on-accent);
  font-weight: 600; cursor: pointer; }
input:focus-visible, button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.wrong { margin: 0 0 16px; color: var(--bad); }
"""
CSP: Final = (
    "default-src 'none'; style-src 'sha256-"
    f"{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": CSP,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with none, browsers send `Origin: null` with the form
}
CHALLENGE: Final = {"WWW-Authenticate": UnauthorizedError.headers["WWW-Authenticate"]}
"""No Basic: the browser would ask by a window of its own instead of showing the page."""
_ASKED_AGAIN: Final = "tallyboard_asked_again"
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tallyboard</title>
<style>{style}</style>
<main>
<h1>Tallyboard</h1>
<form method="post" action="{action}">
{message}<label for="token">Token <small>(any that this service made, or its TALLYBOARD_TOKEN)</small></label>
<input type="text" name="username" value="tallyboard" autocomplete="username" hidden>
<input type="password" id="token" name="token" autocomplete="current-password" required autofocus{described}>
<input type="hidden" name="next" value="{then}">
<button>Log in</button>
</form>
</main>
</html>
"""
_AGAIN: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="0">
<title>Tallyboard</title>
</html>
"""

router = APIRouter()
log = logging.getLogger(__name__)


def login_page(then: str = "", *, wrong: str = "", status: int = 401, action: str = "login") -> Response:
    """The page. then: where to go afterwards, as `checked_next` lets it; wrong: what was wrong with the last try."""
    message = f'<p class="wrong" role="alert" id="wrong">{escape(wrong)}</p>\n' if wrong else ""
    described = ' aria-invalid="true" aria-describedby="wrong"' if wrong else ""
    page = _PAGE.format(style=_STYLE, action=action, message=message, described=described, then=escape(then))
    return HTMLResponse(page, status, HEADERS | (CHALLENGE if status == 401 else {}))


def page_instead(scope: Scope) -> Response | None:
    """What a browser without a token gets that asks for a page of the service; None: it asks for something else."""
    if scope["method"] not in ("GET", "HEAD") or not _accepts_html(scope):
        return None
    path = path_of(scope)
    if path == "/":
        query = scope["query_string"].decode("latin-1")
        return _again(scope) or login_page(checked_next(f"?{query}") if query else "")
    then = {"/docs": "docs", "/tensorboard": "tensorboard/", "/tensorboard/": "tensorboard/"}.get(path)
    if then is None:
        return None
    up = "../" if path.count("/") > 1 else ""
    return RedirectResponse(f"{up}login?next={quote(then, safe='')}", 303, {"Cache-Control": "no-store"})


def path_of(scope: Scope) -> str:
    """The path below where the service hangs."""
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def _again(scope: Scope) -> Response | None:
    """For a link of another site, with which a strict cookie is not sent: the page that asks once more, by itself."""
    from_elsewhere = _header(scope, b"sec-fetch-site") == b"cross-site"
    if not from_elsewhere or cookie_value(_header(scope, b"cookie"), _ASKED_AGAIN) is not None:
        return None
    response = HTMLResponse(_AGAIN, 401, HEADERS | CHALLENGE)
    response.set_cookie(_ASKED_AGAIN, "1", max_age=10, httponly=True, samesite="lax")
    return response


def checked_next(text: str) -> str:
    """A place below the service to go to, or "" for its first page: never another site, nor above the service."""
    path, mark, query = text.partition("?")
    odd = "//" in path or any(part in (".", "..") for part in path.split("/"))
    if odd or len(text) > NEXT_CHARS_MAX or not _NEXT.fullmatch(path):
        return ""
    return path + (mark + quote(query, safe="=&%+,;:@!$'()*/?~-._") if query else "")


def address_of(scope: Scope) -> str:
    """Where a request comes from; "" if that is not known."""
    client = scope.get("client")
    return client[0] if client else ""


@router.get(PATH, **hidden(needs=None))
async def show_login(request: Request, service: Running) -> Response:
    """The page by itself; with a one-time `code`, the way in."""
    access, cookie = service.access, _header(request.scope, b"cookie")
    then = checked_next(request.query_params.get("next", ""))
    if access.is_open or await access.whose(cookie, address_of(request.scope)) is not None:
        return RedirectResponse(f"./{then}", 303)
    if (code := request.query_params.get("code")) is None:
        return login_page(then, status=200)

    async def of_code(text: str, address: str) -> Principal:
        return await run_in_threadpool(access.of_code, text, address)

    return await _let_in(request, access, then, of_code, code)


@router.post(PATH, **hidden(needs=None))
async def log_in(request: Request, service: Running) -> Response:
    """Look the token up, and set the cookie."""
    if service.access.is_open:
        return RedirectResponse("./", 303)
    with service.traffic.set_aside():  # anybody may send one as slowly as that, and must take no place of others
        form = await _form(request, service.settings.body_timeout_s)
    if form is None:
        return login_page(wrong="That was no form of this page; try again.", status=400)
    then = checked_next(form.get("next", ""))

    async def who_gave(text: str, address: str) -> Principal:
        return await service.access.who_gave(text.encode(), address)

    return await _let_in(request, service.access, then, who_gave, form.get("token", "").strip())


@router.post(LOGOUT, **hidden(needs=None))
async def log_out(request: Request, service: Running) -> Response:
    """End the session and take the cookie back; the first page asks for a token again."""
    response = RedirectResponse("./", 303, {"Cache-Control": "no-store"})
    if not service.access.is_open:
        service.access.log_out(_header(request.scope, b"cookie"))
        response.delete_cookie(service.access.cookie_name, **_cookie_place(request))
    return response


async def _let_in(
    request: Request, access: Access, then: str, who: Callable[[str, str], Awaitable[Principal]], given: str
) -> Response:
    """A cookie for the browser that gave what `who` knows, or the page that says why not."""
    address, tries = address_of(request.scope), access.tries
    if (wait_s := tries.wait_s(address)) > 0:
        page = login_page(then, wrong=f"Too many wrong tokens; try again in {math.ceil(wait_s)} s.", status=429)
        page.headers["Retry-After"] = str(math.ceil(wait_s))
        return page
    try:
        asking = await who(given, address)
        cookie = await run_in_threadpool(access.log_in, asking)
    except TokenRefusedError as error:
        tries.failed(address)
        log.warning("a login from %s was refused: %s", address, error)
        said = str(error)
        return login_page(then, wrong=f"{said[:1].upper()}{said[1:]}. `tallyboard token list` shows which there are.")
    except StoreError as error:
        log.warning("a login from %s could not be looked up or saved: %s", address, error)
        return login_page(then, wrong="The database can't be had just now; try again in a moment.", status=503)
    response = RedirectResponse(f"./{then}", 303, {"Cache-Control": "no-store"})
    response.set_cookie(access.cookie_name, cookie, max_age=int(SESSION_S), **_cookie_place(request))
    return response


def _cookie_place(request: Request) -> dict[str, Any]:
    """Where and when the browser sends the cookie."""
    origin = request.headers.get("origin", "")
    secure = request.url.scheme == "https" or origin.startswith("https://")
    path = f"{request.scope.get('root_path', '').rstrip('/')}/"
    return {"path": path, "secure": secure, "httponly": True, "samesite": "strict"}


async def _form(request: Request, timeout_s: float) -> dict[str, str] | None:
    """The fields of a form, each once; None if it is none, too large, or does not arrive."""
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                body += piece
                if len(body) > FORM_BYTES_MAX:
                    return None
        fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=8)
    except (TimeoutError, ClientDisconnect, ValueError):
        return None
    return {name: values[0] for name, values in fields.items()}


def _accepts_html(scope: Scope) -> bool:
    return b"text/html" in _header(scope, b"accept")


def _header(scope: Scope, name: bytes) -> bytes:
    """A header's first value; b"" without one."""
    value: bytes = next((value for key, value in scope["headers"] if key == name), b"")
    return value

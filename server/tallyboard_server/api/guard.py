"""The door: token or cookie, Host, Origin, requests in flight; as one thin ASGI layer."""

import base64
import binascii
import logging
import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallyboard_server.access import Access, TokenRefusedError
from tallyboard_server.api import login, problems
from tallyboard_server.api.rates import Rates
from tallyboard_server.api.service import PRINCIPAL
from tallyboard_server.api.traffic import Traffic
from tallyboard_server.principal import Principal
from tallyboard_server.settings import LOOPBACK_NAMES, Settings
from tallyboard_server.store.protocol import StoreError

log = logging.getLogger(__name__)

OPEN_PATHS: Final = frozenset({"/healthz"})
"""Answered to anybody: a probe learns that the process lives, and nothing else."""

_OTHER_SITES: Final = frozenset({b"cross-site", b"same-site"})
"""What a browser says in Sec-Fetch-Site of another origin's page. An image or script that such a page names comes
without Origin; the page can't read the answer, but could have this service work on backups and charts by the dozen."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HOW_TO_SEND: Final = (
    'send "Authorization: Bearer <token>" (a browser may give it as the password): the TALLYBOARD_TOKEN of the '
    "service, or one that `tallyboard token create` made"
)


class Guard:
    """Lets a request through to the app, or answers why not.

    What the app raises and nobody foresaw becomes a 500 problem here, logged under the id that it carries.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, traffic: Traffic, access: Access, rates: Rates) -> None:
        self._app = app
        self._traffic = traffic
        self._access = access
        self._rates = rates
        own_names = LOOPBACK_NAMES if settings.on_loopback else frozenset()
        self._public_names = frozenset(settings.allowed_hosts)
        self._host_names = own_names | self._public_names
        self._in_flight_max = settings.requests_in_flight_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":  # none is served; what is not checked here must not get through
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            asking = await self._check(scope)
            if asking is not None:
                await self._rates.admit(asking)
        except problems.UnauthorizedError as error:
            await (login.page_instead(scope) or problems.answer(error))(scope, receive, send_marked)
            return
        except (problems.ApiError, StoreError) as error:
            await problems.answer(error)(scope, receive, send_marked)
            return
        if asking is not None:
            scope[PRINCIPAL] = asking
        self._traffic.in_flight += 1
        try:
            await self._app(scope, receive, send_marked)
        except Exception as error:
            response = problems.answer(error)
            if started:  # too late for another answer: the client sees a cut one
                raise
            await response(scope, receive, send_marked)
        finally:
            self._traffic.in_flight -= 1

    async def _check(self, scope: Scope) -> Principal | None:
        """Who asks; None for what is open to everybody. Raises an ApiError, StoreError."""
        path = login.path_of(scope)
        if path in OPEN_PATHS:
            return None
        hosts: list[bytes] = []
        origins: list[bytes] = []
        authorization = cookie = site = wanted_as = b""
        for name, value in scope["headers"]:
            if name == b"host":
                hosts.append(value)
            elif name == b"origin":
                origins.append(value)
            elif name == b"authorization":
                authorization = value
            elif name == b"cookie":
                cookie = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-dest":
                wanted_as = value
        if self._host_names:
            self._check_host(hosts)
        if origins:
            self._check_origin(origins, hosts)
        if site in _OTHER_SITES and wanted_as != b"document":
            raise problems.ForbiddenOriginError("another site's page may only link here, not ask or show what is here")
        asking = None
        if path not in login.OPEN_TO_ALL:
            asking = await self._asking(authorization, cookie, login.address_of(scope))
        _check_path(scope)
        if (in_flight := self._traffic.in_flight) >= self._in_flight_max:
            raise problems.TooBusyError(f"{in_flight} requests are being served; try again in a second")
        return asking

    async def _asking(self, authorization: bytes, cookie: bytes, address: str) -> Principal:
        """Who asks. Raises UnauthorizedError, and its WrongTokensError after too many wrong tokens; StoreError."""
        if self._access.is_open:
            return Principal("anybody", "admin", address=address)
        scheme, _, credentials = authorization.partition(b" ")
        match scheme.lower():
            case b"bearer":
                given = credentials.strip()
            case b"basic":
                given = _password(credentials)
            case _:
                if cookie and (known := await self._access.whose(cookie, address)) is not None:
                    return known
                raise problems.UnauthorizedError(f"this service is protected by a token; {_HOW_TO_SEND}")
        try:
            return await self._access.who_gave(given, address)
        except TokenRefusedError as error:
            raise self._refused(str(error), address) from error

    def _refused(self, reason: str, address: str) -> problems.UnauthorizedError:
        """Why a token is not taken; a wrong one costs little, so the right one is never kept out."""
        tries = self._access.wrong_tokens
        if (wait_s := tries.wait_s(address)) > 0:
            return problems.WrongTokensError(f"{reason}, as were many from {address} just now; {_HOW_TO_SEND}", wait_s)
        tries.failed(address)
        log.warning("a token from %s was refused: %s", address, reason)
        return problems.UnauthorizedError(f"{reason}; {_HOW_TO_SEND}")

    def _check_host(self, hosts: list[bytes]) -> None:
        """Against DNS rebinding: a foreign page that makes its own name resolve to this machine."""
        if len(hosts) == 1 and _name_of(hosts[0]) in self._host_names:
            return
        shown = hosts[0].decode("latin-1")[:100] if hosts else ""
        raise problems.ForbiddenHostError(
            f"Host {shown!r} is not one of this service's names; use localhost, or add the name to "
            "TALLYBOARD_ALLOWED_HOSTS"
        )

    def _check_origin(self, origins: list[bytes], hosts: list[bytes]) -> None:
        """Against requests that other sites' pages send with what the browser remembers of this one."""
        for origin in origins:
            _, _, authority = origin.partition(b"://")
            if authority and (authority in hosts or _name_of(authority) in self._public_names):
                continue
            shown = origin.decode("latin-1")[:100]
            raise problems.ForbiddenOriginError(
                f"Origin {shown!r} is another site; only this service's own pages may ask from a browser"
            )


def _password(credentials: bytes) -> bytes:
    try:
        _, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return b""
    return password


def _check_path(scope: Scope) -> None:
    """Undecodable bytes would arrive as U+FFFD, under which two different names become one."""
    if _CONTROL.search(scope["path"]):  # no route's pattern reaches past a newline, so none could say this better
        raise problems.InvalidPathError(f"{scope['path'][:200]!r} contains a control character", field="path")
    for field, data in (("path", scope["raw_path"]), ("query", scope["query_string"])):
        if b"%" not in data:
            continue
        try:
            unquote_to_bytes(data).decode()
        except UnicodeDecodeError as error:
            shown = data.decode("latin-1")[:200]
            raise problems.InvalidPathError(
                f"{shown!r} is not percent-encoded UTF-8 ({error.reason})", field=field
            ) from error


@lru_cache(maxsize=256)
def _name_of(authority: bytes) -> str:
    """The host of `host:port`, as names are compared."""
    text = authority.decode("latin-1").strip().lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.rpartition(":")[0].rstrip(".") if ":" in text else text.rstrip(".")

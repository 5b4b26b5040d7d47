"""The outermost layer of the service: what every response carries, whoever answers, and what is told of each.

It settles where a request comes from and below which path the service hangs, gives it an id, puts the headers on that
no answer may lack, counts it, and writes the access log.
"""

import itertools
import logging
import secrets
import time
from typing import Final

from starlette.datastructures import URL
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tallyboard_server.api.forwarded import Proxies
from tallyboard_server.api.login import path_of
from tallyboard_server.api.service import PRINCIPAL
from tallyboard_server.api.traffic import Traffic, kind_of_path
from tallyboard_server.logs import FIELDS, REQUEST_ID, escaped
from tallyboard_server.principal import Principal
from tallyboard_server.settings import Settings

DATA_CSP: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For what is no page: whatever a browser is led to make of it, nothing in it runs."""
HSTS: Final = "max-age=15552000"
"""Half a year: browsers that came by TLS come by nothing else. (180 d · 86,400 s)"""
ALWAYS: Final = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": DATA_CSP.encode(),
    b"cross-origin-resource-policy": b"same-origin",
}
"""Unless an answer says otherwise."""
OF_PAGES: Final = {
    b"cross-origin-opener-policy": b"same-origin",
    b"permissions-policy": (
        b"camera=(), microphone=(), geolocation=(), display-capture=(), payment=(), usb=(), serial=(), bluetooth=(), "
        b"browsing-topics=()"
    ),
}
"""On HTML, too."""

access_log = logging.getLogger("tallyboard.access")


class Edge:
    """Stands before everything else. traffic: where responses are counted."""

    def __init__(self, app: ASGIApp, *, settings: Settings, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic
        self._proxies = Proxies(settings.trusted_proxies)
        self._root = settings.root_path
        self._logs = settings.access_log
        self._id_prefix = secrets.token_hex(4)  # asking the system each time would let go of the interpreter's lock
        self._numbers = itertools.count()
        self._hsts = ((b"strict-transport-security", HSTS.encode()),) if settings.tls_cert is not None else ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        request_id = self._proxies.apply(scope) or f"{self._id_prefix}{next(self._numbers):08x}"
        REQUEST_ID.set(request_id)  # of this task, which is this request's alone
        app = self._placed(scope)
        kind = kind_of_path(path_of(scope))
        status = sent = 0

        async def send_marked(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                self._traffic.answered(kind, status)
                message["headers"] = self._marked(message["headers"], request_id)
            else:
                sent += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, send_marked)
        finally:
            if self._logs:
                _log(scope, status, time.perf_counter() - begun, sent)

    def _placed(self, scope: Scope) -> ASGIApp:
        """Have the path begin with the root path, which the proxy took off or did not; what answers is returned."""
        root, path = self._root, scope["path"]
        if root:
            scope["root_path"] = root
            if path == root:  # links are relative to a folder
                query = scope["query_string"].decode("latin-1")
                return RedirectResponse(str(URL(path=f"{root}/", query=query)), 307)
            if not path.startswith(f"{root}/"):
                scope["path"] = root + path
        return self._app

    def _marked(self, headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
        """A response's headers, and those that it lacks."""
        names = {name for name, _ in headers}
        marked = [*headers, *((name, value) for name, value in ALWAYS.items() if name not in names), *self._hsts]
        if any(name == b"content-type" and value.startswith(b"text/html") for name, value in headers):
            marked += [(name, value) for name, value in OF_PAGES.items() if name not in names]
        marked.append((b"x-request-id", request_id.encode()))
        return marked


def _log(scope: Scope, status: int, seconds: float, sent: int) -> None:
    """A line of the access log. The path is as it came, without the query, which may hold what nobody is to see."""
    found = scope.get(PRINCIPAL)
    who = found.name if isinstance(found, Principal) else "-"
    address = scope["client"][0] if scope.get("client") else "-"
    path = escaped(scope["raw_path"].decode("latin-1"))
    fields = {
        "method": scope["method"], "path": path, "status": status, "seconds": round(seconds, 6), "bytes": sent,
        "who": who, "address": address,
    }  # fmt: skip
    access_log.info(
        "%s %s %d %.6f s %d bytes by %s from %s",
        scope["method"], path.replace(" ", "%20"), status, seconds, sent, escaped(who), escaped(address),
        extra={FIELDS: fields},
    )  # fmt: skip

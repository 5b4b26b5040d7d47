"""TensorBoard below /tensorboard/: its WSGI application behind the guard, in a pool of threads of its own.

A request takes a thread only while TensorBoard works on it: its body is here before, and the answer leaves after, so
that slow connections hold up nobody. Reports are decoded and committed elsewhere and never wait for these threads.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from a2wsgi import WSGIMiddleware
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import Message, Receive, Scope, Send

from tallyboard.wire.limits import MIB
from tallyboard_server.api.problems import BodyDamagedError, BodyTimeoutError, BodyTooLargeError, TooBusyError
from tallyboard_server.api.service import PRINCIPAL
from tallyboard_server.store.protocol import Store
from tallyboard_server.tensorboard import ASKING, WsgiApplication, make_application

PATH: Final = "/tensorboard"
WORKERS: Final = 2
"""Threads. TensorBoard's own work is Python, of which only one thread at a time runs; one reads while another waits."""
WAITING_MAX: Final = 128
"""Requests in hand; a browser's tab sends six at once."""
BODY_BYTES_MAX: Final = MIB
"""The page posts lists of tags."""

_OURS: Final = frozenset({b"x-content-type-options", b"referrer-policy"})
"""Headers that each of the service's answers gets."""
_CSP: Final = b"content-security-policy"
_CSP_ADDED: Final = b"; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
"""To what TensorBoard says of its pages: it leaves open who may frame them."""
_CSP_OF_OTHERS: Final = b"default-src 'self'; frame-ancestors 'self'"
"""For what is no page; its workers are under the policy that they come with."""


class Board:
    """An ASGI app. TensorBoard is imported and made at the first request, which takes half a second longer."""

    def __init__(self, *, body_timeout_s: float, make: Callable[[Store], WsgiApplication] = make_application) -> None:
        self._body_timeout_s = body_timeout_s
        self._make = make
        self._store: Store | None = None
        self._made: WSGIMiddleware | None = None
        self._making = asyncio.Lock()
        self._waiting = 0

    def open(self, store: Store) -> None:
        """Show what is in a store."""
        self._store = store

    def close(self) -> None:
        """Return when no thread reads any more."""
        self._store = None
        if self._made is not None:
            pool: ThreadPoolExecutor = self._made.executor
            pool.shutdown(cancel_futures=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if self._waiting >= WAITING_MAX:
            raise TooBusyError(f"{self._waiting} requests wait for TensorBoard; try again in a second")
        self._waiting += 1
        try:
            body = await self._body(receive)
            application = await self._application()
            messages: list[Message] = []

            async def whole() -> Message:
                return {"type": "http.request", "body": body}

            async def keep(message: Message) -> None:
                messages.append(message)

            ASKING.set(scope[PRINCIPAL])  # of this task; a2wsgi hands its context on to the thread
            await application(scope, whole, keep)  # type: ignore[arg-type]
        finally:
            self._waiting -= 1
        for message in messages:
            if message["type"] == "http.response.start":
                message["headers"] = _marked(message["headers"])
            await send(message)

    async def _application(self) -> WSGIMiddleware:
        async with self._making:
            if self._made is None:
                if self._store is None:
                    raise RuntimeError("asked while the service does not run")
                application = await run_in_threadpool(self._make, self._store)
                self._made = WSGIMiddleware(application, workers=WORKERS)  # type: ignore[arg-type]
            return self._made

    async def _body(self, receive: Receive) -> bytes:
        """The request's body. Raises an ApiError."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise BodyDamagedError("the connection closed before the body was complete")
                    body += message.get("body", b"")
                    if len(body) > BODY_BYTES_MAX:
                        raise BodyTooLargeError(f"more than {BODY_BYTES_MAX} bytes")
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise BodyTimeoutError(f"the body did not arrive within {self._body_timeout_s:g} s") from error


def _marked(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """TensorBoard's headers, with our own view of who may frame what, and without what all answers get."""
    policy = next((value + _CSP_ADDED for name, value in headers if name == _CSP), _CSP_OF_OTHERS)
    return [*((name, value) for name, value in headers if name not in _OURS and name != _CSP), (_CSP, policy)]


def routes(board: Board) -> list[BaseRoute]:
    """What an app needs for TensorBoard to be there."""
    return [
        Route(PATH, with_slash, include_in_schema=False),
        Route("/font-roboto/{name}", font, include_in_schema=False),
        Mount(PATH, board),
    ]


async def font(request: Request) -> Response:
    """TensorBoard's page asks for its fonts at the root, wherever it is itself; all else it asks for below itself."""
    return RedirectResponse(str(URL(path=f"..{PATH}/font-roboto/{request.path_params['name']}")), status_code=307)


async def with_slash(request: Request) -> Response:
    """From /tensorboard to /tensorboard/, relative to where a proxy may have put the service."""
    return RedirectResponse(str(URL(path=f"{PATH[1:]}/", query=request.url.query)), status_code=307)

"""One webhook: where it is, and one request to it, bounded in time and size, without following anybody anywhere."""

import http.client
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from tallyboard.version import __version__

Format = Literal["json", "slack"]

URL_BYTES_MAX: Final = 2_048
TIMEOUT_S: Final = 10.0
"""For connecting, and for each piece of the answer."""
DEADLINE_S: Final = 20.0
"""For all of it once there is a connection: whoever answers a byte at a time is cut off."""
ANSWER_BYTES_MAX: Final = 4_096
"""Of an answer only its beginning is read; the test of a webhook shows it."""
DELIVERY_HEADER: Final = "Tallyboard-Delivery"
"""The same when the same delivery is tried again."""


@dataclass(slots=True, frozen=True)
class Webhook:
    """Where notices go, and how they look there."""

    url: str
    format: Format = "json"

    @property
    def host(self) -> str:
        """What may be logged of it: the rest of a URL is often a secret."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


@dataclass(slots=True, frozen=True)
class Sent:
    """What became of a request. status: of the answer, None if there was none; detail: its beginning, or what was
    wrong; retry_after_s: how long to wait, if it said so."""

    status: int | None
    detail: str
    retry_after_s: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the other side has it."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def hopeless(self) -> bool:
        """Whether the same request would be answered the same again: redirects, and what is the request's fault."""
        return self.status is not None and 300 <= self.status < 500 and self.status not in (408, 425, 429)


def check_url(url: str) -> str:
    """The URL if requests can be sent there; raises ValueError, in words."""
    if len(url.encode(errors="replace")) > URL_BYTES_MAX:
        raise ValueError(f"at most {URL_BYTES_MAX} bytes")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("printable ASCII without spaces; percent-encode the rest")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL like https://hooks.example.org/…")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user and password in the URL: they would not be sent")
    if parts.port == 0:
        raise ValueError("there is no port 0")
    return url


def post(url: str, body: bytes, delivery_id: str) -> Sent:
    """Send a body; never raises for what the network or the other side does."""
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.hostname or "", parts.port)
    deadline: threading.Timer | None = None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"tallyboard/{__version__}",
        DELIVERY_HEADER: delivery_id,
        "Connection": "close",
    }
    try:
        connection.connect()
        deadline = threading.Timer(DEADLINE_S, _cut, [connection.sock])
        deadline.daemon = True
        deadline.start()
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        status, retry_after = response.status, response.headers.get("Retry-After", "")
        return Sent(status, _beginning(response), _seconds(retry_after))
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Sent(None, f"no answer: {str(error) or type(error).__name__}")
    finally:
        if deadline is not None:
            deadline.cancel()
        connection.close()


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)


def _cut(connected: socket.socket) -> None:
    """End a connection that another thread waits for; below TLS, which would wait for the other side."""
    with suppress(OSError):  # it has ended by itself
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _beginning(response: http.client.HTTPResponse) -> str:
    """The beginning of an answer's body; what can't be read of it does not matter: the status has come."""
    try:
        return response.read(ANSWER_BYTES_MAX).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        return ""


def _seconds(text: str) -> float | None:
    """Retry-After in seconds; the other form, a date, is rare, and leaves the wait to us."""
    return float(text) if text.isdecimal() and len(text) < 7 else None

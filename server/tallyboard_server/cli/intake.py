"""What jobs left on this machine while no service ran: taken in once `serve` is up, in the background."""

import logging
import threading
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import tallyboard
from tallyboard.outbox.stream import Stream
from tallyboard_server.cli.tls import fingerprint
from tallyboard_server.settings import LOOPBACK_NAMES, Settings

log: Final = logging.getLogger(__name__)


def take_in(settings: Settings, port: int, token: str) -> None:
    """Start taking in this user's spools whose jobs are gone, and which no other service was named for.

    token: one that the service takes from itself.
    """
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    scheme, pin = ("http", None) if settings.tls_cert is None else ("https", fingerprint(settings.tls_cert))
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    thread = threading.Thread(target=_take_in, args=(url, token, pin, meant_for(host, port)), daemon=True)
    thread.name = "spool-intake"
    thread.start()


def meant_for(host: str, port: int) -> Callable[[Stream], bool]:
    """Whether a stream was meant for the service at host and port: nobody named another one."""

    def is_meant(stream: Stream) -> bool:
        if stream.url is None:
            return True
        parts = urlsplit(stream.url)
        return parts.port == port and (parts.hostname == host or parts.hostname in LOOPBACK_NAMES)

    return is_meant


def _take_in(url: str, token: str | None, pin: str | None, wanted: Callable[[Stream], bool]) -> None:
    """pin: the fingerprint of our own certificate, which need not be for this machine's own address."""
    try:
        results = tallyboard.sync(url=url, token=token, fingerprint=pin, wanted=wanted)
    except tallyboard.ConfigurationError as error:
        log.warning("what jobs left on this machine can't be taken in: %s", error)
        return
    for result in results:
        if result.state != "busy":  # a job that lives sends by itself
            log.info("taken in from this machine's spool: %s", result)

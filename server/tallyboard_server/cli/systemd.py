"""What systemd is told of the service: that it is ready, that it stops, and that its event loop still turns.

The protocol is a datagram to the socket that NOTIFY_SOCKET names (sd_notify(3)). Without one nothing is told.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Mapping
from typing import Final

log = logging.getLogger(__name__)

_SEND_TIMEOUT_S: Final = 1.0


class Systemd:
    """The service manager that started this process, if one did."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        given = os.environ if environment is None else environment
        self._address = given.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(given)
        """How often it wants to hear of the event loop, at least; None: not at all."""

    def tell(self, state: str) -> None:
        """Send lines of VARIABLE=value. That it can't be told is logged, and no reason to fail."""
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(_SEND_TIMEOUT_S)
                sender.sendto(state.encode(), address)
        except OSError as error:
            log.warning("systemd could not be told %r at %s: %s", state, self._address, error)

    async def watch(self) -> None:
        """Tell twice per interval that the loop turns, until cancelled; returns at once if nobody wants to hear."""
        while self._address and self.watchdog_s is not None:
            self.tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_s / 2)


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """WATCHDOG_USEC in seconds, if it is meant for this process."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not (microseconds.isascii() and microseconds.isdigit()) or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1e6 or None

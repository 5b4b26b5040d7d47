"""Uvicorn as `tallyboard serve` runs it: one process, bounded shutdown, an announcement once it takes requests."""

import logging
import socket
from typing import Final

import uvicorn

from tallyboard_server.app import create_app
from tallyboard_server.cli.output import stdout
from tallyboard_server.settings import Settings

SHUTDOWN_TIMEOUT_S: Final = 15
"""Time that requests under way get to end; what was acknowledged is on disk anyway."""


class AnnouncedServer(uvicorn.Server):
    """A server that says where to look once it takes requests."""

    def __init__(self, config: uvicorn.Config, announcement: str) -> None:
        super().__init__(config)
        self._announcement = announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then the announcement."""
        await super().startup(sockets)
        if self.started:
            stdout.print(self._announcement, markup=False)


def run(settings: Settings, listener: socket.socket, announcement: str) -> bool:
    """Serve on a bound socket until a signal to stop; False if the service could not start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    config = uvicorn.Config(
        create_app(settings),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
    )
    server = AnnouncedServer(config, announcement)
    server.run(sockets=[listener])
    return server.started

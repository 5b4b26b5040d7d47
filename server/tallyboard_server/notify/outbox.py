"""The way in: alerts of runs that have a webhook wait in the store, from the transaction on that keeps them."""

import logging
from collections.abc import Callable, Sequence

from tallyboard_server.model import KeptAlert
from tallyboard_server.store.protocol import Transaction
from tallyboard_server.store.watching import NOTICES_MAX

logger = logging.getLogger(__name__)


class Outbox:
    """Puts alerts into the store's outbox, if anybody wants to hear of their run. All on the writer's thread."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        """`wanted`: whether a run, by its name, has a webhook."""
        self._wanted = wanted
        self._put = False
        self.dropped = 0
        self.unseen = True
        """Whether anything may have come since the sender last looked; there may be some of a former process."""

    def put(self, transaction: Transaction, run: str, alerts: Sequence[KeptAlert]) -> None:
        """Within the transaction that keeps them: what is kept will be sent, whatever happens between."""
        if not alerts or not self._wanted(run):
            return
        dropped = transaction.queue_notices(run, alerts)
        self._put = True
        if dropped:
            self.dropped += dropped
            logger.warning("%d notices were dropped: %d wait to be sent already", dropped, NOTICES_MAX)

    def committed(self, _done: object) -> None:
        """What was put is there to be seen; see Ingest.on_commit."""
        if self._put:
            self._put = False
            self.unseen = True

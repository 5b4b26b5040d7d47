"""tensorboardX's SummaryWriter, with its files taken away: what encodes every kind but scalars."""

import threading
from typing import Any

from tallyboard.summary_writer.relay import Relay


def make_encoder(logdir: str) -> Any:
    """A tensorboardX SummaryWriter whose `through(relay)` says where this thread's next protos go.

    Raises ImportError if tensorboardX is missing.
    """
    try:
        import tensorboardX
    except ImportError as error:
        raise ImportError(f"it takes tensorboardX: pip install 'tallyboard[tensorboard]' ({error})") from error

    class Encoder(tensorboardX.SummaryWriter):  # type: ignore[misc]
        def __init__(self) -> None:
            self._relays = threading.local()
            super().__init__(logdir)

        def through(self, relay: Relay) -> None:
            self._relays.relay = relay

        def _get_file_writer(self) -> Relay | None:
            return getattr(self._relays, "relay", None)

    return Encoder()

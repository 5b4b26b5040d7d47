"""Which runs the request that is being answered reaches: TensorBoard's plugins hand nothing on that says who asks."""

from contextvars import ContextVar
from typing import Final

from tallyboard_server.principal import Principal

ASKING: Final[ContextVar[Principal]] = ContextVar("tensorboard_asking")
"""Who asks, in the context of the thread that answers. Elsewhere nobody does, and nothing may be read."""


def prefix_asked() -> str:
    """What the names of the runs begin with that may be read. Raises LookupError outside a request."""
    return ASKING.get().prefix

"""What of many runs a question is about, for whoever asks: the rest does not exist for them."""

from typing import Final

from tallyboard_server.principal import Principal

NOWHERE: Final = "/"
"""What no run's name begins with."""


def narrowed(asking: Principal, beginning: str) -> str:
    """What the names of the runs begin with that begin so and that whoever asks reaches."""
    found = asking.within(beginning)
    return NOWHERE if found is None else found


def of_project(asking: Principal, project: str | None) -> str:
    """The same for a route's parameter `project`, which may be absent."""
    return narrowed(asking, "" if project is None else f"{project}/")

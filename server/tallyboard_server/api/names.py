"""The run that a path names."""

from typing import Annotated

from fastapi import Depends, Path

from tallyboard.wire import InvalidNameError, check_run
from tallyboard_server.api.problems import InvalidRunNameError


def checked_run(name: str, field: str = "run") -> str:
    """The name if a run can be called that; raises InvalidRunNameError."""
    try:
        return check_run(name)
    except InvalidNameError as error:
        raise InvalidRunNameError(str(error), field=field) from error


def _run_of_path(
    run: Annotated[str, Path(description="The run's name, `project/name…`; slashes may stand as they are.")],
) -> str:
    return checked_run(run)


RunName = Annotated[str, Depends(_run_of_path)]
"""A route's parameter for the run."""

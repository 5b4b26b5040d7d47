"""Query parameters that several routes take, and what FastAPI can't check by itself."""

from collections.abc import Collection
from typing import Annotated

from fastapi import Query
from starlette.requests import Request

from tallyboard_server.api import examples
from tallyboard_server.api.problems import InvalidQueryError

RunPatterns = Annotated[
    list[str],
    Query(
        description="A run, or a pattern of runs such as `mnist/*`; may be repeated.",
        openapi_examples={"run": {"value": [examples.RUN]}},
    ),
]
"""A route's parameter for runs."""


def check_known(request: Request, names: Collection[str], *, prefix: str | None = None) -> None:
    """Raise InvalidQueryError for a parameter that is none of `names`: a misspelt filter must not be ignored."""
    for name in request.query_params:
        if name in names or (prefix is not None and name.startswith(prefix)):
            continue
        raise InvalidQueryError(f"there is no parameter {name!r} here; known are {', '.join(names)}", field=name)

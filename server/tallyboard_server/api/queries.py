"""Query parameters that FastAPI can't check by itself."""

from collections.abc import Collection

from starlette.requests import Request

from tallyboard_server.api.problems import InvalidQueryError


def check_known(request: Request, names: Collection[str], *, prefix: str | None = None) -> None:
    """Raise InvalidQueryError for a parameter that is none of `names`: a misspelt filter must not be ignored."""
    for name in request.query_params:
        if name in names or (prefix is not None and name.startswith(prefix)):
            continue
        raise InvalidQueryError(f"there is no parameter {name!r} here; known are {', '.join(names)}", field=name)

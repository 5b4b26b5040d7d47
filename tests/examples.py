"""hypothesis's examples for tests that run on several engines."""

import inspect
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy


def given_on_engines(
    examples: int, *, elsewhere: int, **strategies: SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """hypothesis's `given` for tests that take `stores`: fewer examples on other engines than SQLite.

    What is proven there is that the engine gives the rows back as SQLite does; the code above them has no part that
    depends on the engine, and many examples on one.
    """

    def decorate(body: Callable[..., None]) -> Callable[..., None]:
        many, few = (
            settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])(
                given(**strategies)(body)
            )
            for count in (examples, elsewhere)
        )

        def test(**fixtures: Any) -> None:
            chosen = many if fixtures["stores"].engine == "sqlite" else few
            chosen(**fixtures)

        test.__name__, test.__doc__ = body.__name__, body.__doc__
        test.__signature__ = inspect.signature(many)  # type: ignore[attr-defined]
        return test

    return decorate

"""Whether whoever asks may: by scope, by the run or project that a path names, and not at all if nothing is said."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from tallyboard_server.api.authorise import authorised, check
from tallyboard_server.api.documented import ALL_PROJECTS, NEEDS
from tallyboard_server.api.problems import ForbiddenError
from tallyboard_server.api.service import PRINCIPAL
from tallyboard_server.ingest.errors import RunForbiddenError
from tallyboard_server.principal import SCOPES, Principal, Scope


def scope_of(asking: Principal, **params: str) -> dict[str, Any]:
    return {"type": "http", PRINCIPAL: asking, "path_params": params}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("needs", SCOPES)
def test_a_scope_holds_those_before_it(scope: Scope, needs: Scope) -> None:
    asking = scope_of(Principal("ada", scope))
    if SCOPES.index(needs) <= SCOPES.index(scope):
        check(asking, needs)
    else:
        with pytest.raises(ForbiddenError, match=f"a token of scope {needs}; that of 'ada' has {scope}"):
            check(asking, needs)


@pytest.mark.parametrize(("name", "reached"), [
    ("p/q/run", True), ("p/q/a/b", True), ("p/q", False), ("p/qq/run", False), ("p/run", False), ("P/q/run", False),
    ("", False), ("/p/q/run", False),
])  # fmt: skip
def test_a_projects_token_reaches_what_begins_with_it(name: str, reached: bool) -> None:
    asking = Principal("ada", "admin", "p/q")
    if reached:
        check(scope_of(asking, run=name), "read")
    else:
        with pytest.raises(RunForbiddenError, match="not in project 'p/q'"):
            check(scope_of(asking, run=name), "read")
    check(scope_of(Principal("ada", "admin"), run=name), "admin")


@pytest.mark.parametrize(("project", "reached"), [("p/q", True), ("p/q/r", True), ("p", False), ("p/qq", False)])
def test_so_is_a_project_that_a_path_names(project: str, reached: bool) -> None:
    asking = scope_of(Principal("ada", "admin", "p/q"), project=project)
    if reached:
        check(asking, "admin")
    else:
        with pytest.raises(RunForbiddenError, match="the only one of this token"):
            check(asking, "admin")


def test_what_is_about_the_whole_service_is_not_for_a_projects_admin() -> None:
    check(scope_of(Principal("ada", "read")), "read", all_projects=True)
    with pytest.raises(ForbiddenError, match="about the whole service"):
        check(scope_of(Principal("ada", "admin", "p")), "read", all_projects=True)


def test_who_is_not_known_gets_nowhere_but_to_what_is_open() -> None:
    check({"type": "http"}, None)
    with pytest.raises(KeyError):
        check({"type": "http"}, "read")


@pytest.mark.parametrize("said", [None, {}, {ALL_PROJECTS: False}])
def test_a_route_that_says_nothing_is_for_nobody(said: dict[str, Any] | None) -> None:
    asked = scope_of(Principal("ada", "admin")) | {"route": SimpleNamespace(openapi_extra=said)}
    with pytest.raises(ForbiddenError, match="does not say what it needs"):
        asyncio.run(authorised(Request(asked)))
    with pytest.raises(ForbiddenError, match="does not say what it needs"):
        asyncio.run(authorised(Request(scope_of(Principal("ada", "admin")))))
    asyncio.run(authorised(Request(asked | {"route": SimpleNamespace(openapi_extra={NEEDS: "admin"})})))

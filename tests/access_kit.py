"""Services with tokens of every kind, for tests of who may do what."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tallyboard_server.access import TokenWanted
from tallyboard_server.api.static import STATIC
from tallyboard_server.principal import SCOPES, SERVICE, Scope
from tallyboard_server.settings import Settings
from tests.service import RunningService, serving

OWN, FOREIGN = "own", "foreign"
"""Projects: that of the tokens that have one, and another."""


@dataclass
class Guarded:
    """A running service and its tokens: by scope, for all projects and for OWN."""

    service: RunningService
    whole: Mapping[Scope, str]
    own: Mapping[Scope, str]

    def make(self, scope: Scope, project: str | None = None, **more: Any) -> tuple[str, str]:
        """The id and the text of a new token."""
        token, text = self.service.parts.access.create(TokenWanted(scope, project=project, **more), SERVICE)
        return token.id, text

    def forget_tries(self) -> None:
        """No wrong token was given yet."""
        self.service.parts.access.tries._wrong.clear()
        self.service.parts.access.wrong_tokens._wrong.clear()


def bearer(token: str) -> dict[str, str]:
    """The header that gives a token."""
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def guarded(data_dir: Path, *, static: Path = STATIC, **settings: Any) -> Iterator[Guarded]:
    """A service with tokens, and the headers of none."""
    with serving(Settings(data_dir=data_dir, port=0, **settings), static=static) as service:
        found = Guarded(service, {}, {})
        found.whole = {scope: found.make(scope, name=f"all-{scope}")[1] for scope in reversed(SCOPES)}
        found.own = {scope: found.make(scope, OWN, name=f"own-{scope}")[1] for scope in SCOPES}
        yield found

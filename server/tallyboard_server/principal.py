"""Who asks, and what they may do: the scopes of tokens, and the runs that a token reaches."""

from dataclasses import dataclass
from typing import Final, Literal

Scope = Literal["read", "write", "admin"]
"""read: look at runs. write: also report, create, change, rewind and repair them. admin: also delete, prune, and say
who may do what."""

SCOPES: Final[tuple[Scope, ...]] = ("read", "write", "admin")
"""Each holds those before it."""


@dataclass(slots=True, frozen=True)
class Principal:
    """Whoever a request comes from.

    name: for people to read, as the audit keeps it. project: what the names of the runs that it reaches begin with, up
    to a slash; None: every run, and what belongs to the service as a whole. token: the id of its token, None without
    one. address: where it asks from, "" if nowhere. rate: requests per second that it may make;
    None: as the service's setting says, 0: as many as it likes.
    """

    name: str
    scope: Scope
    project: str | None = None
    token: str | None = None
    address: str = ""
    rate: float | None = None

    @property
    def prefix(self) -> str:
        """What the names of all runs that it reaches begin with."""
        return "" if self.project is None else f"{self.project}/"

    def may(self, need: Scope) -> bool:
        """Whether its scope holds `need`."""
        return SCOPES.index(need) <= SCOPES.index(self.scope)

    def reaches(self, run: str) -> bool:
        """Whether a run of that name, there or not, is one of its own."""
        return run.startswith(self.prefix)

    def within(self, prefix: str) -> str | None:
        """The beginning of the names of its runs that also begin with `prefix`; None: there can be none."""
        own = self.prefix
        if prefix.startswith(own):
            return prefix
        return own if own.startswith(prefix) else None


SERVICE: Final = Principal("service", "admin")
"""The service itself: retention, watchdogs, what it takes in from its own machine."""


@dataclass(slots=True, frozen=True)
class Token:
    """A token as the store keeps it. Times: seconds since the epoch.

    id: public, the first part of the token's text. hash: SHA-256 of the whole text. rate: requests per second that it
    may make; None: as the service's setting says. created_by: a principal's name.
    """

    id: str
    name: str
    scope: Scope
    project: str | None
    hash: bytes
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    rate: float | None = None


@dataclass(slots=True, frozen=True)
class Session:
    """A browser that has logged in. hash: SHA-256 of its cookie; token: the id of the token it gave; until: the end."""

    hash: bytes
    token: str
    until: float


@dataclass(slots=True, frozen=True)
class AuditEntry:
    """One thing that was done. id: counts up, 0 before it is kept. at: seconds since the epoch.

    actor, token, address: as Principal has them. action: `run.create`, `token.revoke`, …; run: the run it was done to,
    None if to none. detail: what more there is to say, as JSON.
    """

    id: int
    at: float
    actor: str
    token: str | None
    address: str
    action: str
    run: str | None
    detail: str = "{}"

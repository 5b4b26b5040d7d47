"""What a store keeps for watchdogs and notices: open incidents, rules, alerts that wait to be sent, and deliveries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from tallyboard_server.model import Incident, KeptAlert

NOTICES_MAX: Final = 10_000
"""Alerts that wait to be sent, at most; of more the oldest are forgotten."""


@dataclass(slots=True, frozen=True)
class Notice:
    """Alerts of one run with one title that wait to be sent: the newest of them, and how many they are.

    first_at: when the first came, alert.at: when the newest did (seconds since the epoch).
    """

    id: int
    run: str
    first_at: float
    times: int
    alert: KeptAlert


@dataclass(slots=True, frozen=True)
class Delivery:
    """Notices on their way together, under one id until they are taken or given up.

    project: whose webhook they go to ("": the one of all projects). notices: JSON, as the sender made it. next_at: when
    it is tried next. Times: seconds since the epoch.
    """

    id: str
    project: str
    notices: str
    created_at: float
    tries: int
    next_at: float


class WatchChanges(Protocol):
    """The part of a transaction."""

    def save_incident(self, incident: Incident) -> None:
        """Insert or replace a run's incident by kind and subject."""
        ...

    def drop_incident(self, run_id: int, kind: str, subject: str) -> None:
        """Forget an incident that is over."""
        ...

    def lock_rules(self) -> Mapping[str, str]:
        """All rules by project, as JSON, as of now; nobody else changes any until the transaction ends.

        Whoever changes rules looks here first.
        """
        ...

    def save_rules(self, project: str, rules: str | None) -> None:
        """Keep a project's rules ("": those of all), as JSON; None: it has none of its own."""
        ...

    def queue_notices(self, run: str, alerts: Sequence[KeptAlert]) -> int:
        """Have alerts of a run wait to be sent; those with the title of one that waits are counted with it.

        Of more than NOTICES_MAX the oldest are forgotten; returns how many were.
        """
        ...

    def take_notices(self, ids: Sequence[int]) -> list[Notice]:
        """Forget notices that go into a delivery, or that nobody wants.

        Returns them as they were, oldest first; those that are gone, or that somebody adds to just now, are passed
        over.
        """
        ...

    def save_delivery(self, delivery: Delivery) -> None:
        """Insert or replace a delivery by its id."""
        ...

    def defer_delivery(self, delivery_id: str, tries: int, next_at: float) -> None:
        """A delivery was not taken, and is tried again; nothing if it is there no more."""
        ...

    def drop_delivery(self, delivery_id: str) -> None:
        """Forget a delivery that was taken, or given up."""
        ...


class WatchView(Protocol):
    """The part of a snapshot."""

    def incidents(self, *, prefix: str = "", run_id: int | None = None, limit: int = 100) -> list[tuple[str, Incident]]:
        """Open incidents, newest first, each with the name of its run: of runs whose names begin with `prefix`, or of
        one run."""
        ...

    def incident_kinds(self, run_id: int) -> list[str]:
        """The kinds of a run's open incidents that are more than worth knowing (of a level above info), sorted."""
        ...

    def rules(self) -> Mapping[str, str]:
        """All rules by project, as JSON."""
        ...

    def notices(self, *, limit: int) -> list[Notice]:
        """What waits to be sent, oldest first."""
        ...

    def deliveries(self) -> list[Delivery]:
        """All deliveries, oldest first; bounded by whoever makes them."""
        ...

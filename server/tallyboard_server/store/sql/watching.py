"""Rows of incidents, of watchdogs' rules, and of what is on its way to people."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from tallyboard.wire import Alert, Level
from tallyboard_server.model import Incident, KeptAlert
from tallyboard_server.store import watching
from tallyboard_server.store.sql.access import LAST_CHARACTER
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.tables import TABLES
from tallyboard_server.store.watching import Delivery, Notice

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Alert).decode
_NOTICE: Final = "id, run, first_at, times, at, producer, alert"


class WatchRows:
    """The part of a SqlTransaction."""

    _connection: Connection
    _unlocked = ""
    """At the end of a SELECT: leave out rows that others are changing, where there are others."""

    def save_incident(self, incident: Incident) -> None:
        """See WatchChanges.save_incident."""
        with self._connection.mapped_errors():
            self._connection.put(
                TABLES["incidents"],
                [
                    (
                        incident.run_id,
                        incident.kind,
                        incident.subject,
                        incident.opened_at,
                        incident.level,
                        incident.title,
                        incident.text,
                        int(incident.told),
                        incident.times,
                    )
                ],
            )

    def drop_incident(self, run_id: int, kind: str, subject: str) -> None:
        """See WatchChanges.drop_incident."""
        with self._connection.mapped_errors():
            self._connection.execute(
                "DELETE FROM incidents WHERE run_id = ? AND kind = ? AND subject = ?", (run_id, kind, subject)
            )

    def lock_rules(self) -> Mapping[str, str]:
        """See WatchChanges.lock_rules."""
        with self._connection.mapped_errors():
            return _rules(self._connection)

    def save_rules(self, project: str, rules: str | None) -> None:
        """See WatchChanges.save_rules."""
        with self._connection.mapped_errors():
            if rules is None:
                self._connection.execute("DELETE FROM watch_rules WHERE project = ?", (project,))
            else:
                self._connection.put(TABLES["watch_rules"], [(project, rules)])

    def queue_notices(self, run: str, alerts: Sequence[KeptAlert]) -> int:
        """See WatchChanges.queue_notices."""
        with self._connection.mapped_errors():
            self._connection.executemany(
                "INSERT INTO notices (run, title, first_at, at, times, producer, alert) VALUES (?, ?, ?, ?, 1, ?, ?) "
                "ON CONFLICT (run, title) DO UPDATE SET at = excluded.at, times = notices.times + 1, "
                "producer = excluded.producer, alert = excluded.alert",
                (
                    (run, kept.alert.title, kept.at, kept.at, kept.producer, _encode(kept.alert).decode())
                    for kept in alerts
                ),
            )
            waiting = self._connection.execute("SELECT count(*) FROM notices").get
            surplus = waiting - watching.NOTICES_MAX if isinstance(waiting, int) else 0
            if surplus > 0:
                self._connection.execute(
                    f"DELETE FROM notices WHERE id IN (SELECT id FROM notices ORDER BY id LIMIT ?{self._unlocked})",  # noqa: S608 - constants
                    (surplus,),
                )
            return max(0, surplus)

    def take_notices(self, ids: Sequence[int]) -> list[Notice]:
        """See WatchChanges.take_notices."""
        with self._connection.mapped_errors():
            found = (
                self._connection.execute(
                    f"DELETE FROM notices WHERE id IN (SELECT id FROM notices WHERE id = ?{self._unlocked}) "  # noqa: S608 - constants
                    f"RETURNING {_NOTICE}",
                    (one,),
                ).fetchone()
                for one in sorted(ids)
            )
            return [_notice(*row) for row in found if row is not None]

    def save_delivery(self, delivery: Delivery) -> None:
        """See WatchChanges.save_delivery."""
        with self._connection.mapped_errors():
            self._connection.put(
                TABLES["deliveries"],
                [
                    (
                        delivery.id,
                        delivery.project,
                        delivery.notices,
                        delivery.created_at,
                        delivery.tries,
                        delivery.next_at,
                    )
                ],
            )

    def defer_delivery(self, delivery_id: str, tries: int, next_at: float) -> None:
        """See WatchChanges.defer_delivery."""
        with self._connection.mapped_errors():
            self._connection.execute(
                "UPDATE deliveries SET tries = ?, next_at = ? WHERE id = ?", (tries, next_at, delivery_id)
            )

    def drop_delivery(self, delivery_id: str) -> None:
        """See WatchChanges.drop_delivery."""
        with self._connection.mapped_errors():
            self._connection.execute("DELETE FROM deliveries WHERE id = ?", (delivery_id,))


class WatchReading:
    """The part of a SqlSnapshot."""

    _connection: Connection

    def incidents(self, *, prefix: str = "", run_id: int | None = None, limit: int = 100) -> list[tuple[str, Incident]]:
        """See WatchView.incidents."""
        condition = "r.name >= ? AND r.name < ?"
        values: tuple[str | int, ...] = (prefix, prefix + LAST_CHARACTER)
        if run_id is not None:
            condition, values = "i.run_id = ?", (run_id,)
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                "SELECT r.name, i.run_id, i.kind, i.subject, i.opened_at, i.level, i.title, i.text, i.told, i.times "  # noqa: S608 - conditions from constants
                f"FROM incidents i JOIN runs r ON r.id = i.run_id WHERE {condition} "
                "ORDER BY i.opened_at DESC, i.run_id, i.kind, i.subject LIMIT ?",
                (*values, limit),
            )
            return [_named(*row) for row in rows]

    def incident_kinds(self, run_id: int) -> list[str]:
        """See WatchView.incident_kinds."""
        with self._connection.mapped_errors():
            found: list[Any] = self._connection.execute(
                "SELECT DISTINCT kind FROM incidents WHERE run_id = ? AND level != 'info' ORDER BY kind", (run_id,)
            ).fetchall()
        return [kind for (kind,) in found]

    def rules(self) -> Mapping[str, str]:
        """See WatchView.rules."""
        with self._connection.mapped_errors():
            return _rules(self._connection)

    def notices(self, *, limit: int) -> list[Notice]:
        """See WatchView.notices."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(f"SELECT {_NOTICE} FROM notices ORDER BY id LIMIT ?", (limit,))  # noqa: S608 - a constant
            return [_notice(*row) for row in rows]

    def deliveries(self) -> list[Delivery]:
        """See WatchView.deliveries."""
        with self._connection.mapped_errors():
            rows = self._connection.execute(
                "SELECT id, project, notices, created_at, tries, next_at FROM deliveries ORDER BY created_at, id"
            )
            return [Delivery(*row) for row in rows]


def _rules(connection: Connection) -> Mapping[str, str]:
    found: list[Any] = connection.execute("SELECT project, rules FROM watch_rules").fetchall()
    return dict(found)


def _named(
    run: str, run_id: int, kind: str, subject: str, opened_at: float, level: Level, title: str, text: str, told: int,
    times: int,
) -> tuple[str, Incident]:  # fmt: skip
    """A row with its run's name."""
    return run, Incident(run_id, kind, subject, opened_at, level, title, text, bool(told), times)


def _notice(notice_id: int, run: str, first_at: float, times: int, at: float, producer: str, alert: str) -> Notice:
    return Notice(notice_id, run, first_at, times, KeptAlert(at, producer, _decode(alert)))

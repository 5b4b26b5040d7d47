"""Rows of tokens, of browsers that have logged in, and of the audit."""

from collections.abc import Sequence
from typing import Any, Final

from tallyboard_server.principal import AuditEntry, Session, Token
from tallyboard_server.store.protocol import AUDIT_ENTRIES_MAX
from tallyboard_server.store.sql.connection import Connection
from tallyboard_server.store.sql.tables import TABLES

LAST_CHARACTER: Final = "\U0010ffff"
"""Sorts behind whatever a name goes on with."""
_TRIM_EVERY: Final = 1_000
"""The audit is cut to its bound every so many entries."""


def load_identity(connection: Connection) -> str:
    """What tells this store from any other."""
    return str(connection.execute("SELECT id FROM identity").get)


def save_token(connection: Connection, token: Token) -> None:
    """Insert or replace a token by its id."""
    connection.put(
        TABLES["tokens"],
        [
            (
                token.id,
                token.name,
                token.scope,
                token.project,
                token.hash,
                token.created_at,
                token.created_by,
                token.expires_at,
                token.revoked_at,
                token.last_used_at,
                token.rate,
            )
        ],
    )


def drop_token(connection: Connection, token_id: str) -> None:
    """Forget a token, and the browsers that gave it."""
    connection.execute("DELETE FROM tokens WHERE id = ?", (token_id,))
    drop_sessions_of(connection, token_id)


def load_tokens(connection: Connection) -> list[Token]:
    """All tokens, oldest first."""
    rows = connection.execute(
        "SELECT id, name, scope, project, hash, created_at, created_by, expires_at, revoked_at, last_used_at, rate "
        "FROM tokens ORDER BY created_at, id"
    )
    return [Token(*row) for row in rows]


def save_session(connection: Connection, session: Session) -> None:
    """Keep a session."""
    connection.put(TABLES["sessions"], [(session.hash, session.token, session.until)])


def drop_sessions(connection: Connection, hashes: Sequence[bytes]) -> None:
    """Forget sessions."""
    connection.executemany("DELETE FROM sessions WHERE hash = ?", ((one,) for one in hashes))


def drop_sessions_of(connection: Connection, token_id: str) -> None:
    """Forget the sessions that were begun with a token."""
    connection.execute("DELETE FROM sessions WHERE token = ?", (token_id,))


def load_sessions(connection: Connection) -> list[Session]:
    """All sessions, those that end first before the others."""
    return [Session(*row) for row in connection.execute("SELECT hash, token, until FROM sessions ORDER BY until, hash")]


def append_audit(connection: Connection, entry: AuditEntry) -> None:
    """Append an entry under the next id, and now and then forget the oldest beyond the bound."""
    newest: int = connection.execute(
        "INSERT INTO audit (at, actor, token, address, action, run, detail) VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (entry.at, entry.actor, entry.token, entry.address, entry.action, entry.run, entry.detail),
    ).get
    if newest % _TRIM_EVERY == 0:
        connection.execute("DELETE FROM audit WHERE id <= ?", (newest - AUDIT_ENTRIES_MAX,))


def load_audit(
    connection: Connection, *, prefix: str, run: str | None, action: str | None, before: int | None, limit: int
) -> list[AuditEntry]:
    """Entries, newest first; see Snapshot.audit."""
    conditions: list[str] = []
    values: list[Any] = []
    if before is not None:
        conditions.append("id < ?")
        values.append(before)
    if run is not None:
        conditions.append("run = ?")
        values.append(run)
    if prefix:
        conditions.append("run >= ? AND run < ?")
        values += [prefix, prefix + LAST_CHARACTER]
    if action is not None:
        conditions.append("action = ?")
        values.append(action)
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    rows = connection.execute(
        "SELECT id, at, actor, token, address, action, run, detail "  # noqa: S608 - conditions from constants
        f"FROM audit {where}ORDER BY id DESC LIMIT ?",
        (*values, limit),
    )
    return [AuditEntry(*row) for row in rows]

"""The embedded store, on SQLite in WAL mode."""

from tallyboard_server.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]

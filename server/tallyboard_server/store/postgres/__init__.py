"""The store on PostgreSQL, for many services at once."""

from tallyboard_server.store.postgres.store import PostgresStore

__all__ = ["PostgresStore"]

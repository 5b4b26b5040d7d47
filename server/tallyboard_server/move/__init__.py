"""Moves everything from a store of one engine into an empty one of the other, and compares it there."""

from tallyboard_server.move.ends import End, Ends, PostgresEnd, SqliteEnd
from tallyboard_server.move.moving import Move, MoveUnequalError, Outcome

__all__ = ["End", "Ends", "Move", "MoveUnequalError", "Outcome", "PostgresEnd", "SqliteEnd"]

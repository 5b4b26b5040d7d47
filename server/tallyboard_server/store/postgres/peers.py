"""What services on one database know of each other: who is alive, who holds which shares, and what each tells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tallyboard_server.shares import SHARES
from tallyboard_server.store.postgres.connection import PostgresConnection

FAR_S: Final = 60.0
"""Nobody asks to be alive for so long."""
_MIXED: Final = f"mod(number * 37, {SHARES})"


@dataclass(slots=True, frozen=True)
class Told:
    """What another replica has told, up to a number of its own."""

    replica: str
    number: int
    news: bytes


class Peers:
    """Rows of replicas, in a transaction that somebody else begins and ends. Times are the database's own.

    A crash of the database takes the replicas with it: all begin anew, and none holds anything until then.
    """

    def __init__(self, connection: PostgresConnection) -> None:
        self._connection = connection

    def renew(self, replica: str, valid_s: float) -> bool:
        """Stay alive for so long from now on; False if this replica was declared dead, or never was there."""
        self._connection.execute(
            "UPDATE replicas SET valid_until = clock_timestamp() + make_interval(secs => ?) WHERE id = ?",
            (valid_s, replica),
        )
        return self._connection.changes() > 0

    def register(self, replica: str, valid_s: float) -> None:
        """Begin to be alive."""
        self._connection.execute(
            "INSERT INTO replicas VALUES (?, clock_timestamp(), clock_timestamp() + make_interval(secs => ?), 0, '')",
            (replica, valid_s),
        )

    def bury(self) -> None:
        """Remove replicas that are alive no more, or too long: the database's clock was put back.

        Not while a transaction of theirs is at work (see lock_alive).
        """
        self._connection.execute(
            "DELETE FROM replicas WHERE id IN (SELECT id FROM replicas WHERE valid_until < clock_timestamp() "
            "OR valid_until > clock_timestamp() + make_interval(secs => ?) ORDER BY id FOR UPDATE SKIP LOCKED)",
            (FAR_S,),
        )

    def leave(self, replica: str) -> None:
        """Be alive no more, and hold nothing."""
        self._connection.execute("UPDATE shares SET holder = NULL WHERE holder = ?", (replica,))
        self._connection.execute("DELETE FROM replicas WHERE id = ?", (replica,))

    def count(self) -> int:
        """How many replicas there are."""
        return int(self._connection.execute("SELECT count(*) FROM replicas").get)

    def shares_of(self, replica: str) -> list[int]:
        """The shares that a replica holds, neighbours far from each other: those that were made together are busy
        together."""
        statement = f"SELECT number FROM shares WHERE holder = ? ORDER BY {_MIXED}"  # noqa: S608 - a constant
        rows = self._connection.execute(statement, (replica,))
        return [int(number) for (number,) in rows]

    def claim(self, replica: str, most: int) -> None:
        """Take shares that nobody alive holds, so many at most."""
        self._connection.execute(
            "UPDATE shares SET holder = ? WHERE number IN (SELECT number FROM shares "  # noqa: S608 - a constant
            "WHERE holder IS NULL OR holder NOT IN (SELECT id FROM replicas) "
            f"ORDER BY {_MIXED} LIMIT ? FOR UPDATE SKIP LOCKED)",
            (replica, most),
        )

    def release(self, replica: str, shares: Sequence[int]) -> None:
        """Give shares back."""
        self._connection.execute(
            "UPDATE shares SET holder = NULL WHERE holder = ? AND number = ANY(?)", (replica, list(shares))
        )

    def tell(self, replica: str, number: int, news: bytes) -> None:
        """Let all others read this, as what is new up to a number."""
        self._connection.execute("UPDATE replicas SET news_number = ?, news = ? WHERE id = ?", (number, news, replica))

    def hear(self, replica: str, known: Mapping[str, int]) -> list[Told]:
        """What others have told beyond the numbers that are known of them; and, without news, who tells nothing new."""
        rows = self._connection.execute(
            "SELECT r.id, r.news_number, CASE WHEN r.news_number > coalesce(k.number, -1) THEN r.news ELSE '' END "
            "FROM replicas r LEFT JOIN unnest(CAST(? AS text[]), CAST(? AS bigint[])) AS k (id, number) ON k.id = r.id "
            "WHERE r.id <> ?",
            (list(known), list(known.values()), replica),
        )
        return [Told(str(peer), int(number), bytes(news)) for peer, number, news in rows]

    def revisions(self) -> dict[str, int]:
        """How often what every replica keeps in memory was changed, by name."""
        return {
            str(name): int(number) for name, number in self._connection.execute("SELECT name, number FROM revisions")
        }

"""The embedded store's transaction: nobody else writes, so what the cache holds of a run is what is committed."""

from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.store.sql.transaction import SqlTransaction


class SqliteTransaction(SqlTransaction):
    """The store's Transaction on SQLite."""

    _writes_alone = True

    def next_run_id(self) -> int:
        """See Transaction.next_run_id."""
        with self._connection.mapped_errors():
            run_id = self._connection.execute(
                "UPDATE sequence SET next_run_id = next_run_id + 1 RETURNING next_run_id - 1"
            ).get
        if not isinstance(run_id, int):
            raise StoreError("the store holds no next run id; it is damaged")
        return run_id

    def _read_committed(self, run_id: int) -> tuple[int, RunState] | None:
        return self._cache.newest(run_id) or super()._read_committed(run_id)

    def _read_id(self, name: str) -> int | None:
        found = self._cache.id_of(name)
        return super()._read_id(name) if found is None else found

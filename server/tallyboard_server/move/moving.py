"""A move from its beginning to its end: what it refuses, where it goes on after a kill, what it compares."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from tallyboard_server.move.ends import Ends
from tallyboard_server.move.rows import Changed, compare_rows, copy_rows, without_nul
from tallyboard_server.store.migrations import UNFINISHED_MOVE
from tallyboard_server.store.paging import run_names
from tallyboard_server.store.protocol import StoreError
from tallyboard_server.store.sql.tables import TABLES, Row, Table
from tallyboard_server.verify import RunCheck

DIFFERENCES_MAX: Final = 100
"""So many are listed; all are counted."""
_REPLACED: Final = ("identity", "listening")
"""What a store that never held a run may hold all the same: the source's takes its place."""
_LIVE, _RETIRED = "live", "retired"


class MoveUnequalError(StoreError):
    """What stands in the target is not what is in the source; the outcome lists it."""


@dataclass(slots=True)
class Outcome:
    """What was moved and compared. rows: of all tables, as compared; scalars: that the target's runs hold.

    replaced: texts with U+0000 that have U+FFFD now. unsound: what `tallyboard verify` finds amiss in the target's
    runs although all rows are the source's: so it was there. differences: the first ones of difference_count.
    """

    went_on: bool = False
    runs: int = 0
    rows: int = 0
    copied_rows: int = 0
    copied_bytes: int = 0
    attempts: int = 0
    scalars: int = 0
    replaced: int = 0
    unsound: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    difference_count: int = 0


class Move:
    """One move, or what is left of it. The source is only read; until all is compared, no service opens the target.

    Tables are copied one after the other in the order of their keys, a few MiB in each transaction, so the last key in
    the target tells where to go on.
    """

    def __init__(self, ends: Ends, *, keep_event_files: bool = False) -> None:
        """keep_event_files: the logdir stays the same, so the service goes on in the files that are there. Else they
        are retired, and written anew wherever the logdir is."""
        self._ends = ends
        self._keep = keep_event_files
        self.outcome = Outcome()

    def steps(self) -> Iterator[str]:
        """Move; yields what is being done, every second or more often.

        Raises StoreError if it can't be, or can't go on; MoveUnequalError if the comparison found differences.
        """
        with self._ends.reading():
            self._ends.source.check_unused()
            self._ends.target.check_unused()
            self._begin()
            yield from self._copy()
            yield "putting in order …"
            with self._ends.writing():
                self._ends.target.set_sequences(self._ends.source.sequences())
            self._ends.target.settle()
            yield from self._compare()
            yield from self._verify()
            self._ends.source.roll_back()  # what happened since it was begun is to be seen
            self._ends.source.check_unused()
            with self._ends.writing():
                self._ends.target.connection.execute(f"DROP TABLE {UNFINISHED_MOVE}")

    def _begin(self) -> None:
        """Make the target this move's own, or find that it is."""
        source, target = self._ends.source, self._ends.target
        if source.has_table(UNFINISHED_MOVE):
            raise StoreError(f"{source.name} holds a move that was not finished; finish that first")
        print_ = self._fingerprint()
        if target.has_table(UNFINISHED_MOVE):
            found = target.connection.execute(f"SELECT source, kept FROM {UNFINISHED_MOVE}").fetchone()  # noqa: S608
            self._check_own(found, print_)
            self.outcome.went_on = True
            return
        self._check_empty()
        with self._ends.writing():
            target.connection.execute(f"CREATE TABLE {UNFINISHED_MOVE} (source text NOT NULL, kept bigint NOT NULL)")
            target.connection.execute(f"INSERT INTO {UNFINISHED_MOVE} VALUES (?, ?)", (print_, int(self._keep)))  # noqa: S608
            for name in _REPLACED:
                target.connection.execute(f"DELETE FROM {name}")  # noqa: S608

    def _fingerprint(self) -> str:
        """What tells the source, and its every state in which a service left it, from any other."""
        ask = self._ends.source.connection.execute
        return json.dumps(
            {
                "store": ask("SELECT id FROM identity").get,
                "versions": ask("SELECT count(*), CAST(sum(version) AS BIGINT) FROM heads").get,
                "listened": ask("SELECT until FROM listening").get,
                "audited": ask("SELECT max(id) FROM audit").get,
                "next": self._ends.source.sequences(),
            }
        )

    def _check_own(self, found: Any, print_: str) -> None:
        target = self._ends.target.name
        again = "begin anew with an empty target"
        if found is None or json.loads(found[0])["store"] != json.loads(print_)["store"]:
            raise StoreError(f"{target} holds an unfinished move of another store; finish that, or {again}")
        if found[0] != print_:
            raise StoreError(f"the source was in use since this move to {target} began; {again}")
        if bool(found[1]) != self._keep:
            began = "with" if found[1] else "without"
            raise StoreError(f"this move to {target} began {began} --keep-event-files; go on so, or {again}")

    def _check_empty(self) -> None:
        source, target = self._ends.source, self._ends.target
        for table in TABLES.values():
            if table.name in _REPLACED:
                continue
            if target.connection.execute(f"SELECT 1 FROM {table.name} LIMIT 1").get is None:  # noqa: S608
                continue
            same = "SELECT id FROM identity"
            if target.connection.execute(same).get == source.connection.execute(same).get:
                raise StoreError(f"{target.name} holds this very store already, from a move that was finished")
            raise StoreError(f"{target.name} is not empty (it holds {table.name}); give an empty target")

    def _copy(self) -> Iterator[str]:
        for table in TABLES.values():
            total = 0
            yield f"{table.name} …"
            for rows, nbytes in copy_rows(self._ends, table, self._changed(table, self._count_replaced)):
                total += rows
                self.outcome.copied_rows += rows
                self.outcome.copied_bytes += nbytes
                yield f"{table.name}: {total:,} rows, {self.outcome.copied_bytes / 2**20:,.0f} MiB in all"

    def _count_replaced(self) -> None:
        self.outcome.replaced += 1

    def _changed(self, table: Table, told: Callable[[], object] = lambda: None) -> Changed:
        if table.name == "generations" and not self._keep:
            return _retired
        if self._ends.target.can_hold_nul:
            return lambda row: row
        return without_nul(table, told)

    def _compare(self) -> Iterator[str]:
        for table in TABLES.values():
            self._ends.target.begin()
            try:
                for rows, differences in compare_rows(self._ends, table, self._changed(table)):
                    self.outcome.rows += rows
                    self._differ(differences)
                    yield f"comparing {table.name}: {self.outcome.rows:,} rows in all"
            finally:
                self._ends.target.roll_back()
        here, there = self._ends.source.sequences(), self._ends.target.sequences()
        self._differ([f"ids of {name} go on from {there[name]}, not {here[name]}" for name in here if here != there])
        if self.outcome.difference_count:
            raise MoveUnequalError(f"{self._ends.target.name} is not what {self._ends.source.name} is")

    def _differ(self, differences: list[str]) -> None:
        self.outcome.difference_count += len(differences)
        self.outcome.differences += differences[: DIFFERENCES_MAX - len(self.outcome.differences)]

    def _verify(self) -> Iterator[str]:
        """What each attempt holds, read from the target, against what it acknowledged."""
        for name in run_names(self._ends.target):
            check = RunCheck(self._ends.target, None, name, catch_up_s=0.0)
            for scalars in check.steps():
                self.outcome.scalars += scalars
                yield f"{name}: {self.outcome.scalars:,} scalars in all"
            self.outcome.runs += 1
            self.outcome.attempts += len(check.report.attempts)
            self.outcome.unsound += [f"{name}: {difference.detail}" for difference in check.report.differences]


_STATE: Final = list(TABLES["generations"].columns).index("state")


def _retired(row: Row) -> Row:
    """As `tallyboard restore` does: whether the file is there, and what it holds, nobody has to know."""
    return (*row[:_STATE], _RETIRED, *row[_STATE + 1 :]) if row[_STATE] == _LIVE else row

"""One stretch of a batch's reports under judgement, and what the judgement says of each of its rows."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tallyboard.wire import Columns, Int64, Reason

Bool = npt.NDArray[np.bool_]


class Refused(NamedTuple):
    """Why all rows of a segment are refused: found before any row is looked at."""

    reason: Reason
    detail: str
    tags: tuple[str, ...]
    last_step: int | None


class Conflict(NamedTuple):
    """Why one row was refused as tag_repeated.

    tags: those with another value at this step. bits, got_bits: of the first of them, the value stored and the
    one reported.
    """

    tags: tuple[str, ...]
    bits: int
    got_bits: int


@dataclass(slots=True)
class Segment:
    """Columns of a batch, n rows × k tags, and the verdict on them.

    whole: all rows are refused for this reason. refused bool[n]: rows refused one by one; None: none is. Of
    those, `conflicts` holds the tag_repeated ones by row, the others are step_decreased. unmoved int64[n]: how
    many reports in a row had brought nothing new with each (see Attempt; set if one conflicts). reached int64[n]:
    the largest step up to each row within its request block (set if a step decreased). keep bool[n, k]: the
    scalars to store, False in refused rows and where the same scalar is stored already; None: every scalar
    of every row that is not refused. start, last_step: of the attempt, before the batch.
    """

    columns: Columns
    whole: Refused | None = None
    start: int = 0
    last_step: int | None = None
    refused: Bool | None = None
    reached: Int64 | None = None
    conflicts: dict[int, Conflict] = field(default_factory=dict)
    unmoved: Int64 | None = None
    keep: npt.NDArray[np.bool_] | None = None
    attempt: int = 0
    """Number of the attempt that the reports belong to; 0 if it is new."""
    stored: int = 0
    """Scalars stored."""

    @property
    def refused_count(self) -> int:
        """Reports refused."""
        if self.whole is not None:
            return len(self.columns)
        return 0 if self.refused is None else int(np.count_nonzero(self.refused))

    @property
    def accepted(self) -> int:
        """Reports accepted."""
        return len(self.columns) - self.refused_count

    @property
    def repeated(self) -> int:
        """Scalars of accepted reports that were stored already."""
        return self.accepted * len(self.columns.tags) - self.stored

    def refuse(self, rows: Int64 | int) -> None:
        """Mark rows as refused."""
        if self.refused is None:
            self.refused = np.zeros(len(self.columns), np.bool_)
        self.refused[rows] = True

    def refused_rows(self) -> Int64:
        """Indices of the rows refused, ascending."""
        if self.whole is not None:
            return np.arange(len(self.columns))
        return np.empty(0, np.int64) if self.refused is None else np.flatnonzero(self.refused)

    def accepted_rows(self) -> Int64:
        """Indices of the rows not refused one by one, ascending."""
        if self.refused is None:
            return np.arange(len(self.columns))
        return np.flatnonzero(~self.refused)

"""Reports as numpy columns, which is how they travel from socket to disk without an object per scalar."""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Int64: TypeAlias = npt.NDArray[np.int64]
Float64: TypeAlias = npt.NDArray[np.float64]


class Blob(NamedTuple):
    """A point that is no scalar: its bytes, and their BLAKE2b-256 hash. `summaries.blob_of` makes one."""

    data: bytes
    hash: bytes


@dataclass(slots=True, frozen=True)
class Columns:
    """Reports of one counter with the same tags.

    `steps` int64[n], `wall_times` float64[n] seconds since the epoch, `values` float64[n, k] for the k
    `tags`, `at` int64[n] per other counter. `block` and `row` say where the first of them stood in the
    request: rows follow each other there, from `row` on, unless `rows` int64[n] tells where each of them stood.

    Of tags that are no scalars there is one, and `kind` (TensorBoard's plugin name) and `metadata` (a serialised
    SummaryMetadata, may be empty) say what it is. `blobs` are its n points, and the values their keys (see
    `summaries`).
    """

    counter: str
    tags: tuple[str, ...]
    steps: Int64
    wall_times: Float64
    values: Float64
    at: dict[str, Int64] = field(default_factory=dict)
    block: int = 0
    row: int = 0
    rows: Int64 | None = None
    kind: str = "scalars"
    metadata: bytes = b""
    blobs: tuple[Blob, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def row_of(self, index: int) -> int:
        """Where a report stood in its block of the request."""
        return self.row + index if self.rows is None else int(self.rows[index])

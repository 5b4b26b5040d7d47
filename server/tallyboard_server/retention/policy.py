"""What is to go, and what went."""

from dataclasses import dataclass
from typing import Final

import msgspec

THIN_MIN: Final = 100
"""Fewer points a tag than this would be no curve any more."""
BYTES_PER_SCALAR: Final = 9
"""About what a scalar takes on disk once it is merged (a ten-tag report of real numbers; `make bench` measures it)."""


@dataclass(slots=True, frozen=True)
class Policy:
    """What may go of a run.

    changed_before: nothing, if anything was heard of the run after this time (seconds since the epoch). whole: the
    run itself, and then the rest does not matter. superseded: the points that rewinds hid. thin: of each tag with more
    visible points than this, about so many stay.
    """

    changed_before: float | None = None
    superseded: bool = False
    thin: int | None = None
    whole: bool = False


class Outcome(msgspec.Struct, kw_only=True):
    """What went of a run, or would go.

    superseded, thinned: scalars. deleted: the run itself, with `scalars` in it. unmerged: whether there are also points
    that event files may still need, or that wait for being merged: those stay for now. skipped: why nothing was done.
    blobs, blob_bytes: images, texts, histograms, … that no point refers to any more; known only once they went.
    """

    run: str
    superseded: int = 0
    thinned: int = 0
    unmerged: bool = False
    deleted: bool = False
    scalars: int = 0
    skipped: str | None = None
    blobs: int = 0
    blob_bytes: int = 0

    @property
    def total(self) -> int:
        """Scalars that went."""
        return self.scalars if self.deleted else self.superseded + self.thinned

    @property
    def nbytes(self) -> int:
        """About how many bytes on disk they take."""
        return self.total * BYTES_PER_SCALAR + self.blob_bytes

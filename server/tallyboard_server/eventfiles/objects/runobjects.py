"""What the exporter knows of one run's objects, and what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tallyboard_server.eventfiles.objects.keys import SEGMENTS_MAX, segment_name
from tallyboard_server.eventfiles.runfiles import RunFiles
from tallyboard_server.model import RunState
from tallyboard_server.store.protocol import Generation, Segment

MANY: Final = 64
"""Segments from which on a generation that has doubled is put together again."""
TOO_MANY: Final = 1024
"""From here on one that has grown by an eighth: a reader that begins asks for every object, one after the other."""
TOO_MANY_SHARE: Final = 8


@dataclass(eq=False)
class RunObjects(RunFiles):
    """The objects of a run below `key`.

    segments: the number of the live generation's newest one (0: the opening); segment_bytes: of all of them but the
    opening. pending: recorded, not known to be written. checked: whether the opening was seen since the start.
    whole: it is to be put together once more, because nothing is to follow. looked_at: when the objects were listed.
    """

    key: str
    url: str
    segments: int = 0
    segment_bytes: int = 0
    opening_bytes: int = 0
    pending: Segment | None = None
    checked: bool = False
    whole: bool = False
    looked_at: float = field(default=-float("inf"))

    def shown(self, file: str) -> str:
        """See RunFiles.shown."""
        return f"{self.url}/{self.key}/{file}"

    def object(self, generation: Generation, number: int) -> str:
        """The key of a segment."""
        return f"{self.key}/{segment_name(generation.file_name, number)}"

    def wants_generation(self, state: RunState) -> bool:
        """See RunFiles.wants_generation. Readers never return to an older object: where a newer generation was begun,
        and may be there in part, the live one is not gone on with."""
        if self.live is not None and (self.last_number > self.live.number or self.whole or self.is_outgrown):
            return True
        return super().wants_generation(state)

    @property
    def is_outgrown(self) -> bool:
        """Whether the segments have become many, and so large that writing all anew is worth it: what is written in
        all stays a small multiple of what was logged."""
        if self.segments >= TOO_MANY and self.segment_bytes * TOO_MANY_SHARE >= self.opening_bytes:
            return True
        return self.segments >= SEGMENTS_MAX // 2 or (
            self.segments >= MANY and self.segment_bytes >= self.opening_bytes
        )

    def take_segments(self, recorded: Sequence[Segment]) -> None:
        """Know what is recorded of the live generation's segments."""
        published = [segment for segment in recorded if segment.published]
        if not published or published[0].number:
            self.damage = "none of its objects is recorded (it was a file, or written elsewhere)"
            return
        self.opening_bytes = published[0].nbytes
        self.segments = published[-1].number
        self.segment_bytes = sum(segment.nbytes for segment in published[1:])
        self.pending = next((segment for segment in recorded if not segment.published), None)

    def went_live(self, live: Generation) -> None:
        """A new generation stands, of which there is the opening only."""
        self.opening_bytes, self.segments, self.segment_bytes = live.length, 0, 0
        self.pending, self.checked, self.whole = None, True, False

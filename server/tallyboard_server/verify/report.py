"""What a verification found, as msgspec types: per attempt how many scalars there are where, and what differs."""

from typing import Literal

import msgspec

Kind = Literal["store", "event_file", "receipt"]


class AttemptReport(msgspec.Struct, kw_only=True):
    """Scalars of one attempt at each station.

    sent: acknowledged in receipts. pruned: removed since by retention, so that sent - pruned = stored, by number and by
    checksum. stored: read from the store. visible: those of the stored that no later attempt
    hides and that the event file should hold by now; in_file: those it does hold. The checksums (hex) are of what
    was sent and of what is stored or pruned; sent_checksum is null for attempts older than checksums.
    """

    counter: str
    attempt: int
    writer: str
    sent: int
    pruned: int
    stored: int
    visible: int
    in_file: int
    sent_checksum: str | None
    stored_checksum: str


class Difference(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One thing that is not as it was acknowledged: where, and in words what to do. Steps: both ends included."""

    kind: Kind
    detail: str
    counter: str | None = None
    attempt: int | None = None
    tag: str | None = None
    first_step: int | None = None
    last_step: int | None = None


class RunReport(msgspec.Struct, kw_only=True):
    """Whether sent = stored = in the event file, for one run.

    pos: the journal position up to which the store was read. event_file: the file that was read, null if there is
    none; exported_pos: the position that it reaches. differences: at most DIFFERENCES_MAX of difference_count.
    warnings: what is no difference, but will confuse TensorBoard.
    """

    run: str
    ok: bool
    pos: int
    event_file: str | None
    exported_pos: int
    attempts: list[AttemptReport]
    differences: list[Difference]
    difference_count: int
    warnings: list[str]


DIFFERENCES_MAX = 100

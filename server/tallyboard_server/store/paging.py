"""Reading in pages, each short enough for one snapshot, together all of it once: attempts by step, names of runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tallyboard_server.model import Block, Counter
from tallyboard_server.store.protocol import Readable, Snapshot

NAMES_PAGE: Final = 1_000


@dataclass(slots=True, frozen=True)
class Stretch:
    """Rows of an attempt with first ≤ step ≤ last."""

    run_id: int
    counter_id: int
    attempt: int
    first: int
    last: int


def visible_stretches(run_id: int, counter: Counter) -> Iterator[Stretch]:
    """What is visible of a counter's attempts."""
    for attempt in counter.attempts:
        if attempt.last_visible is not None:
            yield Stretch(run_id, counter.id, attempt.number, attempt.start, attempt.last_visible)


def read_page(
    view: Snapshot,
    stretch: Stretch,
    *,
    bytes_max: int,
    is_over: Callable[[], bool],
    up_to_pos: int | None = None,
    tag_id: int | None = None,
) -> tuple[list[Block], int]:
    """Rows from the stretch's first step up to a cut, and the cut: the step at which the next page begins.

    Ends after about bytes_max or when is_over(), but never without having moved on; a cut beyond stretch.last means
    that all was read. Blocks after up_to_pos are left out; with tag_id, blocks have that tag only. Blocks come by
    ascending first step, so below the first step of a block not yet seen everything is known.
    """
    found: list[Block] = []
    size = 0
    cut = stretch.last + 1
    place = stretch.run_id, stretch.counter_id, stretch.attempt
    for block in view.blocks(*place, tag_id=tag_id, first_step=stretch.first, last_step=stretch.last):
        begin = int(block.steps[0])
        if begin > stretch.first and (size >= bytes_max or is_over()):
            cut = begin
            break
        if up_to_pos is None or block.pos <= up_to_pos:
            found.append(block)
            size += block.nbytes
    rows = (block.between(stretch.first, cut - 1) for block in found)
    return [block for block in rows if len(block.steps)], cut


def run_names(store: Readable) -> Iterator[str]:
    """The names of all runs, in order."""
    after = ""
    while True:
        with store.snapshot() as view:
            names = view.run_names(after=after, limit=NAMES_PAGE)
        if not names:
            return
        yield from names
        after = names[-1]

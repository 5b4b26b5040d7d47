"""What other replicas committed to runs that this one watches: looked at in the store, at once where it matters.

Of a run that simply goes on, a look now and then is enough: another's state is read from the database.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from tallyboard.wire import Refusal
from tallyboard.wire.limits import MIB
from tallyboard_server.model import counter_values
from tallyboard_server.replicas.bulletin import BulletinItem
from tallyboard_server.store.protocol import Snapshot
from tallyboard_server.watch.inbox import REFUSALS_MAX, News

LOOK_EVERY_S: Final = 10.0
MISSED_EVERY_S: Final = 10.0
"""How often is looked for what was missed: at all runs."""
LOOKS_MAX: Final = 100
"""Runs looked at in one turn of the watchdogs: each is read from the database."""
RUNS_MAX: Final = 10_000
JOURNAL_BYTES_MAX: Final = 4 * MIB
"""Of a run's newest points that are looked at."""


@dataclass(slots=True)
class Heard:
    """What is known of a run by hearsay. urgent: something that is not to wait. blocks: how many it got."""

    urgent: bool = False
    ended: bool = False
    odd: bool = False
    blocks: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    refused_count: int = 0


class Hearsay:
    """Heard by run; `heard` and `missed` are called on the replica's thread, all else on the watchdogs'."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: OrderedDict[int, Heard] = OrderedDict()
        self._looked: OrderedDict[int, float] = OrderedDict()
        self._missed = False
        self._sought_at = float("-inf")

    def heard(self, items: Iterable[BulletinItem]) -> None:
        """This happened to runs that are watched here."""
        with self._lock:
            for item in items:
                heard = self._runs.setdefault(item.run_id, Heard())
                heard.ended = heard.ended or item.ended
                heard.odd = heard.odd or item.odd
                heard.urgent = heard.urgent or item.deleted or item.ended or item.odd or item.refused_count > 0
                heard.blocks += item.blocks
                heard.refusals += item.refused[: REFUSALS_MAX - len(heard.refusals)]
                heard.refused_count += item.refused_count
            while len(self._runs) > RUNS_MAX:
                self._runs.popitem(last=False)

    def missed(self) -> None:
        """Something happened to runs that are watched here, and nobody knows to which."""
        self._missed = True

    def is_to_seek(self, now: float) -> bool:
        """Whether it is time to look for what was missed."""
        return self._missed and not 0 <= now - self._sought_at < MISSED_EVERY_S

    def begin_to_seek(self, now: float) -> None:
        """Whatever is missed from here on is looked for again; and so is this if it comes to nothing (`missed`)."""
        self._missed, self._sought_at = False, now

    def due(self, now: float) -> list[tuple[int, Heard]]:
        """Runs to look at now, what is urgent first; they are taken out."""
        with self._lock:
            ready = [run_id for run_id, heard in self._runs.items() if heard.urgent]
            ready += [run_id for run_id in self._runs if now - self._looked.get(run_id, 0.0) >= LOOK_EVERY_S]
            taken = [(run_id, self._runs.pop(run_id)) for run_id in dict.fromkeys(ready[:LOOKS_MAX])]
        for run_id, _ in taken:
            self._looked[run_id] = now
            self._looked.move_to_end(run_id)
        while len(self._looked) > RUNS_MAX:
            self._looked.popitem(last=False)
        return taken


def news_of(view: Snapshot, run_id: int, heard: Heard, now: float, *, closer: bool) -> News | None:
    """What has happened to a run, as if it had been committed here; None if it was deleted. closer: read its points."""
    state = view.load_by_id(run_id)
    if state is None:
        return None
    news = News(state, now, ended=heard.ended, values=dict(counter_values(state.counters)))
    if heard.refused_count:
        news.refuse(heard.refusals, heard.refused_count)
    if (heard.odd or closer) and heard.blocks:
        after_pos = max(0, state.pos - heard.blocks)
        news.blocks = view.journal(run_id, after_pos=after_pos, bytes_max=JOURNAL_BYTES_MAX)
    return news

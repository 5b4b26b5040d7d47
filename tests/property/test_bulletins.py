"""News between replicas: who reads often enough hears of every change in order; who does not is told so."""

from dataclasses import dataclass, field
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tallyboard.wire import Reason, Receipt, Refusal
from tallyboard_server.contract import RefusedError
from tallyboard_server.ingest.commands import Done
from tallyboard_server.model import RunState
from tallyboard_server.replicas import Teller
from tallyboard_server.replicas import bulletin as bulletins
from tallyboard_server.replicas.bulletin import KEPT_S, Bulletin, read_bulletin
from tests.contract.blocks import run_state
from tests.eventfiles_kit import Clock

RUNS = st.integers(1, 4)
REASON: Reason = get_args(Reason)[0]
KEPT_MAX = 6
"""Of items, so that few examples come to the bound."""


@dataclass
class Reader:
    """Knows a teller's news up to a number."""

    known: int = 0
    heard: dict[int, int] = field(default_factory=dict)
    last: int = 0
    missed: bool = False

    def read_bulletin(self, number: int, told: bytes) -> None:
        bulletin, some_missed = read_bulletin(told, self.known)
        assert bulletin is not None
        self.missed = self.missed or some_missed
        for item in bulletin.items:
            assert item.number > self.last  # each once, in order
            self.last = item.number
            self.heard[item.run_id] = self.heard.get(item.run_id, 0) + item.blocks
        self.known = number


class Telling(RuleBasedStateMachine):
    """A teller whose row in the database is read whenever it occurs to two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.teller = Teller(lambda _done: False, self.clock)
        self.row = (0, b"")
        self.happened: dict[int, int] = {}
        self.told: dict[int, int] = {}
        self.diligent, self.sleepy = Reader(), Reader()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(bulletins, "KEPT_MAX", KEPT_MAX)

    def teardown(self) -> None:
        self.patch.undo()

    @rule(run_id=RUNS, blocks=st.integers(1, 3))
    def change(self, run_id: int, blocks: int) -> None:
        self.teller.committed([done(run_id, blocks)])
        self.happened[run_id] = self.happened.get(run_id, 0) + blocks

    @rule(seconds=st.floats(0.0, KEPT_S))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(backlog=st.integers(0, 3))
    def tell(self, backlog: int) -> None:
        before = self.row[0]
        self.row = self.teller.bulletin(backlog)
        assert self.row[0] >= before
        self.told = dict(self.happened)
        assert not self.teller.anything
        assert msgspec.msgpack.decode(self.row[1], type=Bulletin).backlog_bytes == backlog
        self.diligent.read_bulletin(*self.row)

    @rule()
    def look(self) -> None:
        if self.row[1]:
            self.sleepy.read_bulletin(*self.row)

    @invariant()
    def who_reads_each_bulletin_hears_everything(self) -> None:
        assert self.diligent.heard == self.told
        assert not self.diligent.missed

    @invariant()
    def who_heard_less_than_was_told_up_to_there_knows_it(self) -> None:
        if self.sleepy.known == self.row[0] and self.sleepy.heard != self.told:
            assert self.sleepy.missed


TestTelling = Telling.TestCase
TestTelling.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def done(run_id: int, blocks: int = 1, **parts: Any) -> Done:
    """Something that was committed to a run."""
    state = run_state(run_id, f"p/{run_id}")
    return Done(Receipt(run=state.name, stored=blocks), state, blocks=(None,) * blocks, **parts)  # type: ignore[arg-type]


def items_of(made: Teller) -> list[bulletins.BulletinItem]:
    bulletin, missed = read_bulletin(made.bulletin(0)[1], 0)
    assert bulletin is not None
    assert not missed
    return list(bulletin.items)


def refusal(step: int) -> Refusal:
    return Refusal(block=0, row=0, counter="c", step=step, last_step=step, tags=["t"], reason=REASON, detail="")


def test_what_happens_to_a_run_between_two_bulletins_is_one_item() -> None:
    made = Teller(lambda item: len(item.blocks) == 2)
    made.committed([done(1, 1), done(2, 1), done(1, 2, ended=True)])
    made.changed(1, "p/1")
    one, two = sorted(items_of(made), key=lambda item: item.run_id)
    assert (one.run_id, one.blocks, one.scalars, one.ended, one.odd, one.deleted) == (1, 3, 3, True, True, False)
    assert (two.run_id, two.blocks, two.ended, two.odd) == (2, 1, False, False)


def test_what_was_told_already_is_not_told_again_as_new() -> None:
    made = Teller(lambda _: False)
    made.committed([done(1)])
    number, _ = made.bulletin(0)
    made.committed([done(2)])
    bulletin, missed = read_bulletin(made.bulletin(0)[1], number)
    assert bulletin is not None
    assert ([item.run_id for item in bulletin.items], missed) == ([2], False)


def test_a_replayed_batch_is_no_news() -> None:
    made = Teller(lambda _: False)
    made.committed([Done(Receipt(run="p/1", replayed=True), run_state(1, "p/1"))])
    assert not made.anything


def test_refusals_are_told_up_to_a_few_and_counted() -> None:
    made = Teller(lambda _: False)
    state: RunState = run_state(1, "p/1")
    for step in range(5):
        made.refused(RefusedError("no", [refusal(step)], 1, state=state, reasons={REASON: 1}))
    (item,) = items_of(made)
    assert [told.step for told in item.refused] == [0, 1, 2]
    assert item.refused_count == 5


def test_a_backlog_alone_is_news_to_who_knows_all_items() -> None:
    """Others ask for what has a number beyond the one that they know: else they would think it behind for ever."""
    made = Teller(lambda _: False)
    made.committed([done(1)])
    before, _ = made.bulletin(10**9)
    again, _ = made.bulletin(10**9)
    after, told = made.bulletin(0)
    assert before == again < after
    bulletin, missed = read_bulletin(told, before)
    assert bulletin is not None
    assert (bulletin.backlog_bytes, bulletin.items, missed) == (0, (), False)


def test_what_can_not_be_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulletins, "KEPT_MAX", 3)
    made = Teller(lambda _: False)
    made.committed([done(run_id) for run_id in range(1, 11)])
    bulletin, missed = read_bulletin(made.bulletin(0)[1], 0)
    assert bulletin is not None
    assert [item.run_id for item in bulletin.items] == [8, 9, 10]
    assert missed


def test_who_tells_nothing_yet_is_no_news() -> None:
    assert read_bulletin(b"", 0) == (None, False)

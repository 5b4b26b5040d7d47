"""A reader that fetches only what is new has, after each answer, what a reader of everything gets."""

import random

import pytest
from hypothesis import event
from hypothesis import strategies as st

from tallyboard_server.api import cursors
from tallyboard_server.series import Allowance, Line, Question, read_lines
from tallyboard_server.series.lines import Levels
from tallyboard_server.series.since import LineKey, News, Seen
from tallyboard_server.store.protocol import Store
from tests.examples import given_on_engines
from tests.property.contract_model import bits_of
from tests.property.series_kit import StoredMachine
from tests.stores import Stores, on

pytestmark = on("sqlite", "postgres")

MANY = 10**9
COARSE = Levels((5, 2), cells_max=1)
Rows = list[tuple[int, float, int, float, int]]
"""(last step, wall time and value bits there, x, count) of each point or bucket."""


def rows_of(line: Line) -> Rows:
    last = line.cells.last
    return [
        (step, wall, bits_of(value), x, count)
        for step, wall, value, x, count in zip(
            last.steps.tolist(), last.wall_times.tolist(), last.values.tolist(), line.x.last.tolist(),
            line.cells.count.tolist(), strict=True,
        )
    ]  # fmt: skip


class Reader:
    """Keeps what it was told, and the cursor of the last answer."""

    def __init__(self, asked: Question, store: Store, run: str) -> None:
        self.asked = asked
        self.store = store
        self.run = run
        self.cursor: str | None = None
        self.lines: dict[tuple[str, str, int | None], Rows] = {}

    def fetch(self, tags: list[str]) -> None:
        question = cursors.digest(self.asked)
        seen = None if self.cursor is None else cursors.opened(self.cursor, question).get(self.run)
        with self.store.snapshot() as view:
            state = view.load(self.run)
            assert state is not None
            news = News(state, seen)
            found = read_lines(view, state, tags, self.asked, Allowance(MANY), news.wanted, COARSE)
        now = news.now_seen(found)
        names = {tag.id: tag.name for tag in state.tags.values()}
        counters = {counter.id: counter.name for counter in state.counters.values()}
        for key in news.gone(seen, now) if seen is not None else ():
            event("something is gone")
            self._drop(names[key[0]], None if key[1] == 0 else counters[key[1]], key)
        for line in found:
            place = (line.tag, line.counter, line.superseded)
            if news.is_append(line):
                event("appended" if len(line.cells) else "nothing new")
                self.lines[place] += rows_of(line)
            else:
                event("whole")
                if line.superseded is None:
                    self._drop(line.tag, None, (0, 0, 0))
                self.lines[place] = rows_of(line)
        self.cursor = cursors.sealed(question, {self.run: now})

    def _drop(self, tag: str, counter: str | None, key: LineKey) -> None:
        superseded = key[2] or None
        for place in list(self.lines):
            if place[0] == tag and place[2] == superseded and counter in (None, place[1]):
                del self.lines[place]


@given_on_engines(40, elsewhere=3, seed=st.integers(0, 2**64))
def test_what_is_new_adds_up_to_the_whole(stores: Stores, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    dice = random.Random(seed)
    with stores.opened(tmp_path_factory.mktemp("store")) as store:
        machine = StoredMachine(store, dice)
        x = dice.choice(("step", "wall_time", "relative", *("global_step", "epoch") * 3))
        asked = Question(
            x, dice.choice((None, None, None, 2)), dice.choice((None, None, None, 500)), dice.choice((None, None, 2)),
            superseded=dice.random() < 0.5,
        )  # fmt: skip
        while x not in machine.state.counters and x in ("global_step", "epoch"):
            machine.act()
        reader = Reader(asked, store, machine.state.name)
        for _ in range(12):
            for _ in range(dice.randint(0, 4)):
                machine.act()
            tags = sorted(machine.model.tags)
            reader.fetch(tags)
            everything = Reader(asked, store, machine.state.name)
            everything.fetch(tags)
            check(reader.lines, everything.lines, exact=asked.buckets is None)


def check(
    found: dict[tuple[str, str, int | None], Rows], whole: dict[tuple[str, str, int | None], Rows], *, exact: bool
) -> None:
    assert set(found) == set(whole)
    for place, rows in whole.items():
        if exact:
            assert found[place] == rows, place
        else:  # buckets of the new points stand beside older ones
            assert sum(row[4] for row in found[place]) == sum(row[4] for row in rows)
            assert [row[:4] for row in found[place][-1:]] == [row[:4] for row in rows[-1:]]


def test_a_cursor_survives_sealing() -> None:
    seen = Seen(2**31, 3, 2**32, {})
    assert cursors.opened(cursors.sealed(b"question", {"a/b": seen}), b"question") == {"a/b": seen}

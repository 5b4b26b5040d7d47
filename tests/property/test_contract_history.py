"""The vectorised step contract and the brute-force model agree on any history of batches."""

import math
import os
import random
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tallyboard.wire import (
    Alert,
    Batch,
    Columns,
    CounterSpec,
    Open,
    Receipt,
    Refusal,
    Rewind,
    checksum,
    encode_batch,
    limits,
)
from tallyboard_server.checksum import grown
from tallyboard_server.contract import (
    ContractError,
    LimitError,
    Outcome,
    RefusedError,
    SeqGapError,
    SeqReusedError,
    apply,
    new_run,
)
from tallyboard_server.contract import reports as contract_reports
from tallyboard_server.model import Block, RunState
from tests.property.contract_model import Answer, Bounds, Model, Point, bits_of

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
EXAMPLES = 5_000 if THOROUGH else 250

pytestmark = pytest.mark.timeout(3600 if THOROUGH else 120)

COUNTERS = ("global_step", "epoch", "eval")
TAGS = ("loss", "acc", "lr", "epoch_time")
WRITERS = ("trainer", "restarted", "third", None)
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_0000_00AA))[0]
VALUES = (0.5, 0.5, 0.5, -0.0, 0.0, math.nan, OTHER_NAN, math.inf, -math.inf, 1e300)
HUGE = 2**63 - 6
LIKELY_BASES = ("next",) * 24 + ("beside",) * 8 + ("again",) * 8 + ("start",) * 3 + ("zero",) * 3 + ("huge",)
CUTS = ("zero", "middle", "end", "beyond", "beyond")


@dataclass
class Stretch:
    """Reports of one counter with the same tags; steps are told relative to where the writer stands."""

    counter: str
    tags: tuple[str, ...]
    base: str
    moves: list[int]
    values: list[int]
    at: tuple[str, ...]


@dataclass
class Act:
    """One request: who sends what, and how it stands in its stream."""

    writer: str | None
    stretches: list[Stretch]
    partial: bool
    as_json: bool
    stream: str
    rewind: dict[str, str] = field(default_factory=dict)
    rewind_id: str | None = None
    resume: str | None = None
    take_over: tuple[str, ...] | None = None
    declared: tuple[str, ...] = ()


def stretches() -> st.SearchStrategy[Stretch]:
    moves = st.one_of(
        st.lists(st.just(1), min_size=1, max_size=6),
        st.lists(st.sampled_from([0, 1, 1, 2]), min_size=1, max_size=5),
        st.lists(st.sampled_from([0, 0, 1, 3, -1, -4]), min_size=1, max_size=5),
    )
    return st.builds(
        Stretch,
        counter=st.sampled_from(COUNTERS[:1] * 3 + COUNTERS),
        tags=st.lists(st.sampled_from(TAGS), min_size=1, max_size=3, unique=True).map(tuple),
        base=st.sampled_from(["next", "next", "next", "beside", "again", "again", "start", "zero", "huge"]),
        moves=moves,
        values=st.lists(st.integers(0, len(VALUES) - 1), min_size=1, max_size=6),
        at=st.sampled_from([(), (), (), ("epoch",), ("eval", "global_step"), ("env_step",)]),
    )


def acts() -> st.SearchStrategy[Act]:
    return st.builds(
        Act,
        writer=st.sampled_from(WRITERS[:1] * 3 + WRITERS),
        stretches=st.lists(stretches(), max_size=4),
        partial=st.sampled_from([True, True, False]),
        as_json=st.booleans(),
        stream=st.sampled_from(["next"] * 9 + ["again", "other bytes", "gap", "long ago"]),
        rewind=st.one_of(
            st.just({}),
            st.just({}),
            st.just({}),
            st.dictionaries(st.sampled_from(COUNTERS), st.sampled_from(CUTS), min_size=1, max_size=2),
        ),
        rewind_id=st.sampled_from([None, None, "by-hand-1", "by-hand-2"]),
        resume=st.sampled_from([None] * 8 + ["continue", "new", "must"]),
        take_over=st.sampled_from([None, None, (), ("global_step",), ("epoch", "nobody's")]),
        declared=st.sampled_from([(), (), (), ("epoch",), ("planned",)]),
    )


class Machine:
    """Feeds the same requests to the contract and to the model, and compares all that can be seen of both."""

    def __init__(self, bounds: Bounds) -> None:
        self.model = Model(bounds)
        self.state: RunState = new_run(7, "project/run", now=0.0)
        self.now = 0.0
        self.sent: dict[str, list[Batch]] = {}

    def play(self, act: Act) -> None:
        """Send one request to both and compare."""
        self.now += 1.0
        batch = self._batch(act)
        before = self.model.visible()
        stored = dict(self.model.points)
        answer = self.model.apply(batch, self.now)
        event(f"answer: {answer.kind}")
        result = self._apply(batch, dict(stored))
        if isinstance(result, Outcome):
            assert answer.kind == ("replayed" if result.replayed else "applied")
            assert [kept.alert for kept in result.alerts] == ([] if result.replayed else list(batch.alerts))
            self._compare_outcome(result, answer, stored, before)
            self._compare_ways(result, batch, stored)
            self.state = result.state
            if not result.replayed:
                self._keep(result)
            if batch.producer is not None and not result.replayed:
                self.sent.setdefault(batch.producer, []).append(batch)
        elif isinstance(result, RefusedError):
            assert answer.kind == "refused"
            self._compare_refused(result.refused, answer)
            assert result.refused_count == len(answer.refused)
            assert replace(result.state, counters=self.state.counters) == self.state
            self.state = result.state
        else:
            kinds = {SeqGapError: "gap", SeqReusedError: "reused", LimitError: "limit"}
            assert answer.kind == kinds[type(result)]
            assert getattr(result, "expected", 0) == answer.expected_seq
        self._compare_state()

    def _apply(self, batch: Batch, stored: dict[Any, Point]) -> Outcome | ContractError:
        try:
            return apply(self.state, batch, now=self.now, last_step_before=self._last_step_before(stored))
        except ContractError as error:
            return error

    def _keep(self, outcome: Outcome) -> None:
        """What was accepted; for machines that have a store."""

    def _last_step_before(self, stored: dict[Any, Point]) -> Any:
        """What the store would answer: from the points saved before this batch."""
        by_id = {counter.id: name for name, counter in self.state.counters.items()}

        def ask(counter_id: int, attempt: int, step: int) -> int | None:
            steps = [k[3] for k in stored if k[:2] == (by_id[counter_id], attempt) and k[3] < step]
            return max(steps, default=None)

        return ask

    # from an act to a batch

    def _batch(self, act: Act) -> Batch:
        sent = self.sent.get(act.writer or "", [])
        if act.writer is not None and act.writer not in self.model.producers:
            sent = self.sent[act.writer] = []  # never seen, or forgotten
        if sent and act.stream == "again":
            return sent[-1]
        if sent and act.stream == "long ago":
            return sent[0]
        rewind = None
        if act.rewind:
            next_steps = {name: self._cut(name, cut) for name, cut in act.rewind.items()}
            rewind = Rewind(next_steps=next_steps, reason="test", id=act.rewind_id)
        opening = None
        if act.resume is not None:
            declared = {name: CounterSpec(total=100) for name in act.declared}
            opening = Open(
                resume=act.resume,  # type: ignore[arg-type]
                counters=declared,
                config={"now": self.now},
                take_over=act.take_over,
            )
        seq = len(sent) + 1 + (act.stream == "gap") - (act.stream == "other bytes" and bool(sent))
        batch = Batch(
            producer=act.writer,
            seq=None if act.writer is None else seq,
            partial=act.partial,
            open=opening,
            rewind=rewind,
            columns=self._columns(act),
            summary={"sent_at": self.now},
            alerts=(Alert(title=f"sent at {self.now}", wall_time=self.now),) if act.partial else (),
        )
        return replace(batch, checksum=checksum(encode_batch(batch)))

    def _columns(self, act: Act) -> tuple[Columns, ...]:
        """As the wire would make them: JSON reports are all block 0, MessagePack blocks count."""
        made: list[Columns] = []
        row = 0
        at_end: dict[str, int] = {}
        for index, stretch in enumerate(act.stretches):
            base = self._base(stretch, act, at_end)
            walk = accumulate([base, *stretch.moves[1:]])
            steps = np.array([min(max(step, 0), limits.STEP_MAX) for step in walk], dtype=np.int64)
            at_end[stretch.counter] = int(steps[-1])
            n, k = len(steps), len(stretch.tags)
            picked = np.resize(np.array(stretch.values), n * k).reshape(n, k)
            made.append(
                Columns(
                    stretch.counter,
                    stretch.tags,
                    steps,
                    np.arange(n, dtype=np.float64) + self.now * 100 + index * 10,
                    np.array(VALUES)[picked],
                    {name: np.arange(n) + index for name in stretch.at if name != stretch.counter},
                    block=0 if act.as_json else index,
                    row=row if act.as_json else 0,
                )
            )
            row += n
        return tuple(made)

    def _base(self, stretch: Stretch, act: Act, at_end: Mapping[str, int]) -> int:
        writer, counter = act.writer or "anonymous", stretch.counter
        numbers = [n for n, a in enumerate(self.model.counters.get(counter, []), 1) if a.writer == writer]
        number = numbers[-1] if numbers else 1
        last = self.model.last_step(counter, number) if counter in self.model.counters else None
        start = self.model.counters[counter][number - 1].start if numbers else 0
        if counter in act.rewind:
            start, last = self._cut(counter, act.rewind[counter]), None
        if act.as_json and counter in at_end and stretch.base in ("next", "again"):
            last = at_end[counter]
        if last is not None and last >= HUGE:
            last = HUGE
        match stretch.base:
            case "next" | "beside":
                return start if last is None else last + 1
            case "again":
                return start if last is None else last
            case "start":
                return start
            case "huge":
                return HUGE if last is not None and last > 20 else 3
            case _:
                return 0

    def _cut(self, counter: str, cut: str) -> int:
        """A next step before, within or beyond what the counter holds."""
        last = self.model.value(counter) if counter in self.model.counters else None
        last = 0 if last is None else last
        return {"zero": 0, "middle": last // 2, "end": last + 1, "beyond": min(last + 5, HUGE)}[cut]

    # comparing

    def _compare_refused(self, refused: list[Refusal], answer: Answer) -> None:
        assert len(refused) == min(len(answer.refused), limits.REFUSED_PER_RECEIPT_MAX)
        for got, wanted in zip(refused, answer.refused, strict=False):
            block, row, counter, step, last_step, tags, reason, times = wanted
            assert (got.block, got.row, got.counter, got.step) == (block, row, counter, step)
            assert (got.reason, got.last_step, tuple(got.tags)) == (reason, last_step, tags)
            hint = f"{counter} has been {step} for {times} reports; is it being incremented?"
            assert (hint in got.detail) == (times >= 3)
            assert ("is it being incremented?" in got.detail) == (times >= 3)

    def _compare_outcome(self, outcome: Outcome, answer: Answer, stored: Any, before: set[Any]) -> None:
        self._compare_receipt(outcome.receipt, answer)
        if outcome.replayed:
            assert outcome.state is self.state
            assert outcome.blocks == ()
            assert outcome.refused == ()
            return
        kept = [kept.refusal for kept in outcome.refused[: limits.REFUSED_PER_RECEIPT_MAX]]
        assert kept == outcome.receipt.refused
        assert len(outcome.refused) == min(len(answer.refused), limits.REFUSED_KEPT_PER_RUN_MAX)
        self._compare_blocks(outcome, stored)
        after = self.model.visible()
        late = any(key[1] < len(self.model.counters[key[0]]) for key in after - before)
        changed = bool(before - after) or late
        event(f"late: {late}, superseded: {bool(before - after)}")
        assert (outcome.state.epoch != self.state.epoch) == changed

    def _compare_ways(self, outcome: Outcome, batch: Batch, stored: Any) -> None:
        """What the short way may have stored, the long way stores, too."""
        with patch.object(contract_reports, "land_whole", lambda *_: False):
            judged = self._apply(batch, stored)
        assert isinstance(judged, Outcome)
        assert _plain(judged) == _plain(outcome)

    def _compare_receipt(self, receipt: Receipt, answer: Answer) -> None:
        assert receipt.run == "project/run"
        assert receipt.replayed == (answer.kind == "replayed")
        counts = (receipt.accepted, receipt.stored, receipt.repeated, receipt.refused_count)
        assert counts == (answer.accepted, answer.stored, answer.repeated, len(answer.refused))
        self._compare_refused(receipt.refused, answer)
        assert {n: (v.last_step, v.attempt) for n, v in receipt.counters.items()} == answer.counters
        assert {n: (v.last_step, v.attempt) for n, v in receipt.not_rewound.items()} == answer.not_rewound
        expected = answer.rewound_before + len(answer.beyond) + (not answer.compared)
        assert len(receipt.warnings) == expected
        for counter, count, attempt, later in answer.beyond:
            said = [w for w in receipt.warnings if f"of {counter} at step" in w]
            assert len(said) == 1
            assert said[0].startswith(f"{count} report")
            assert f"attempt {attempt}, which attempt {later} superseded" in said[0]

    def _compare_blocks(self, outcome: Outcome, stored: Any) -> None:
        """The blocks hold exactly the points that are new in the model, bit for bit."""
        before = self.state.counters
        counters = {counter.id: name for name, counter in outcome.state.counters.items()}
        tags = {tag.id: name for name, tag in outcome.state.tags.items()}
        found: dict[Any, Point] = {}
        for index, block in enumerate(outcome.blocks):
            assert block.pos == self.state.pos + 1 + index
            _check_shape(block)
            for row, step in enumerate(block.steps.tolist()):
                at = {counters[cid]: int(column[row]) for cid, column in block.at.items()}
                for j, tag_id in enumerate(block.tag_ids.tolist()):
                    key = (counters[block.counter_id], block.attempt, tags[tag_id], step)
                    assert key not in found
                    found[key] = Point(bits_of(block.values[row, j]), float(block.wall_times[row]), at)
        for name, counter in outcome.state.counters.items():
            known = {a.number: a.checksum for a in self.state.counters[name].attempts} if name in before else {}
            for attempt in counter.attempts:
                mine = [b for b in outcome.blocks if (b.counter_id, b.attempt) == (counter.id, attempt.number)]
                assert attempt.checksum == grown(known.get(attempt.number, 0), mine)
        assert outcome.state.pos == self.state.pos + len(outcome.blocks)
        assert found == {key: point for key, point in self.model.points.items() if key not in stored}

    def _compare_state(self) -> None:
        """All that the state remembers follows from the model's points."""
        state, model = self.state, self.model
        assert list(state.counters) == list(model.counters)
        assert [counter.id for counter in state.counters.values()] == list(range(1, len(model.counters) + 1))
        assert list(state.tags) == model.tags
        assert [tag.id for tag in state.tags.values()] == list(range(1, len(model.tags) + 1))
        assert {n: p.seq for n, p in state.producers.items()} == {
            n: len(p.checksums) for n, p in model.producers.items()
        }
        names = {counter.id: name for name, counter in state.counters.items()}
        tag_names = {tag.id: name for name, tag in state.tags.items()}
        for name, tag in state.tags.items():
            bound = tag.counter_id != 0 and tag.is_bound(state.counters[names[tag.counter_id]])
            assert (names[tag.counter_id] if bound else None) == model.owner(name)
        for name, counter in state.counters.items():
            assert counter.last_step == model.value(name)
            assert len(counter.attempts) == len(model.counters[name])
            for attempt, wanted in zip(counter.attempts, model.counters[name], strict=True):
                assert (attempt.writer, attempt.start) == (wanted.writer, wanted.start)
                assert (attempt.reports, attempt.unmoved) == (wanted.reports, wanted.unmoved)
                assert attempt.scalars == sum(k[:2] == (name, attempt.number) for k in model.points)
                assert attempt.last_step == model.last_step(name, attempt.number)
                assert attempt.last_visible == model.last_visible(name, attempt.number)
                assert len(attempt.tail_tags) == len(attempt.tail_values)
                tail = zip(attempt.tail_tags.tolist(), attempt.tail_values.tolist(), strict=True)
                assert {tag_names[t]: bits_of(v) for t, v in tail} == model.tail(name, attempt.number)


def _plain(outcome: Outcome) -> Any:
    """An outcome as values that compare, bit for bit."""
    state = outcome.state
    attempts = [replace(a, tail_tags=a.tail_tags.tolist(), tail_values=a.tail_values.tobytes())  # type: ignore[arg-type]
                for counter in state.counters.values() for a in counter.attempts]  # fmt: skip
    blocks = [
        (b.pos, b.counter_id, b.attempt, b.tag_ids.tolist(), b.steps.tolist(), b.wall_times.tobytes(),
         b.values.tobytes(), {name: column.tolist() for name, column in b.at.items()})
        for b in outcome.blocks
    ]  # fmt: skip
    return attempts, dict(state.tags), state.pos, state.epoch, blocks, outcome.receipt, outcome.refused


def _check_shape(block: Block) -> None:
    n, k = block.values.shape
    assert n > 0
    assert k > 0
    assert (len(block.steps), len(block.wall_times), len(block.tag_ids)) == (n, n, k)
    assert all(len(column) == n for column in block.at.values())
    assert (np.diff(block.steps) >= 0).all()
    assert [str(a.dtype) for a in (block.tag_ids, block.steps, block.values)] == ["int32", "int64", "float64"]
    assert block.values.flags.c_contiguous


def usual_bounds() -> Bounds:
    return Bounds(
        tags=limits.TAGS_PER_RUN_MAX,
        counters=limits.COUNTERS_PER_RUN_MAX,
        attempts=limits.ATTEMPTS_PER_COUNTER_MAX,
        producers=limits.PRODUCERS_PER_RUN_MAX,
        replay_window=limits.REPLAY_WINDOW,
    )


checked = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)


@checked
@given(st.lists(acts(), min_size=4, max_size=20))
def test_any_history_agrees_with_the_model(history: list[Act]) -> None:
    """Writers, counters, interleaved blocks, retries, rewinds, hand-overs, late batches, odd floats."""
    machine = Machine(usual_bounds())
    for act in history:
        machine.play(act)


@settings(checked, max_examples=EXAMPLES // 8)
@given(st.integers(0, 2**64))
def test_long_histories_agree_with_the_model(seed: int) -> None:
    """The same, deeper: histories of 60 requests that mostly succeed, so that attempts pile up."""
    dice = random.Random(seed)
    machine = Machine(usual_bounds())
    writer: str | None = "trainer"
    old: str | None = "third"
    for _ in range(60):
        act = likely_act(dice, writer)
        if dice.random() < 0.2:
            act.writer, act.rewind = old, {}  # late, or a stranger
        elif dice.random() < 0.12:
            old, writer = writer, dice.choice(WRITERS)
            act.writer, act.resume = writer, dice.choice(["continue", None, None])
            if act.resume is None:
                act.rewind = dict.fromkeys(COUNTERS, dice.choice(("beyond", *CUTS)))
        machine.play(act)


def likely_act(dice: random.Random, writer: str | None) -> Act:
    """A request as a training job, its restarted double or a person would send it; now and then a wrong one."""
    made = []
    usual = dice.choice(COUNTERS)
    is_tidy = dice.random() < 0.5  # no tag twice, and no step but forwards
    free = list(TAGS)
    for _ in range(dice.choice([0, 1, 1, 2, 2, 3])):
        counter = usual if dice.random() < 0.6 else dice.choice(COUNTERS)
        moves = [dice.choice([1, 1, 1, 1, 1, 2, 0]) for _ in range(dice.randint(1, 5))]
        tags = dice.sample(free, min(len(free), dice.choice([1, 1, 2, 3])))
        if is_tidy:
            free = [tag for tag in free if tag not in tags] or list(TAGS)
            moves = [1] * len(moves)
        elif dice.random() < 0.2:
            moves[-1] = dice.choice([-1, -3])
        made.append(
            Stretch(
                counter=counter,
                tags=tuple(tag if dice.random() < 0.01 else f"{counter}/{tag}" for tag in tags),
                base=dice.choice(LIKELY_BASES),
                moves=moves,
                values=[dice.choice([0, 0, 0, 3, 4, 5, 6, 7]) for _ in range(dice.randint(1, 4))],
                at=dice.choice([(), (), ("epoch", "env_step")]),
            )
        )
    cuts = {name: dice.choice(CUTS) for name in dice.sample(COUNTERS, dice.randint(1, 2))}
    return Act(
        writer=writer,
        stretches=made,
        partial=dice.random() < 0.8,
        as_json=dice.random() < 0.4,
        stream=dice.choice(["next"] * 36 + ["again", "other bytes", "gap", "long ago"]),
        rewind=cuts if dice.random() < 0.08 else {},
        rewind_id=dice.choice([None, None, f"by-hand-{dice.randint(1, 3)}"]),
    )


@settings(checked, max_examples=EXAMPLES // 3)
@given(st.lists(acts(), min_size=4, max_size=20))
def test_any_history_of_a_run_that_fills_up_agrees_with_the_model(history: list[Act]) -> None:
    """The same, with limits so small that they are met: tags, counters, attempts, producers, lists."""
    small = Bounds(tags=2, counters=3, attempts=2, producers=2, replay_window=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "TAGS_PER_RUN_MAX", small.tags)
        patch.setattr(limits, "COUNTERS_PER_RUN_MAX", small.counters)
        patch.setattr(limits, "ATTEMPTS_PER_COUNTER_MAX", small.attempts)
        patch.setattr(limits, "PRODUCERS_PER_RUN_MAX", small.producers)
        patch.setattr(limits, "REPLAY_WINDOW", small.replay_window)
        patch.setattr(limits, "REFUSED_PER_RECEIPT_MAX", 2)
        patch.setattr(limits, "REFUSED_KEPT_PER_RUN_MAX", 4)
        machine = Machine(small)
        for act in history:
            machine.play(act)

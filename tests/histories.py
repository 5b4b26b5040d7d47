"""Made-up histories of a run: several writers, two counters, shared tags, overlaps, rewinds, hand-overs, late reports.

What the step contract refuses is simply not stored, so a history may try anything.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tallyboard_server.contract import ContractError
from tests.eventfiles_kit import Service, columns

PRODUCERS = ("a", "b")
TAGS = ("loss", "acc", "lr", "val/acc")
COUNTERS = ("global_step", "epoch")
STEPS = (*range(12), 126, 127, 128, 129, 16_383, 16_384, 2**31, 2**53 + 1)
"""Small ones that meet each other, and some on both sides of the varint lengths. (Both readers take a step as int64,
but the Python reader's JSON goes through no float, so 2^53 + 1 must come back exactly.)"""

Action = Callable[[Service, str], object]


@dataclass(frozen=True)
class Report:
    """A batch of one to three blocks."""

    producer: str | None
    blocks: tuple[tuple[str, tuple[int, ...], tuple[str, ...], float], ...]

    def __call__(self, service: Service, run: str) -> object:
        made = tuple(
            columns(
                steps,
                {tag: [value + 0.125 * i + step for step in steps] for i, tag in enumerate(tags)},
                counter=counter,
                block=index,
            )
            for index, (counter, steps, tags, value) in enumerate(self.blocks)
        )
        return _tried(lambda: service.batch(run, self.producer, columns=made))


@dataclass(frozen=True)
class Advance:
    """A writer goes on where it stood, whether that is still visible or long superseded: gaps between the steps."""

    producer: str
    counter: str
    blocks: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...]

    def __call__(self, service: Service, run: str) -> object:
        with service.store.snapshot() as view:
            state = view.load(run)
        known = state.counters.get(self.counter) if state is not None else None
        held = [attempt for attempt in known.attempts if attempt.writer == self.producer] if known is not None else []
        base = -1
        if held:
            last = held[-1].last_step
            base = held[-1].start - 1 if last is None else last
        blocks = []
        for gaps, tags in self.blocks:
            steps = tuple(base + 1 + sum(gaps[: i + 1]) for i in range(len(gaps)))
            blocks.append((self.counter, steps, tags, float(base)))
        return Report(self.producer, tuple(blocks))(service, run)


@dataclass(frozen=True)
class GoBack:
    """A rewind by so many steps from where the counter stands."""

    producer: str
    counter: str
    by: int

    def __call__(self, service: Service, run: str) -> object:
        with service.store.snapshot() as view:
            state = view.load(run)
        known = state.counters.get(self.counter) if state is not None else None
        last = known.last_step if known is not None else None
        return Rewind(self.producer, ((self.counter, max(0, (last or 0) + 1 - self.by)),))(service, run)


@dataclass(frozen=True)
class Rewind:
    """Back to a step on some counters."""

    producer: str | None
    next_steps: tuple[tuple[str, int], ...]

    def __call__(self, service: Service, run: str) -> object:
        return _tried(lambda: service.rewind(run, self.producer, **dict(self.next_steps)))


@dataclass(frozen=True)
class HandOver:
    """Resume without a rewind."""

    producer: str

    def __call__(self, service: Service, run: str) -> object:
        return _tried(lambda: service.hand_over(run, self.producer))


def _tried(action: Callable[[], Any]) -> object:
    try:
        return action()
    except ContractError as error:
        return error


_values = st.floats(-1e6, 1e6) | st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e300, 0.1])
_blocks = st.tuples(
    st.sampled_from(COUNTERS),
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=6).map(lambda steps: tuple(sorted(steps))),
    st.lists(st.sampled_from(TAGS), min_size=1, max_size=3, unique=True).map(tuple),
    _values,
)
_producers = st.sampled_from((*PRODUCERS, *PRODUCERS, "c", None))
_reports = st.builds(Report, _producers, st.lists(_blocks, min_size=1, max_size=3).map(tuple))
_rewinds = st.builds(
    Rewind,
    _producers,
    st.dictionaries(st.sampled_from(COUNTERS), st.sampled_from((*range(13), 128, 20_000)), min_size=1).map(
        lambda steps: tuple(steps.items())
    ),
)
_hand_overs = st.builds(HandOver, st.sampled_from(PRODUCERS))

_tag_sets = st.sampled_from([("loss",), ("loss", "acc"), ("acc",), ("lr", "loss"), ("lr",)])
_gaps = st.lists(st.sampled_from([0, 1, 1, 1, 2, 5, 130]), min_size=1, max_size=6).map(tuple)
_advances = st.builds(
    Advance,
    st.sampled_from(PRODUCERS),
    st.sampled_from(COUNTERS[:1] * 3 + COUNTERS[1:]),
    st.lists(st.tuples(_gaps, _tag_sets), min_size=1, max_size=3).map(tuple),
)
_go_backs = st.builds(
    GoBack,
    st.sampled_from(PRODUCERS),
    st.sampled_from(COUNTERS[:1] * 3 + COUNTERS[1:]),
    st.sampled_from([-3, 0, 1, 2, 3, 5, 8, 100]),
)

actions: st.SearchStrategy[Action] = st.one_of(
    _advances, _advances, _advances, _advances, _go_backs, _go_backs, _reports, _rewinds, _hand_overs
)
histories: st.SearchStrategy[list[Action]] = st.lists(actions, min_size=6, max_size=16)


def sample(count: int) -> list[list[Action]]:
    """The same `count` histories every time."""
    found: list[list[Action]] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories)
    def collect(history: list[Action]) -> None:
        found.append(history)

    collect()
    return found

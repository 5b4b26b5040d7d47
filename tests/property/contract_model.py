"""The step contract once more, in the plainest Python: report by report, every point kept, nothing remembered
that could be counted again. What it says is right; the vectorised contract is compared with it.

Written from the rules alone. It is quadratic and worse, and shares no code with what it judges.
"""

import copy
import struct
from dataclasses import dataclass, field, replace

from tallyboard.wire import Batch, Columns

Key = tuple[str, int, str, int]
"""(counter, attempt, tag, step)"""


def bits_of(value: float) -> int:
    """The 64 bits of a float64."""
    return int(struct.unpack("<q", struct.pack("<d", value))[0])


@dataclass
class Bounds:
    """The limits that the contract is held to."""

    tags: int
    counters: int
    attempts: int
    producers: int
    replay_window: int


@dataclass
class ModelAttempt:
    """An attempt: its writer, the step it starts at, and what was counted on it."""

    writer: str
    start: int
    reports: int = 0
    unmoved: int = 0


@dataclass(frozen=True)
class Point:
    """A stored scalar, with what its report carried."""

    bits: int
    wall_time: float
    at: dict[str, int]


@dataclass
class ModelProducer:
    """A stream: checksums of all its batches, and their answers."""

    checksums: list[int] = field(default_factory=list)
    answers: list["Answer"] = field(default_factory=list)
    last_seen: float = 0.0


@dataclass
class Answer:
    """What a batch should be answered with. Refused: (block, row, counter, step, last step, tags, reason, times)."""

    kind: str
    accepted: int = 0
    stored: int = 0
    repeated: int = 0
    refused: list[tuple[int, int, str, int, int | None, tuple[str, ...], str, int]] = field(default_factory=list)
    counters: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    not_rewound: dict[str, tuple[int | None, int]] = field(default_factory=dict)
    beyond: list[tuple[str, int, int, int]] = field(default_factory=list)
    """Warned of: (counter, reports stored beyond the cut, attempt, the attempt that superseded it)."""
    reported: dict[str, int] = field(default_factory=dict)
    """The attempt that the reports of each counter went to."""
    rewound_before: bool = False
    expected_seq: int = 0
    compared: bool = True


@dataclass
class Model:
    """A run. Points are kept for good; everything else is worked out from them and from the attempts."""

    bounds: Bounds
    counters: dict[str, list[ModelAttempt]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    points: dict[Key, Point] = field(default_factory=dict)
    producers: dict[str, ModelProducer] = field(default_factory=dict)
    rewinds: list[str] = field(default_factory=list)

    # what follows from the points

    def is_visible(self, counter: str, attempt: int, step: int) -> bool:
        """Before the start of every later attempt."""
        return all(step < later.start for later in self.counters[counter][attempt:])

    def visible(self) -> set[Key]:
        """The keys of all visible points."""
        return {key for key in self.points if self.is_visible(key[0], key[1], key[3])}

    def value(self, counter: str) -> int | None:
        """The counter's largest visible step."""
        return max((key[3] for key in self.visible() if key[0] == counter), default=None)

    def last_step(self, counter: str, attempt: int) -> int | None:
        """The largest step of an attempt, visible or not."""
        return max((key[3] for key in self.points if key[:2] == (counter, attempt)), default=None)

    def last_visible(self, counter: str, attempt: int) -> int | None:
        """The largest visible step of an attempt."""
        return max((key[3] for key in self.visible() if key[:2] == (counter, attempt)), default=None)

    def last_step_before(self, counter: str, attempt: int, step: int) -> int | None:
        """The largest step below `step` in an attempt."""
        return max((key[3] for key in self.points if key[:2] == (counter, attempt) and key[3] < step), default=None)

    def tail(self, counter: str, attempt: int) -> dict[str, int]:
        """Value bits by tag at an attempt's last step."""
        last = self.last_step(counter, attempt)
        return {k[2]: p.bits for k, p in self.points.items() if k[:2] == (counter, attempt) and k[3] == last}

    def owner(self, tag: str) -> str | None:
        """The counter that a tag has visible points on."""
        return next((key[0] for key in self.visible() if key[2] == tag), None)

    # batches

    def apply(self, batch: Batch, now: float) -> Answer:
        """Apply a batch, or change nothing (but for the counting of refusals in a row)."""
        if batch.producer is not None and (answer := self._replayed(batch)) is not None:
            return answer
        trial = self._copy()
        answer = trial._apply(batch, now)
        if answer.kind == "refused":
            self._count_refusals(answer)
        if answer.kind == "applied":
            self.__dict__.update(trial.__dict__)
        return answer

    def _replayed(self, batch: Batch) -> Answer | None:
        assert batch.producer is not None
        assert batch.seq is not None
        producer = self.producers.get(batch.producer, ModelProducer())
        applied = len(producer.checksums)
        if batch.seq == applied + 1:
            return None
        if batch.seq > applied + 1:
            return Answer("gap", expected_seq=applied + 1)
        compared = applied - batch.seq < self.bounds.replay_window
        if compared and producer.checksums[batch.seq - 1] != batch.checksum:
            return Answer("reused")
        if batch.seq == applied:
            answer = copy.deepcopy(producer.answers[-1])
            answer.kind = "replayed"
            return answer
        counters = {name: self._shown(name) for name, attempts in self.counters.items() if attempts}
        return Answer("replayed", counters=counters, compared=compared)

    def _apply(self, batch: Batch, now: float) -> Answer:
        writer = batch.producer or "anonymous"
        answer = Answer("applied")
        if batch.open is not None and not self._open(batch):
            return Answer("limit")
        if batch.rewind is not None and not self._rewind(batch, writer, answer):
            return Answer("limit")
        moved: set[str] = set()
        for counter in dict.fromkeys(c.counter for c in batch.columns):
            before = self.last_step(counter, self._mine(counter, writer) or 1)
            self._report(counter, [c for c in batch.columns if c.counter == counter], writer, answer)
            if self.last_step(counter, self._mine(counter, writer) or 1) != before:
                moved.add(counter)
        self._excuse(moved, answer)
        answer.refused.sort(key=lambda refusal: refusal[:2])
        if answer.refused and not batch.partial:
            answer.kind = "refused"
            return answer
        touched = {c.counter for c in batch.columns if c.counter in self.counters}
        everything = batch.open is not None or batch.rewind is not None
        shown = touched | {name for name, attempts in self.counters.items() if attempts and everything}
        answer.counters = {name: self._shown(name) for name in shown}
        if batch.rewind is not None:
            answer.not_rewound = {
                name: self._shown(name)
                for name, attempts in self.counters.items()
                if attempts and name not in batch.rewind.next_steps
            }
        if batch.producer is not None and not self._remember(batch, answer, now):
            return Answer("limit")
        return answer

    def _open(self, batch: Batch) -> bool:
        assert batch.open is not None
        for name in batch.open.counters:
            if not self._add_counter(name):
                return False
        named = batch.open.take_over
        if named is None:
            named = () if batch.open.resume == "new" else tuple(self.counters)
        if batch.producer is not None:
            for name in named:
                if attempts := self.counters.get(name):
                    attempts[-1].writer = batch.producer
        return True

    def _rewind(self, batch: Batch, writer: str, answer: Answer) -> bool:
        assert batch.rewind is not None
        if batch.rewind.id is not None:
            if batch.rewind.id in self.rewinds:
                answer.rewound_before = True
                return True
            self.rewinds.append(batch.rewind.id)
        for name, step in batch.rewind.next_steps.items():
            if not self._add_counter(name) or len(self.counters[name]) >= self.bounds.attempts:
                return False
            self.counters[name].append(ModelAttempt(writer, step))
        return True

    def _add_counter(self, name: str) -> bool:
        if name not in self.counters and len(self.counters) >= self.bounds.counters:
            return False
        self.counters.setdefault(name, [])
        return True

    def _remember(self, batch: Batch, answer: Answer, now: float) -> bool:
        assert batch.producer is not None
        if batch.producer not in self.producers and len(self.producers) >= self.bounds.producers:
            holders = {attempt.writer for attempts in self.counters.values() for attempt in attempts}
            idle = [name for name in self.producers if name not in holders]
            if not idle:
                return False
            del self.producers[min(idle, key=lambda name: (self.producers[name].last_seen, name))]
        producer = self.producers.setdefault(batch.producer, ModelProducer())
        producer.checksums.append(batch.checksum)
        producer.answers.append(copy.deepcopy(answer))
        producer.last_seen = now
        return True

    def _shown(self, counter: str) -> tuple[int | None, int]:
        return self.value(counter), len(self.counters[counter])

    # reports

    def _mine(self, counter: str, writer: str) -> int | None:
        """The number of the latest attempt that a writer holds on a counter."""
        numbers = [n for n, attempt in enumerate(self.counters.get(counter, []), 1) if attempt.writer == writer]
        return numbers[-1] if numbers else None

    def _excuse(self, moved: set[str], answer: Answer) -> None:
        """Who stands while another counter moves, and was told no other value, has not been forgotten."""
        moved = {name for name in moved if name != "system" and not name.startswith("tag:")}
        disagreed = {counter for _, _, counter, _, _, _, reason, _ in answer.refused if reason == "tag_repeated"}
        for counter, number in answer.reported.items():
            if moved - {counter} and counter not in disagreed and self.counters.get(counter):
                self.counters[counter][number - 1].unmoved = 0

    def _report(self, counter: str, stretches: list[Columns], writer: str, answer: Answer) -> None:
        mine = self._mine(counter, writer)
        if self.counters.get(counter) and mine is None:
            for stretch in stretches:
                self._refuse_all(answer, stretch, self.value(counter), stretch.tags, "counter_taken")
            return
        number = mine or 1
        answer.reported[counter] = number
        passed = self._screen(counter, number, stretches, answer)
        stored_from: dict[int, set[str]] = {}
        beyond = 0
        for stretch, row in _in_order(passed):
            before = len(self.points)
            verdict = self._report_row(counter, number, writer, stretch, row)
            if verdict is not None:
                answer.refused.append((stretch.block, stretch.row + row, counter, *verdict))
                continue
            stored = list(self.points)[before:]
            answer.accepted += 1
            answer.stored += len(stored)
            answer.repeated += len(stretch.tags) - len(stored)
            self.counters[counter][number - 1].reports += 1
            if stored:
                stored_from.setdefault(id(stretch), set()).update(key[2] for key in stored)
                beyond += not self.is_visible(counter, number, int(stretch.steps[row]))
        for stretch in passed:
            names = stored_from.get(id(stretch), set())
            self.tags += [tag for tag in stretch.tags if tag in names and tag not in self.tags]
            if names:
                for name in stretch.at:
                    self.counters.setdefault(name, [])
        if beyond:
            starts = [attempt.start for attempt in self.counters[counter][number:]]
            answer.beyond.append((counter, beyond, number, number + 1 + starts.index(min(starts))))

    def _screen(self, counter: str, number: int, stretches: list[Columns], answer: Answer) -> list[Columns]:
        """Refuse the stretches that can't be taken at all; the others."""
        last = self.last_step(counter, number)
        passed: list[Columns] = []
        for stretch in stretches:
            names = {counter, *self.counters, *(name for p in passed for name in p.at), *stretch.at}
            tags = {*self.tags, *(tag for p in passed for tag in p.tags), *stretch.tags}
            foreign = [tag for tag in stretch.tags if self.owner(tag) not in (None, counter)]
            if len(names) > self.bounds.counters:
                self._refuse_all(answer, stretch, last, stretch.tags, "too_many_counters")
            elif foreign:
                self._refuse_all(answer, stretch, last, tuple(foreign), "tag_of_other_counter")
            elif len(tags) > self.bounds.tags:
                known = {*self.tags, *(tag for p in passed for tag in p.tags)}
                new = tuple(tag for tag in stretch.tags if tag not in known)
                self._refuse_all(answer, stretch, last, new, "too_many_tags")
            else:
                passed.append(stretch)
        return passed

    def _refuse_all(
        self, answer: Answer, stretch: Columns, last: int | None, tags: tuple[str, ...], reason: str
    ) -> None:
        for row, step in enumerate(stretch.steps.tolist()):
            answer.refused.append((stretch.block, stretch.row + row, stretch.counter, step, last, tags, reason, 0))

    def _report_row(
        self, counter: str, number: int, writer: str, stretch: Columns, row: int
    ) -> tuple[int, int | None, tuple[str, ...], str, int] | None:
        """Store one report; or say why not."""
        step = int(stretch.steps[row])
        values = {tag: bits_of(float(stretch.values[row, j])) for j, tag in enumerate(stretch.tags)}
        last = self.last_step(counter, number)
        attempts = self.counters.get(counter, [])
        start = attempts[number - 1].start if attempts else 0
        if step < start or (last is not None and step < last):
            return step, last, stretch.tags, "step_decreased", 0
        known = {tag: self.points.get((counter, number, tag, step)) for tag in stretch.tags}
        clash = tuple(tag for tag, point in known.items() if point is not None and point.bits != values[tag])
        if clash:
            attempts[number - 1].unmoved += 1
            return step, last, clash, "tag_repeated", 1 + attempts[number - 1].unmoved
        if not self.counters.setdefault(counter, []):
            self.counters[counter].append(ModelAttempt(writer, 0))
        mine = self.counters[counter][number - 1]
        mine.unmoved = 0 if None in known.values() else mine.unmoved + 1
        at = {name: int(column[row]) for name, column in stretch.at.items()}
        for tag, point in known.items():
            if point is None:
                self.points[counter, number, tag, step] = Point(values[tag], float(stretch.wall_times[row]), at)
        return None

    def _count_refusals(self, answer: Answer) -> None:
        """Nothing of a refused batch is kept but how often a counter that does not move was reported in vain."""
        for _, _, counter, step, _, _, reason, _ in answer.refused:
            attempts, number = self.counters.get(counter, []), answer.reported.get(counter, 0)
            is_known = 0 < number <= len(attempts)
            if reason == "tag_repeated" and is_known and self.last_step(counter, number) == step:
                attempts[number - 1].unmoved += 1

    def _copy(self) -> "Model":
        return Model(
            self.bounds,
            {name: [replace(attempt) for attempt in attempts] for name, attempts in self.counters.items()},
            list(self.tags),
            dict(self.points),
            copy.deepcopy(self.producers),
            list(self.rewinds),
        )


def _in_order(stretches: list[Columns]) -> list[tuple[Columns, int]]:
    """The reports of one counter as they are judged: by the largest step of their request block so far."""
    reached: dict[int, int] = {}
    keyed = []
    for stretch in stretches:
        for row, step in enumerate(stretch.steps.tolist()):
            reached[stretch.block] = max(step, reached.get(stretch.block, -1))
            keyed.append((reached[stretch.block], stretch.block, stretch.row + row, stretch, row))
    keyed.sort(key=lambda entry: entry[:3])
    return [(stretch, row) for *_, stretch, row in keyed]

"""Verifies one run, step by step: what was acknowledged, what is stored, and what its event file holds."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Final

import msgspec

from tallyboard.wire import Receipt
from tallyboard_server.checksum import add
from tallyboard_server.eventfiles.shelf import Shelf
from tallyboard_server.model import Attempt, Counter, RunState
from tallyboard_server.store.protocol import Generation, Readable
from tallyboard_server.verify.blobs import BlobCheck
from tallyboard_server.verify.filecheck import FileCheck
from tallyboard_server.verify.report import DIFFERENCES_MAX, AttemptReport, Difference, RunReport
from tallyboard_server.verify.stored import Place, StoreReader, Subject, Sums, take

CATCH_UP_S: Final = 30.0
"""How long event files get to hold what was stored when the check began; they are synced every few seconds."""
TRIES_MAX: Final = 5
_POLL_S: Final = 0.25
_STORE: Final = "the disk or the database file is failing: keep a copy of the data directory, and restore a backup"


class RunGoneError(LookupError):
    """There is no such run, or no longer."""


class RunCheck:
    """A verification of one run. When `steps()` is exhausted, `report` is there."""

    report: RunReport

    def __init__(
        self,
        store: Readable,
        shelf: Shelf | None,
        run: str,
        *,
        catch_up_s: float = CATCH_UP_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """shelf: None leaves event files alone, and looks at what is stored only.

        catch_up_s: how long to wait for the event file; 0 where nobody writes it.
        """
        self._store = store
        self._shelf = shelf
        self._run = run
        self._catch_up_s = catch_up_s
        self._clock = clock
        self._sleep = sleep
        self._differences: list[Difference] = []
        self._count = 0

    def steps(self) -> Iterator[int]:
        """Check the run, about 0.1 s a step; yields how many scalars each read. Raises RunGoneError, StoreError.

        If points are pruned meanwhile it begins anew, a few times.
        """
        for _ in range(TRIES_MAX):
            self._differences, self._count = [], 0
            subject, target = yield from self._caught_up()
            stored = StoreReader(self._store, subject, self._clock)
            yield from stored.pages()
            yield from self._check_blobs(stored, subject)
            in_file = yield from self._check_file(stored, subject, target)
            if not self._was_pruned_since(subject.state):
                break
        else:
            self._differs(
                Difference(kind="store", detail=f"it was pruned {TRIES_MAX} times meanwhile; verify it again")
            )
        state = subject.state
        attempts = [
            self._attempt(counter, attempt, stored.sums[counter.id, attempt.number], in_file)
            for counter in state.counters.values()
            for attempt in counter.attempts
        ]
        self._check_receipts(state)
        live = subject.generation
        self.report = RunReport(
            run=state.name,
            ok=not self._count,
            pos=state.pos,
            event_file=self._where(state, live),
            exported_pos=0 if live is None else live.exported_pos,
            attempts=attempts,
            differences=self._differences,
            difference_count=self._count,
            warnings=self._foreign(subject),
        )

    def _where(self, state: RunState, live: Generation | None) -> str | None:
        return None if live is None or self._shelf is None else self._shelf.where(state.name, live.file_name)

    def _was_pruned_since(self, state: RunState) -> bool:
        with self._store.snapshot() as view:
            now = view.load_by_id(state.id)
        return now is not None and _pruned(now) != _pruned(state)

    def _caught_up(self) -> Generator[int, None, tuple[Subject, int]]:
        """Wait for the event file to hold what is stored now. Returns the run, and the position to be reached."""
        until = self._clock() + self._catch_up_s
        target: int | None = None
        while True:
            with self._store.snapshot() as view:
                state = view.load(self._run)
                if state is None:
                    raise RunGoneError(f"there is no run {self._run!r}")
                subject = take(view, state)
            if self._shelf is None:
                return replace(subject, generation=None, why_not=None), state.pos
            target = state.pos if target is None else target
            live = subject.generation
            done = subject.why_not is None if live is None else live.exported_pos >= target
            if done or self._clock() >= until:
                return subject, target
            yield 0
            self._sleep(_POLL_S)

    def _check_blobs(self, stored: StoreReader, subject: Subject) -> Iterator[int]:
        blobs = BlobCheck(self._store, subject.state.id, stored.keys)
        yield from blobs.steps()
        for fault in blobs.faults:
            self._differs(Difference(kind="store", detail=f"{fault}; {_STORE}"))

    def _check_file(self, stored: StoreReader, subject: Subject, target: int) -> Generator[int, None, dict[Place, int]]:
        """Compare the event file; returns how many scalars of each attempt it holds."""
        live = subject.generation
        if subject.why_not is not None:
            self._differs(_file_difference(f"{subject.why_not}; a running service catches up (see GET /readyz)"))
        if live is None or self._shelf is None:
            return {}
        check = FileCheck(stored, subject, live, self._shelf)
        yield from check.steps()
        for difference in check.differences:
            self._differs(difference)
        if live.exported_pos < target:
            lag = target - live.exported_pos
            self._differs(_file_difference(f"{live.file_name} is {lag:,} blocks behind; a running service catches up"))
        return check.in_file

    def _attempt(self, counter: Counter, attempt: Attempt, sums: Sums, in_file: dict[Place, int]) -> AttemptReport:
        faults = list(sums.faults)
        accounted = add(sums.checksum, attempt.pruned_checksum)
        if sums.scalars + attempt.pruned_scalars != attempt.scalars:
            pruned = f", {attempt.pruned_scalars:,} pruned" if attempt.pruned_scalars else ""
            faults.append(f"{attempt.scalars:,} scalars were acknowledged{pruned}, {sums.scalars:,} are stored")
        elif attempt.checksum is not None and accounted != attempt.checksum:
            faults.append(f"the {sums.scalars:,} scalars stored are not those that were acknowledged")
        for fault in faults:
            self._differs(
                Difference(
                    kind="store", detail=f"{fault}; {_STORE}", counter=counter.name, attempt=attempt.number,
                    first_step=attempt.start, last_step=attempt.last_step,
                )
            )  # fmt: skip
        return AttemptReport(
            counter=counter.name,
            attempt=attempt.number,
            writer=attempt.writer,
            sent=attempt.scalars,
            pruned=attempt.pruned_scalars,
            stored=sums.scalars,
            visible=sums.visible,
            in_file=in_file.get((counter.id, attempt.number), 0),
            sent_checksum=None if attempt.checksum is None else f"{attempt.checksum:016x}",
            stored_checksum=f"{accounted:016x}",
        )

    def _check_receipts(self, state: RunState) -> None:
        """Whatever a producer's last receipt told of a counter must have been reached by it."""
        for producer in state.producers.values():
            if not producer.receipt:
                continue
            for name, told in msgspec.json.decode(producer.receipt, type=Receipt).counters.items():
                attempts = state.counters[name].attempts[: told.attempt] if name in state.counters else ()
                reached = max((a.last_step for a in attempts if a.last_step is not None), default=-1)
                if len(attempts) < told.attempt or (told.last_step is not None and reached < told.last_step):
                    detail = (
                        f"the last receipt of producer {producer.name} says step {told.last_step} in attempt "
                        f"{told.attempt}; the run has come to step {reached}; {_STORE}"
                    )
                    self._differs(Difference(kind="receipt", detail=detail, counter=name, attempt=told.attempt))

    def _foreign(self, subject: Subject) -> list[str]:
        """Event files that are not ours. Files are recorded before they exist and forgotten after they are gone."""
        if self._shelf is None:
            return []
        run = subject.state.name
        try:
            found = self._shelf.event_files(run)
        except OSError as error:
            return [f"the run's event files could not be listed: {error}"]
        with self._store.snapshot() as view:
            ours = subject.file_names | {generation.file_name for generation in view.generations(subject.state.id)}
        return [
            f"{self._shelf.where(run, name)} is not one of ours: TensorBoard mixes it into the run; move it away"
            for name, generation in found.items()
            if generation not in ours
        ]

    def _differs(self, difference: Difference) -> None:
        self._count += 1
        if len(self._differences) < DIFFERENCES_MAX:
            self._differences.append(difference)


def _pruned(state: RunState) -> int:
    return sum(attempt.pruned_scalars for counter in state.counters.values() for attempt in counter.attempts)


def _file_difference(detail: str) -> Difference:
    return Difference(kind="event_file", detail=detail)

"""Collect: takes what the training loop logs, checks it, and keeps it packed in memory until the sender comes.

The fast path is a report whose tags were seen before and that breaks no rule: a dictionary lookup, one struct.pack and
an append. Everything else (new tags, lower steps, odd values, an `at` of the caller's) takes the slow path, which is
also where a run goes that is finished, forked or out of memory: they clear `_fast` and `_single`.
"""

import operator
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from tallyboard.collect.alerts import Teller, as_alert
from tallyboard.collect.blobs import PendingBlob
from tallyboard.collect.complaints import Complaints
from tallyboard.collect.counters import Counters, Create
from tallyboard.collect.lanes import BlobLane, Lane, Section
from tallyboard.collect.reports import as_at, as_counter, as_scalars, as_step, as_tag, as_wall_time, moved_on
from tallyboard.collect.routing import Router, Split
from tallyboard.collect.sections import SECTION_ALERTS_MAX, Discarded, Sections
from tallyboard.collect.standing import Standing
from tallyboard.collect.stats import Tally
from tallyboard.collect.tracking import CounterState
from tallyboard.errors import ContractError, InvalidReportError
from tallyboard.notices import Notices, caller_line
from tallyboard.wire import (
    DEFAULT_COUNTER,
    CounterSpec,
    CounterValue,
    InvalidNameError,
    Level,
    Open,
    Rewind,
    Status,
    limits,
    names,
)

TAKE_TIMEOUT_S: Final = 0.1
LANES_MAX: Final = 16_384
"""Lanes that are remembered; a run that makes up new tags for ever starts again with none."""


class Recorder:
    """Thread-safe, and reentrant for signal handlers. `clock` tells seconds since the epoch."""

    def __init__(
        self,
        sections: Sections,
        *,
        router: Router,
        strict: bool,
        clock: Callable[[], float],
        notices: Notices,
        tally: Tally,
        resumed: bool = False,
    ) -> None:
        """resumed: see Counters."""
        self._lock = threading.RLock()
        self._router = router
        self._clock = clock
        self._tally = tally
        self._complaints = Complaints(notices, tally, strict=strict)
        self._teller = Teller(notices)
        self._counters = Counters(resumed=resumed)
        self._standing = Standing(self._counters, self._complaints)
        self._sections = sections
        self._fast: dict[tuple[tuple[str, ...], str | None], Lane] = {}
        self._single: dict[str, Lane] = {}  # the same, of reports of one tag that name no counter
        self._splits: dict[tuple[tuple[str, ...], str | None], Split] = {}
        self._lanes: dict[tuple[Any, ...], Lane] = {}
        self._closed: str | None = None

    # ── logging ──────────────────────────────────────────────────────────────────────────────────────────────────

    def log(
        self,
        scalars: Mapping[str, Any],
        step: int | None,
        counter: str | None,
        at: Mapping[str, int] | None,
        wall_time: float | None,
    ) -> None:
        """Record one report. Raises ContractError if the run is strict, and nothing else."""
        try:
            if at is None and wall_time is None and self._log_fast(scalars, step, counter):
                return
        except (struct.error, TypeError, KeyError):
            pass  # something that needs a closer look
        self._log_carefully(scalars, step, counter, at, wall_time)

    def _log_fast(self, scalars: Mapping[str, Any], step: int | None, counter: str | None) -> bool:
        """Record a report of tags seen before that breaks no rule. Otherwise change nothing and return False."""
        with self._lock:
            key = (tuple(scalars), counter)
            lane = self._fast.get(key)
            if lane is None:
                return self._log_split(scalars, step, key)
            state = lane.counter
            if step is None:
                number = state.value if state.moved else state.value + 1
            else:
                number = step if type(step) is int else operator.index(step)
            if number < state.last or (state.implicit and step is None):
                return False
            if lane.others:
                others = [other.value for other in lane.others]
                row = lane.pack(number, self._clock(), *others, *scalars.values())
            else:
                row = lane.pack(number, self._clock(), *scalars.values())
            if number > state.last:  # CounterState.accept, written out
                state.reached = number, lane, row
                state.last = number
            elif state.check(number, lane, row) is not None:
                return False
            elif not state.accept(number, lane, row):
                self._standing.repeated(state, number)
            if step is not None:
                state.moved = True
            if number > state.value:
                state.value = number
            if self._sections.add(lane, row) and self._sections.full:
                self._forget()
            return True

    def log_single(self, tag: str, value: Any, step: Any) -> bool:
        """Record one scalar of a tag seen before that breaks no rule: `_log_fast` for those who have nothing but one.

        Otherwise change nothing and return False: `log` is for the rest.
        """
        try:
            with self._lock:
                lane = self._single[tag]
                state = lane.counter
                if step is None:
                    number = state.upcoming()
                elif type(step) is int:
                    number = step
                else:
                    return False
                if lane.others:
                    row = lane.pack(number, self._clock(), *[other.value for other in lane.others], value)
                else:
                    row = lane.pack(number, self._clock(), value)
                if number <= state.last:
                    return False
                state.reached = number, lane, row
                state.last = number
                if step is not None:
                    state.moved = True
                if number > state.value:
                    state.value = number
                if self._sections.add(lane, row) and self._sections.full:
                    self._forget()
                return True
        except (struct.error, TypeError, KeyError):
            return False

    def _log_split(self, scalars: Mapping[str, Any], step: int | None, key: tuple[tuple[str, ...], str | None]) -> bool:
        """Record a call whose tags belong to several counters, one report each, if it was seen before."""
        split = self._splits.get(key)
        if split is None:
            return False
        for name, tags in split:
            self.log({tag: scalars[tag] for tag in tags}, step, name, None, None)
        return True

    def _log_carefully(
        self,
        scalars: Mapping[str, Any],
        step: object,
        counter: str | None,
        at: Mapping[str, int] | None,
        wall_time: object,
    ) -> None:
        """Record a report of any kind, warn about what is wrong with it, or raise that if the run is strict."""
        try:
            with self._lock:
                self._complaints.raise_pending()
                if self._closed is not None:
                    self._complaints.closed(self._closed)
                    return
                wanted = None if counter is None else as_counter(counter)
                number = None if step is None else as_step(step)
                wall = None if wall_time is None else as_wall_time(wall_time)
                self._log_parts(scalars, number, wanted, as_at(at), wall)
        except (InvalidReportError, InvalidNameError) as error:
            self._complaints.dropped(error)
        except ContractError:
            raise
        except Exception:  # noqa: BLE001 - training is never harmed, not even by an error of ours
            self._complaints.bug()

    def _log_parts(
        self,
        scalars: Mapping[str, Any],
        step: int | None,
        counter: str | None,
        at: dict[str, int],
        wall_time: float | None,
    ) -> None:
        """One report for each counter that the tags belong to."""
        values, complaints = as_scalars(scalars)
        if complaints:
            self._complaints.values(complaints)
        numbers: dict[str, int] = {}
        split = self._router.split(tuple(values), counter)
        if len(split) == len({name for name, _ in split}) > 1 and not complaints:
            if len(self._splits) >= LANES_MAX:
                self._splits.clear()
            self._splits[tuple(values), counter] = split
        for name, tags in split:
            state = self._counters.get(name)
            if name not in numbers:  # more tags than fit into one report still stand at one step
                if step is None and counter is None:
                    self._check_choice(state, tags)
                numbers[name] = self._number(state, step)
            part = tuple(values[tag] for tag in tags)
            self._log_part(state, numbers[name], tags, part, at, wall_time, counter)

    def reject(self, what: str, error: Exception) -> None:
        """Complain of what could not even be made a report. Raises InvalidReportError if the run is strict."""
        said = InvalidReportError(f"{what}: {error or type(error).__name__}")
        said.__cause__ = error
        with self._lock:
            self._complaints.dropped(said)

    def _check_choice(self, state: CounterState, tags: Sequence[str]) -> None:
        """Tell of tags that go to the default counter because nobody said where, while the job moves others."""
        if state.name != DEFAULT_COUNTER or state.moved or state.placed or state.asked:
            return
        tag = next((tag for tag in tags if not self._router.routes(tag)), None)
        if tag is not None and (moved := self._counters.moved()):
            self._complaints.unrouted(tag, moved)

    def _number(self, state: CounterState, step: int | None) -> int:
        """The step of a report, which may be named."""
        number = state.upcoming() if step is None else step
        if step is not None:
            state.moved = state.placed = True
        elif state.implicit or not state.moved:
            self._check_place(state, number, told=False)
        return number

    def log_blob(
        self,
        tag: object,
        make: Callable[[], PendingBlob],
        step: object,
        counter: str | None,
        at: Mapping[str, int] | None,
        wall_time: object,
    ) -> None:
        """Record a report of a tag that is no scalar, by the rules of `log`.

        make: copies what the caller may change, and raises InvalidReportError if it is nothing that can be reported.
        """
        try:
            blob = make()
            with self._lock:
                self._complaints.raise_pending()
                if self._closed is not None:
                    self._complaints.closed(self._closed)
                    return
                wanted = None if counter is None else as_counter(counter)
                number = None if step is None else as_step(step)
                wall = None if wall_time is None else as_wall_time(wall_time)
                stands = as_at(at)
                ((name, tags),) = self._router.split((as_tag(tag),), wanted)
                state = self._counters.get(name)
                if number is None and wanted is None:
                    self._check_choice(state, tags)
                self._log_part(state, self._number(state, number), tags, (blob.bits,), stands, wall, wanted, blob)
        except (InvalidReportError, InvalidNameError) as error:
            self._complaints.dropped(error)
        except ContractError:
            raise
        except Exception:  # noqa: BLE001 - as above
            self._complaints.bug()

    def _log_part(
        self,
        state: CounterState,
        number: int,
        tags: tuple[str, ...],
        values: Sequence[float],
        at: dict[str, int],
        wall_time: float | None,
        counter: str | None,
        blob: PendingBlob | None = None,
    ) -> None:
        """One report of plain numbers, or of a blob, judged and kept; `counter` is what the caller named."""
        lane, others = self._lane(state, tags, at, blob)
        row = lane.pack(number, self._clock() if wall_time is None else wall_time, *others, *values)
        violation = self._counters.other_owner(state, tags, lane.kind) or state.check(number, lane, row)
        if violation is not None:
            self._standing.refused(state, number, lane, violation)
            self._complaints.violated(state.name, violation, tags)
        state.value = max(state.value, number)
        if self._sections.full:
            self._forget()
            self._complaints.full(self._sections.bytes_max)
            return
        if state.unclaimed:
            self._sections.take_over(names.gathered(state.name))
            self._counters.claimed(state)
        goal = self._apart_lane(lane, blob) if violation is not None and violation.apart else lane
        if blob is None:
            self._sections.add(goal, row)
        elif isinstance(goal, BlobLane):
            self._sections.add_blob(goal, row, blob)
        if violation is None:
            was_active = state.active
            if not state.accept(number, lane, row):
                self._standing.repeated(state, number)
            self._counters.own(state, tags, number, lane.kind)
            if not was_active and state.accompanies:
                self._activated()
            if not at and blob is None and self._router.whole(tags, counter):
                self._fast[tags, counter] = lane
                if counter is None and len(tags) == 1:
                    self._single[tags[0]] = lane

    def _forget(self) -> None:
        """Send the next report of each kind through the slow path."""
        self._fast.clear()
        self._single.clear()
        self._splits.clear()

    def _lane(
        self, state: CounterState, tags: tuple[str, ...], at: dict[str, int], blob: PendingBlob | None
    ) -> tuple[Lane, list[int]]:
        """The lane of such a report, and the `at` values that go into its row."""
        others = tuple(other for other in self._counters.active if other is not state)
        stands = {other.name: other.value for other in others} | at
        stands.pop(state.name, None)
        return self._find_lane(state, tags, tuple(stands), others, blob), list(stands.values())

    def _apart_lane(self, lane: Lane, blob: PendingBlob | None) -> Lane:
        return self._find_lane(lane.counter, lane.tags, lane.at_names, (), blob, apart=True)

    def _find_lane(
        self,
        state: CounterState,
        tags: tuple[str, ...],
        at_names: tuple[str, ...],
        others: tuple[CounterState, ...],
        blob: PendingBlob | None,
        *,
        apart: bool = False,
    ) -> Lane:
        what = None if blob is None else (blob.kind, blob.metadata)
        key = (state.name, tags, at_names, what, apart)
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= LANES_MAX:
                self._lanes.clear()
                self._forget()
            if blob is None:
                lane = Lane(state, tags, at_names, others, apart=apart)
            else:
                lane = BlobLane(state, tags[0], blob, at_names, others, apart=apart)
            self._lanes[key] = lane
        return lane

    def fail(self, error: ContractError) -> None:
        """Have the next call of a strict run raise what only the server could tell."""
        with self._lock:
            if self._complaints.fail(error):
                self._forget()

    def raise_pending(self) -> None:
        """Raise what `fail` left, once."""
        with self._lock:
            self._complaints.raise_pending()

    # ── counters ─────────────────────────────────────────────────────────────────────────────────────────────────

    def counter(self, name: str, create: Create = "auto") -> CounterState:
        """The counter of that name, made if need be. Raises InvalidNameError; ConfigurationError as `create` says."""
        with self._lock:
            if create != "auto":
                self._counters.demand(name, create, caller_line())
            state = self._counters.get(name)
            state.asked = True
            return state

    def is_placed(self, name: str) -> bool:
        """Whether it is known where a counter stands: of a run that is continued, the server has to say that first."""
        with self._lock:
            return self._counters.is_placed(name)

    def begin_at(self, next_steps: Mapping[str, int]) -> None:
        """Where tags' own counters go on: see Counters."""
        with self._lock:
            self._counters.begin_at(next_steps)

    def implicit_next_steps(self) -> dict[str, int]:
        """Where tags' own counters would go on."""
        with self._lock:
            return self._counters.implicit_next_steps()

    def set_total(self, name: str, total: int) -> None:
        """Say which step a counter is expected to reach."""
        with self._lock:
            self._counters.get(name).total = total
            self.amend({}, {name: CounterSpec(total=total)})

    def move(self, state: CounterState, by: int | None, to: object = None) -> None:
        """Move a counter by so much, or to a step; a step that is none is left out with a warning."""
        with self._lock:
            try:
                number = as_step(to) if by is None else moved_on(state.value, by)
            except InvalidReportError as error:
                self._complaints.unmoved(state.name, error)
                return
            self._check_place(state, number, told=by is None)
            state.value = number
            state.moved = True
            state.placed = state.placed or by is None
            if not state.active:
                state.active = True
                if state.accompanies:
                    self._activated()

    def note_reading(self, state: CounterState, reader: str, *, at_value: bool = False) -> None:
        """Somebody who expects a counter to move has read it: see Standing."""
        with self._lock:
            if self._closed is None:
                self._standing.read(state, reader, at_value=at_value)

    def tell_unlogged(self, state: CounterState, tag: str) -> None:
        """Say once that a schedule is not reported, because nobody has moved its counter."""
        with self._lock:
            self._complaints.unlogged(state.name, tag)

    def counters(self) -> dict[str, CounterState]:
        """All counters by name."""
        with self._lock:
            return self._counters.by_name()

    def adopt(self, counters: Mapping[str, CounterValue]) -> list[str]:
        """Take over where the server says that the counters of a continued run stand.

        Returns those that counted from 0 before this was known, though the run stands elsewhere.
        """
        with self._lock:
            wrong, unmet = self._counters.adopt(counters)
            self._forget()
            for demand in unmet:
                self._complaints.unmet(demand)
            return wrong

    def _check_place(self, state: CounterState, number: int, *, told: bool) -> None:
        """Complain of a counter that moves to where its points are another's, or before it is known where it stands."""
        if number < state.server_last:
            self._complaints.ahead(state, number)
        elif self._counters.is_unplaced(state) and not told:
            self._complaints.unplaced(state.name)

    def rewind(self, next_steps: Mapping[str, int], reason: str, values: Mapping[str, int]) -> None:
        """Go back, in order with what was logged before. `values`: what counters say then, if not next - 1."""
        with self._lock:
            if self._closed is not None:
                return
            self._sections.rewind(Rewind(next_steps=dict(next_steps), reason=reason))
            self._counters.rewind(next_steps, values)
            self._forget()

    def _activated(self) -> None:
        """A counter got its first value, which from now on goes into `at`."""
        self._counters.find_active()
        self._forget()

    # ── what else a run says, and the sender's end ───────────────────────────────────────────────────────────────

    def open(self, message: Open) -> None:
        """Say how the run begins, ahead of everything that is recorded later."""
        with self._lock:
            self._sections.open(message)

    def amend(self, config: Mapping[str, Any], counters: Mapping[str, CounterSpec]) -> None:
        """Add to the config, and to what is known of counters, of a run that is open."""
        with self._lock:
            if self._closed is None:
                self._sections.amend(config, counters)

    def alert(self, title: str, text: str, level: Level) -> None:
        """Record something that people should see. A strict run raises InvalidReportError if it makes no sense."""
        try:
            with self._lock:
                if self._closed is not None:
                    self._complaints.alert_dropped(self._closed)
                    return
                stands = self._counters.active[: limits.ALERT_COUNTERS_MAX]
                at: dict[str, int | float] = {state.name: state.value for state in stands}
                alert = as_alert(title, text, level, wall_time=self._clock(), at=at)
                if self._sections.alert(alert):
                    self._teller.tell(alert)
                else:
                    self._complaints.alert_dropped(f"{SECTION_ALERTS_MAX} wait to be sent, which is the most at once")
        except InvalidReportError as error:
            self._complaints.alert_invalid(error)
        except Exception:  # noqa: BLE001 - as above
            self._complaints.alert_bug()

    def summarise(self, values: Mapping[str, Any]) -> None:
        """Set summary values."""
        with self._lock:
            if self._closed is None:
                self._sections.summarise(values)

    def close(self, why: str, status: Status | None, summary: Mapping[str, Any]) -> int:
        """Record nothing more. Returns the number of the last section, as `mark` does."""
        with self._lock:
            if self._closed is None:
                self._sections.summarise(summary)
                self._sections.seal(status)
                self._closed = why
                self._forget()
            return self._sections.sealed

    def abandon(self, why: str) -> None:
        """In a forked child: forget what is the parent's to send, and take no lock that another thread held."""
        self._lock = threading.RLock()
        self._complaints.after_fork()
        self._closed = why
        self._sections = Discarded(self._tally, lambda: None)
        self._fast, self._single, self._splits, self._lanes = {}, {}, {}, {}

    def mark(self) -> int:
        """Close the section at hand. Returns how many sections were closed so far: what a flush waits for."""
        with self._lock:
            self._sections.seal()
            if self._sections.full:
                self._forget()
            return self._sections.sealed

    @property
    def crowded(self) -> bool:
        """Whether a closed section waits."""
        return self._sections.waiting

    def take(self) -> list[Section]:
        """All that was recorded since, in order; the sender's now.

        The section at hand is left out if the lock can't be had: it may belong to a thread whose signal handler
        waits for the sender to finish.
        """
        if self._lock.acquire(timeout=TAKE_TIMEOUT_S):
            try:
                self._sections.seal()
            finally:
                self._lock.release()
        return [section.encoded(self._complaints.unencodable) for section in self._sections.fetch()]

"""The counters of a run, as one process sees them: where they stand together, and which tags are whose."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from tallyboard.collect.tracking import NOTHING, CounterState, Violation
from tallyboard.errors import ConfigurationError
from tallyboard.wire import CounterValue, InvalidNameError, limits, names

_ALL: Final = names.ALL_IMPLICIT

Create = Literal["auto", "new", "existing"]
"""Whether a counter may be there already, or has to: see `Run.counter`."""


class Owner(NamedTuple):
    """Of a tag: its counter, and the first visible step."""

    counter: str
    first: int


class Demand(NamedTuple):
    """A counter was asked for as one that the run has, or has not, before the server had said which it has."""

    counter: str
    create: Create
    where: str


class Counters:
    """Guarded by the recorder's lock; but a signal handler may add to what is being looked through.

    resumed: the run may have been begun by another process, whose counters this one then takes over. active: those
    with a value, which `at` records beside each report (never a tag's own, of which there may be thousands, nor the
    machine's, which moves with the clock).
    """

    def __init__(self, *, resumed: bool) -> None:
        self._resumed = resumed
        self._told = not resumed  # whether the server has said where they stand
        self._states: dict[str, CounterState] = {}
        self._elsewhere: frozenset[str] = frozenset()  # those that the server says the run has
        self._demands: dict[str, Demand] = {}
        self._named = 0
        self._owners: dict[str, Owner] = {}
        self._kinds: dict[str, str] = {}  # of each tag, for good: scalars, images, …
        self._implicit_unclaimed = resumed
        self._implicit_next = 0  # where tags' own counters begin that are not known here yet, unless it is
        self._begin_at: Mapping[str, int] = {}  # told of each by itself
        self.active: tuple[CounterState, ...] = ()

    def get(self, name: str) -> CounterState:
        """The counter of that name, made if need be. Raises InvalidNameError."""
        state = self._states.get(name)
        return self._make(name) if state is None else state

    def demand(self, name: str, create: Create, where: str) -> None:
        """Raise ConfigurationError if the run has a counter that is to be new, or has none that is to exist.

        What another process counted on a run that is continued is not known before the server has answered; `adopt`
        returns then those that are not met. where: the line that asks.
        """
        names.check_any_counter(name)
        there = name in self._states or name in self._elsewhere
        if create == "new" and there:
            raise ConfigurationError(f"the run has a counter {name!r}, and create='new' asks for one that it has not")
        if not there and not self._knows(implicit=names.is_implicit(name)):
            self._demands[name] = Demand(name, create, where)
        elif create == "existing" and not there:
            known = sorted(self._elsewhere.union(n for n in list(self._states) if not names.is_implicit(n)))
            raise ConfigurationError(
                f"the run has no counter {name!r}, and create='existing' asks for one that it has; there"
                f" {'are ' + ', '.join(known) if known else 'is none'}"
            )

    def _make(self, name: str) -> CounterState:
        names.check_any_counter(name)
        if name == _ALL:
            raise InvalidNameError(f"{_ALL} stands for all tags' own counters; name one of them")
        implicit = names.is_implicit(name)
        bound = limits.TAGS_PER_RUN_MAX if implicit else limits.COUNTERS_PER_RUN_MAX
        if (len(self._states) - self._named if implicit else self._named) >= bound:
            raise InvalidNameError(f"more than {bound} counters in one run")
        made = CounterState(name, unclaimed=self._implicit_unclaimed if implicit else self._resumed)
        if implicit:
            made.origin = self._begin_at.get(name, self._implicit_next)
            made.placed = made.origin > 0
        state = self._states.setdefault(name, made)  # which a signal handler may have made meanwhile
        if state is made:
            self._named += not implicit
        return state

    def by_name(self) -> dict[str, CounterState]:
        """All of them."""
        return dict(self._states)

    def find_active(self) -> None:
        """A counter got its first value, or may have lost it."""
        self.active = tuple(state for state in list(self._states.values()) if state.active and state.accompanies)

    def beside(self, state: CounterState) -> tuple[int, ...]:
        """Where the run's other counters are."""
        return tuple(other.value for other in self.active if other is not state)

    def is_unplaced(self, state: CounterState) -> bool:
        """Whether nobody has said yet where a counter stands, neither the service nor the job."""
        return not (state.placed or self._knows(implicit=state.implicit))

    def is_placed(self, name: str) -> bool:
        """Whether it is known where a counter stands, which the run may not have."""
        state = self._states.get(name)
        return self._knows(implicit=names.is_implicit(name)) if state is None else not self.is_unplaced(state)

    def _knows(self, *, implicit: bool) -> bool:
        """Whether the run's counters are known; of tags' own, the service does not tell."""
        return not self._resumed if implicit else self._told

    def claimed(self, state: CounterState) -> None:
        """A counter is taken over; if it is a tag's own, all those are."""
        if state.implicit:
            self._implicit_unclaimed = False
            for other in list(self._states.values()):
                if other.implicit:
                    other.unclaimed = False
        state.unclaimed = False

    def adopt(self, counters: Mapping[str, CounterValue]) -> tuple[list[str], list[Demand]]:
        """Go on where the server says that the counters of a continued run stand.

        Returns those that counted from 0 before this was known, though the run stands elsewhere; and the demands that
        are not met.
        """
        self._told = True
        self._elsewhere = frozenset(counters)
        known = {name: value.last_step for name, value in counters.items() if value.last_step is not None}
        unmet = [demand for demand in list(self._demands.values()) if not self._is_met(demand, known)]
        self._demands = {}
        wrong = [name for name, last_step in known.items() if not self.get(name).adopt(last_step)]
        self.find_active()
        return wrong, unmet

    def _is_met(self, demand: Demand, known: Mapping[str, int]) -> bool:
        if demand.create == "existing":
            return demand.counter in self._elsewhere
        mine = self.get(demand.counter).last  # the first batch may have held reports of this job's own
        return known.get(demand.counter, NOTHING) <= mine

    def begin_at(self, next_steps: Mapping[str, int]) -> None:
        """Where tags' own counters go on: as an earlier writer of this process left them."""
        self._begin_at = dict(next_steps)

    def rewind(self, next_steps: Mapping[str, int], values: Mapping[str, int]) -> None:
        """Go back. `values`: what counters say then, if not next - 1."""
        if _ALL in next_steps:
            self._implicit_next = next_steps[_ALL]
            self._implicit_unclaimed = False
            self._begin_at = {}
        for name, next_step in self._each(next_steps).items():
            state = self.get(name)
            state.rewind(next_step)
            if name in values:
                state.put(values[name])
        self._owners = {tag: owner for tag, owner in list(self._owners.items()) if not _superseded(owner, next_steps)}
        self.find_active()

    def _each(self, next_steps: Mapping[str, int]) -> dict[str, int]:
        """With those that `tag:*` stands for one by one."""
        each = {name: next_steps[_ALL] for name in list(self._states) if _ALL in next_steps and names.is_implicit(name)}
        return each | {name: step for name, step in next_steps.items() if name != _ALL}

    def own(self, state: CounterState, tags: Sequence[str], step: int, kind: str) -> None:
        """Take note of tags that were reported against a counter."""
        for tag in tags:
            self._owners.setdefault(tag, Owner(state.name, step))
            self._kinds.setdefault(tag, kind)

    def other_owner(self, state: CounterState, tags: Sequence[str], kind: str) -> Violation | None:
        """The rule that is broken if one of the tags is another counter's, or of another kind."""
        for tag in tags:
            owner = self._owners.get(tag)
            if owner is not None and owner.counter != state.name:
                detail = f"{tag!r} is reported against {owner.counter}, not {state.name}: a tag belongs to one counter"
                return Violation("tag_of_other_counter", f"{detail}. Use that counter, or another tag", apart=True)
            if self._kinds.get(tag, kind) != kind:
                detail = f"{tag!r} holds {self._kinds[tag]}, not {kind}: a tag is of one kind. Use another tag"
                return Violation("tag_of_other_kind", detail, apart=True)
        return None

    def implicit_next_steps(self) -> dict[str, int]:
        """Where tags' own counters go on, for a later writer of this process."""
        known = {name: state.upcoming() for name, state in list(self._states.items()) if state.implicit}
        return {**self._begin_at, **{name: step for name, step in known.items() if step}}


def _superseded(owner: Owner, next_steps: Mapping[str, int]) -> bool:
    step = next_steps.get(owner.counter)
    if step is None and names.is_implicit(owner.counter):
        step = next_steps.get(_ALL)
    return step is not None and owner.first >= step

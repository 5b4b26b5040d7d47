"""The counters of a run, as one process sees them: where they stand together, and which tags are whose."""

from collections.abc import Mapping, Sequence

from tallyboard.collect.tracking import CounterState, Violation
from tallyboard.wire import CounterValue, InvalidNameError, check_counter, limits


class Counters:
    """Guarded by the recorder's lock; but a signal handler may add to what is being looked through.

    resumed: the run may have been begun by another process, whose counters this one then takes over. active: those
    with a value, which `at` records beside each report.
    """

    def __init__(self, *, resumed: bool) -> None:
        self._resumed = resumed
        self._told = not resumed  # whether the server has said where they stand
        self._states: dict[str, CounterState] = {}
        self._owners: dict[str, tuple[str, int]] = {}  # of each tag: its counter, and its first visible step
        self.active: tuple[CounterState, ...] = ()

    def get(self, name: str) -> CounterState:
        """The counter of that name, made if need be. Raises InvalidNameError."""
        state = self._states.get(name)
        if state is None:
            if len(self._states) >= limits.COUNTERS_PER_RUN_MAX:
                raise InvalidNameError(f"more than {limits.COUNTERS_PER_RUN_MAX} counters in one run")
            state = self._states[name] = CounterState(check_counter(name), unclaimed=self._resumed)
        return state

    def by_name(self) -> dict[str, CounterState]:
        """All of them."""
        return dict(self._states)

    def find_active(self) -> None:
        """A counter got its first value, or may have lost it."""
        self.active = tuple(state for state in list(self._states.values()) if state.active)

    def is_unplaced(self, state: CounterState) -> bool:
        """Whether nobody has said yet where a counter stands, neither the service nor the job."""
        return not (self._told or state.placed)

    def adopt(self, counters: Mapping[str, CounterValue]) -> list[str]:
        """Go on where the server says that the counters of a continued run stand.

        Returns those that counted from 0 before this was known, though the run stands elsewhere.
        """
        self._told = True
        known = {name: value.last_step for name, value in counters.items() if value.last_step is not None}
        wrong = [name for name, last_step in known.items() if not self.get(name).adopt(last_step)]
        self.find_active()
        return wrong

    def rewind(self, next_steps: Mapping[str, int], values: Mapping[str, int]) -> None:
        """Go back. `values`: what counters say then, if not next - 1."""
        for name, next_step in next_steps.items():
            state = self.get(name)
            state.rewind(next_step)
            if name in values:
                state.put(values[name])
        self._owners = {
            tag: (name, first)
            for tag, (name, first) in list(self._owners.items())
            if name not in next_steps or first < next_steps[name]
        }
        self.find_active()

    def own(self, state: CounterState, tags: Sequence[str], step: int) -> None:
        """Take note of tags that were reported against a counter."""
        for tag in tags:
            self._owners.setdefault(tag, (state.name, step))

    def other_owner(self, state: CounterState, tags: Sequence[str]) -> Violation | None:
        """The rule that is broken if one of the tags is another counter's."""
        for tag in tags:
            owner, _ = self._owners.get(tag, (state.name, 0))
            if owner != state.name:
                detail = f"{tag!r} is reported against {owner}, not {state.name}: a tag belongs to one counter"
                return Violation("tag_of_other_counter", f"{detail}. Use that counter, or another tag", apart=True)
        return None

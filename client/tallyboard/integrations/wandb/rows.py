"""wandb's steps: calls of `log` become rows, each with a step, which go out once the step is over."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tallyboard.collect.reports import as_step
from tallyboard.errors import InvalidReportError


@dataclass(slots=True, frozen=True)
class Row:
    """What was logged at a step: the last value of each key."""

    step: Any
    values: Mapping[str, Any]


class Rows:
    """Rules as wandb has them: its first step is 0, a call without `step` ends the step unless `commit=False`.

    With `step`, the step goes on until a later one comes, or `commit=True`. An earlier one wandb ignores with a
    warning; here it comes out as a row, for the step contract to refuse.
    """

    def __init__(self, first: int) -> None:
        self.step = first
        self._pending: dict[str, Any] = {}

    def add(self, values: Mapping[str, Any], step: Any, commit: bool | None) -> list[Row]:
        """Take what one call logs. Returns the rows that are complete, in order."""
        rows: list[Row] = []
        if step is not None:
            try:
                number = as_step(step)
            except InvalidReportError:
                return [Row(step, values)]  # which nothing takes: it is for the report to say so
            if number < self.step:
                return [*self.take(), Row(number, values)]
            if number > self.step:
                rows = self.take()
                self.step = number
        self._pending = {**self._pending, **values}
        if commit or (step is None and commit is None):
            rows += self.take()
            self.step += 1
        return rows

    def take(self) -> list[Row]:
        """The row under way, which ends early; [] if there is none."""
        values, self._pending = self._pending, {}
        return [Row(self.step, values)] if values else []

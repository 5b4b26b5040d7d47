"""What a filter says, as a tree: whether it holds for a run, and how one would write it."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final, Literal

from tallyboard_server.runtable.columns import Column, quoted

Operator = Literal["=", "!=", "<", "<=", ">", ">=", "~", "!~"]

_WILD: Final = frozenset("*?[")


@dataclass(slots=True, frozen=True)
class Constant:
    """A value that is written down; None is null."""

    value: str | float | bool | None

    @property
    def text(self) -> str:
        """As one would write it."""
        if self.value is None or isinstance(self.value, bool):
            return {None: "null", True: "true", False: "false"}[self.value]
        return quoted(self.value) if isinstance(self.value, str) else repr(self.value)


@dataclass(slots=True, frozen=True)
class Comparison:
    """left operator right; one of them is a column. With null, the operator is = or !=."""

    left: Column | Constant
    operator: Operator
    right: Column | Constant

    @property
    def text(self) -> str:
        """As one would write it."""
        return f"{self.left.text} {self.operator} {self.right.text}"

    def holds(self, values: Mapping[str, Any]) -> bool:
        """For a run with these values (by the columns' text; None is missing)."""
        left, right = _value(self.left, values), _value(self.right, values)
        if Constant(None) in (self.left, self.right):
            return (left is None and right is None) == (self.operator == "=")
        return compares(left, self.operator, right)


@dataclass(slots=True, frozen=True)
class Membership:
    """A column's value is one of several; null among them: it may be missing. negated: is none of them, and known."""

    column: Column
    options: tuple[Constant, ...]
    negated: bool

    @property
    def text(self) -> str:
        """As one would write it."""
        options = ", ".join(option.text for option in self.options)
        return f"{self.column.text} {'not in' if self.negated else 'in'} ({options})"

    def holds(self, values: Mapping[str, Any]) -> bool:
        """See Comparison.holds."""
        value = values[self.column.text]
        if value is None:
            return not self.negated and any(option.value is None for option in self.options)
        return self.negated != any(compares(value, "=", option.value) for option in self.options)


@dataclass(slots=True, frozen=True)
class Negation:
    """The condition does not hold."""

    condition: "Condition"

    @property
    def text(self) -> str:
        """As one would write it."""
        return f"not {_inside(self.condition, Joined)}"

    def holds(self, values: Mapping[str, Any]) -> bool:
        """See Comparison.holds."""
        return not self.condition.holds(values)


@dataclass(slots=True, frozen=True)
class Joined:
    """Two conditions or more: all of them hold (`and`), or at least one (`or`)."""

    word: Literal["and", "or"]
    conditions: "tuple[Condition, ...]"

    @property
    def text(self) -> str:
        """As one would write it."""
        return f" {self.word} ".join(_inside(condition, Joined) for condition in self.conditions)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """See Comparison.holds."""
        if self.word == "and":
            return all(condition.holds(values) for condition in self.conditions)
        return any(condition.holds(values) for condition in self.conditions)


Condition = Comparison | Membership | Negation | Joined


@dataclass(slots=True, frozen=True)
class Where:
    """A condition as tables take it."""

    condition: Condition

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it asks for."""
        return tuple(dict.fromkeys(columns_of(self.condition)))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """See Comparison.holds."""
        return self.condition.holds(values)


def columns_of(condition: Condition) -> Iterator[Column]:
    """The columns that it asks for; one may come several times."""
    match condition:
        case Comparison():
            yield from (side for side in (condition.left, condition.right) if isinstance(side, Column))
        case Membership():
            yield condition.column
        case Negation():
            yield from columns_of(condition.condition)
        case Joined():
            for part in condition.conditions:
                yield from columns_of(part)


def compares(left: Any, operator: Operator, right: Any) -> bool:
    """Whether two values are so; never if one is missing.

    A list is so if one of its items is. Values of different kinds are not equal, and neither less nor greater. NaN
    equals NaN, and is neither less nor greater than anything.
    """
    if left is None or right is None:
        return False
    if operator in ("!=", "!~"):
        return not compares(left, "=" if operator == "!=" else "~", right)
    if isinstance(left, list):
        return any(compares(item, operator, right) for item in left)
    if isinstance(right, list):
        return any(compares(left, operator, item) for item in right)
    if operator == "~":
        return isinstance(left, str) and isinstance(right, str) and matches(left, right)
    if not (_is_number(left) and _is_number(right)) and not (isinstance(left, str) and isinstance(right, str)):
        return operator == "=" and isinstance(left, bool) and isinstance(right, bool) and left is right
    return _ordered(left, operator, right)


def matches(text: str, pattern: str) -> bool:
    """Whether text holds a pattern, in any case; a pattern with *, ? or [abc] is one for the whole text, as in a shell.

    The time is bounded by the product of both lengths, whatever the pattern.
    """
    text, pattern = text.casefold(), pattern.casefold()
    return _glob(pattern).match(text) is not None if _WILD.intersection(pattern) else pattern in text


@lru_cache(maxsize=256)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))  # each * is atomic: no backtracking from one into another


def _ordered(left: Any, operator: Operator, right: Any) -> bool:
    match operator:
        case "=":
            return bool(left == right) or (_is_nan(left) and _is_nan(right))
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
        case _:
            return bool(left >= right)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _value(side: Column | Constant, values: Mapping[str, Any]) -> Any:
    return side.value if isinstance(side, Constant) else values[side.text]


def _inside(condition: Condition, *kinds: type) -> str:
    return f"({condition.text})" if isinstance(condition, kinds) else condition.text

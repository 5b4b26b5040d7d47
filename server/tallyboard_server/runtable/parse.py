"""Filters, sorts and lists of columns, read from text by recursive descent: bounded in length, depth and columns."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, Never, TypeVar, cast

from tallyboard_server.runtable.columns import (
    BEST,
    DOCUMENTS,
    FIGURES,
    INCIDENTS,
    KINDS_TOLD,
    LIVE_COLUMNS,
    OF_ALERTS,
    OF_COUNTERS,
    REFUSED,
    RUN_COLUMNS,
    Column,
)
from tallyboard_server.runtable.conditions import (
    Comparison,
    Condition,
    Constant,
    Joined,
    Membership,
    Negation,
    Operator,
    columns_of,
)
from tallyboard_server.runtable.tokens import ExpressionError, Token, tokens

FILTER_CHARS_MAX: Final = 4_000
COLUMNS_CHARS_MAX: Final = 16_000
DEPTH_MAX: Final = 20
"""How deep parentheses and nots may be nested."""
COLUMNS_MAX: Final = 100
SORT_MAX: Final = 8
FILTER_COLUMNS_MAX: Final = 20
"""Different columns in a filter: they are looked up for every run, shown or not."""

FILTER_EXAMPLE: Final = "config.lr < 0.01 and last.loss < 0.2"
COLUMNS_EXAMPLE: Final = "name,config.lr,last.loss,at_min(test/acc, val/loss)"
SORT_EXAMPLE: Final = "-last.loss,name"

_OPERATORS: Final = ("=", "!=", "<", "<=", ">", ">=", "~", "!~")
_NUMBER: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)(s|min|h|d)?", re.ASCII | re.IGNORECASE)
_INTEGER: Final = re.compile(r"[+-]?\d+", re.ASCII)
_UNITS_S: Final = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z?)?", re.ASCII | re.IGNORECASE)
_WORDS: Final = {
    "null": None, "true": True, "false": False, "nan": math.nan, "inf": math.inf, "+inf": math.inf, "-inf": -math.inf,
}  # fmt: skip
_VALUES_TOLD: Final = 'a number, a "text", a date such as 2026-05-01, true, false or null'
_T = TypeVar("_T")


@dataclass(slots=True, frozen=True)
class SortKey:
    """One column to order by."""

    column: Column
    descending: bool = False

    @property
    def text(self) -> str:
        """As one would write it."""
        return f"{'-' if self.descending else ''}{self.column.text}"


def parse_filter(source: str) -> Condition:
    """The condition that a filter states. Raises ExpressionError."""
    reader = _Reader(source, FILTER_CHARS_MAX, FILTER_EXAMPLE)
    condition = reader.condition()
    if reader.here.kind != "end":
        reader.fail("and, or, or the end")
    if len(set(columns_of(condition))) > FILTER_COLUMNS_MAX:
        raise ExpressionError(1, f"more than {FILTER_COLUMNS_MAX} different columns in one filter")
    return condition


def parse_columns(source: str) -> list[tuple[str, Column]]:
    """The columns of a list with commas, each with how it was written. Raises ExpressionError."""
    reader = _Reader(source, COLUMNS_CHARS_MAX, COLUMNS_EXAMPLE)

    def item() -> tuple[str, Column]:
        start = reader.here.start
        column = reader.column()
        return source[start : reader.before.end], column

    return reader.listed(item, COLUMNS_MAX)


def parse_sort(source: str) -> list[SortKey]:
    """The columns to order by, with a - before those that descend. Raises ExpressionError."""
    reader = _Reader(source, FILTER_CHARS_MAX, SORT_EXAMPLE)
    return reader.listed(reader.sort_key, SORT_MAX)


class _Reader:
    """Tokens from left to right."""

    def __init__(self, source: str, chars_max: int, example: str) -> None:
        self._example = example
        if len(source) > chars_max:
            raise ExpressionError(chars_max + 1, f"longer than {chars_max} characters; make it shorter")
        self._tokens = tokens(source)
        self._at = 0

    @property
    def here(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._at]

    @property
    def before(self) -> Token:
        """The token that was taken last."""
        return self._tokens[self._at - 1]

    def take(self) -> Token:
        """The next token, which is behind then; the end is never."""
        token = self.here
        if token.kind != "end":
            self._at += 1
        return token

    def fail(self, expected: str, at: Token | None = None) -> Never:
        """Say what should stand here, or there."""
        token = at or self.here
        found = "the end" if token.kind == "end" else repr(token.content)
        raise ExpressionError(token.start + 1, f"expected {expected}, found {found}; for example: {self._example}")

    def expect(self, sign: str) -> None:
        """Take a sign."""
        if not self.here.is_sign(sign):
            self.fail(repr(sign))
        self.take()

    def listed(self, item: Callable[[], _T], items_max: int) -> list[_T]:
        """Items with commas between them, up to the end."""
        found = [item()]
        while self.here.kind != "end":
            self.expect(",")
            if len(found) == items_max:
                raise ExpressionError(self.here.start + 1, f"more than {items_max} columns")
            found.append(item())
        return found

    def sort_key(self) -> SortKey:
        """A column, a - before it if it descends."""
        token = self.here
        descending = token.kind == "word" and token.parts[0].startswith("-")
        if descending:
            name, *rest = token.parts
            self._tokens[self._at] = replace(token, parts=(name[1:], *rest), start=token.start + 1)
        return SortKey(self.column(), descending)

    def condition(self, depth: int = 0) -> Condition:
        """Conditions with `or` between them."""
        return self._joined("or", depth)

    def _joined(self, word: Literal["and", "or"], depth: int) -> Condition:
        """Conditions with a word between them; `and` binds closer."""
        parts = [self._part(word, depth)]
        while self.here.is_word(word):
            self.take()
            parts.append(self._part(word, depth))
        return parts[0] if len(parts) == 1 else Joined(word, tuple(parts))

    def _part(self, word: Literal["and", "or"], depth: int) -> Condition:
        return self._joined("and", depth) if word == "or" else self._single(depth)

    def _single(self, depth: int) -> Condition:
        """A comparison, `not` and a single condition, or conditions in parentheses."""
        if depth > DEPTH_MAX:
            raise ExpressionError(self.here.start + 1, f"nested deeper than {DEPTH_MAX}")
        if self.here.is_word("not"):
            self.take()
            return Negation(self._single(depth + 1))
        if self.here.is_sign("("):
            self.take()
            condition = self.condition(depth + 1)
            self.expect(")")
            return condition
        return self._comparison()

    def _comparison(self) -> Condition:
        begin = self.here
        left = self._side()
        if isinstance(left, Column) and self.here.is_word("in", "not"):
            return self._membership(left)
        if not self.here.is_sign(*_OPERATORS):
            if isinstance(left, Column) and (self.here.kind == "end" or self.here.is_sign(")") or self._joins()):
                return Comparison(left, "=", Constant(True))
            self.fail(f"{', '.join(_OPERATORS)} or in")
        operator = cast("Operator", self.take().content)
        right = self._side()
        if not isinstance(left, Column) and not isinstance(right, Column):
            self.fail("a column on one side of the comparison", begin)
        if Constant(None) in (left, right) and operator not in ("=", "!="):
            self.fail("= or != beside null", begin)
        return Comparison(left, operator, right)

    def _membership(self, column: Column) -> Membership:
        negated = self.take().is_word("not")
        if negated and not self.take().is_word("in"):
            self.fail("in after not", self.before)
        self.expect("(")
        options = [self._constant()]
        while not self.here.is_sign(")"):
            self.expect(",")
            options.append(self._constant())
        self.take()
        return Membership(column, tuple(options), negated)

    def _joins(self) -> bool:
        return self.here.is_word("and", "or")

    def _side(self) -> Column | Constant:
        """What is compared: a constant or a column."""
        constant = self._try_constant()
        return self.column() if constant is None else constant

    def _constant(self) -> Constant:
        constant = self._try_constant()
        return self.fail(_VALUES_TOLD) if constant is None else constant

    def _try_constant(self) -> Constant | None:
        """A constant, taken; None if none stands here."""
        token = self.here
        if token.kind == "text":
            return Constant(self.take().content)
        word = token.content.casefold()
        if token.kind != "word":
            return None
        if word in _WORDS:
            self.take()
            return Constant(_WORDS[word])
        if number := _NUMBER.fullmatch(word):
            self.take()
            return Constant(_number(number.group(1), number.group(2)))
        if _DATE.fullmatch(word):
            return Constant(self._date(self.take()))
        return None

    def _date(self, token: Token) -> float:
        try:
            return datetime.fromisoformat(token.content.upper().removesuffix("Z")).replace(tzinfo=UTC).timestamp()
        except ValueError:
            self.fail("a date of the calendar", token)

    def column(self) -> Column:
        """A column, taken."""
        token = self.here
        if token.kind != "word":
            self.fail("a column" if token.kind == "text" else "a column or a value")
        self.take()
        kind, *rest = token.parts
        if kind in BEST and not rest:
            return self._best(kind)
        if kind in (*RUN_COLUMNS, *LIVE_COLUMNS, REFUSED, *OF_ALERTS, INCIDENTS) and not rest:
            return Column(kind)
        if any(rest) and kind in DOCUMENTS:
            return Column(kind, tuple(rest))
        if any(rest) and (kind in FIGURES or kind in OF_COUNTERS):
            return Column(kind, (".".join(rest),))
        raise ExpressionError(
            token.start + 1,
            f"there is no column {token.content!r}. Text goes in quotes; columns are {KINDS_TOLD}. For example: "
            f"{self._example}",
        )

    def _best(self, kind: str) -> Column:
        self.expect("(")
        tag = self._tag()
        self.expect(",")
        by = self._tag()
        self.expect(")")
        return Column(kind, (tag, by))

    def _tag(self) -> str:
        if self.here.kind not in ("word", "text") or not self.here.content:
            self.fail("a tag")
        return self.take().content


def _number(digits: str, unit: str | None) -> int | float:
    number = int(digits) if _INTEGER.fullmatch(digits) else float(digits)
    return number * _UNITS_S[unit] if unit else number

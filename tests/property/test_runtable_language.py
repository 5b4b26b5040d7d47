"""Filters and sorts of any kind: read back as written, true as Python has it, and never more than an error."""

import math
import operator
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from functools import cmp_to_key, partial
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallyboard_server.runtable import Column, Condition, ExpressionError, SortKey, Where, parse_columns, parse_filter
from tallyboard_server.runtable.columns import BEST, DOCUMENTS, FIGURES, LIVE_COLUMNS, RUN_COLUMNS
from tallyboard_server.runtable.conditions import Comparison, Constant, Joined, Membership, Negation
from tallyboard_server.runtable.cursor import Place, open_place, seal_place
from tallyboard_server.runtable.ordering import ranks, row_key
from tallyboard_server.runtable.parse import FILTER_CHARS_MAX, parse_sort

names = st.text(min_size=1, max_size=8) | st.sampled_from(["loss", "val/loss", "a b", 'q"q', "a.b", "in", "-1", "x\\"])
words = st.sampled_from([*RUN_COLUMNS, *LIVE_COLUMNS]).map(Column)
documents = st.builds(Column, st.sampled_from(DOCUMENTS), st.lists(names, min_size=1, max_size=3).map(tuple))
figures = st.builds(Column, st.sampled_from([*FIGURES, "counters"]), st.tuples(names))
bests = st.builds(Column, st.sampled_from(BEST), st.tuples(names, names))
columns = words | documents | figures | bests

scalars = st.one_of(
    st.booleans(), st.integers(-3, 3), st.integers(),
    st.sampled_from([0.5, -0.0, 1e300, math.nan, math.inf, -math.inf]),
    st.floats(allow_nan=False), st.sampled_from(["", "a", "B", "ab", "a*", "[x]"]), st.text(max_size=5),
)  # fmt: skip
# The one NaN object that parsing gives, so that conditions which are equal compare as equal.
constants = scalars.map(lambda value: Constant(math.nan if value != value else value)) | st.just(Constant(None))
OPERATORS = ("=", "!=", "<", "<=", ">", ">=", "~", "!~")


@st.composite
def comparisons(draw: st.DrawFn, column: st.SearchStrategy[Column]) -> Comparison:
    sides: list[Column | Constant] = [draw(column), draw(constants | column)]
    if draw(st.booleans()):
        sides.reverse()
    allowed = OPERATORS[:2] if Constant(None) in sides else OPERATORS
    return Comparison(sides[0], cast("Any", draw(st.sampled_from(allowed))), sides[1])


def conditions(column: st.SearchStrategy[Column]) -> st.SearchStrategy[Condition]:
    memberships = st.builds(Membership, column, st.lists(constants, min_size=1, max_size=3).map(tuple), st.booleans())

    def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, min_size=2, max_size=3).map(tuple)
        return st.builds(Negation, inner) | st.builds(Joined, st.sampled_from(["and", "or"]), several)

    return st.recursive(comparisons(column) | memberships, larger, max_leaves=6)


@given(conditions(columns))
def test_what_is_written_is_read_back(condition: Condition) -> None:
    assert repr(parse_filter(condition.text)) == repr(condition)


@given(st.lists(columns, min_size=1, max_size=5), st.data())
def test_columns_and_sorts_are_read_back(several: list[Column], data: st.DataObject) -> None:
    assert parse_columns(" ,\n".join(c.text for c in several)) == [(c.text, c) for c in several]
    sort = [SortKey(column, data.draw(st.booleans())) for column in several]
    assert parse_sort(",".join(key.text for key in sort)) == sort


pieces = st.sampled_from(
    ["and", "or", "not", "in", "(", ")", ",", "<", "=", "!=", "!", "~", '"', "'", "\\", " ", ".", "config.",
     "last.loss", "at_min", "0.1", "1e5", "7d", "2026-05-01", "2026-99-99", "null", "nan", "-", "\n", "\x00", "é"]
)  # fmt: skip


def refusal(parse: Callable[[str], Any], source: str) -> ExpressionError | None:
    try:
        parse(source)
    except ExpressionError as error:
        return error
    return None


@settings(max_examples=400)
@given(st.text(max_size=60) | st.lists(pieces, max_size=30).map(" ".join) | st.lists(pieces, max_size=30).map("".join))
def test_any_text_is_read_or_refused_with_its_place(source: str) -> None:
    for parse in cast("list[Callable[[str], Any]]", [parse_filter, parse_columns, parse_sort]):
        if (error := refusal(parse, source)) is not None:
            assert 1 <= error.position <= len(source) + 1
            assert str(error) == f"at character {error.position}: {error.detail}"


@pytest.mark.parametrize("piece", ["(", "not ", "a", "last(", '"', "config.a=1 and ", "x,", "at_min(", "[*", "1"])
def test_long_and_deep_texts_are_refused(piece: str) -> None:
    for parse in cast("list[Callable[[str], Any]]", [parse_filter, parse_columns, parse_sort]):
        with pytest.raises(ExpressionError):
            parse(piece * 20_000)
        with pytest.raises(ExpressionError):
            parse(piece * (FILTER_CHARS_MAX // len(piece)))


KEYS = [Column("config", (name,)) for name in "abc"]
values = st.fixed_dictionaries(
    {key.text: st.none() | scalars | st.lists(scalars, max_size=3) | st.just({"x": 1}) for key in KEYS}
)

PYTHON: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def alike(left: Any, right: Any) -> bool:
    """Whether Python may compare two values the way the language does."""
    kinds = [bool if isinstance(v, bool) else float if isinstance(v, (int, float)) else type(v) for v in (left, right)]
    return kinds[0] is kinds[1] and kinds[0] in (bool, float, str)


def plain(left: Any, sign: str, right: Any) -> bool:
    """One value against another, as docs/filters.md has it."""
    if not alike(left, right):
        return False
    if sign == "~":
        if not isinstance(left, str):
            return False
        text, pattern = left.casefold(), right.casefold()
        return fnmatchcase(text, pattern if set(pattern) & set("*?[") else f"*{pattern}*")
    if isinstance(left, bool) and sign != "=":
        return False
    if sign == "=" and left != left and right != right:
        return True
    return bool(PYTHON[sign](left, right))


def says(condition: Condition, row: Mapping[str, Any]) -> bool:
    """Whether a condition holds, by its definition."""

    def value(side: Column | Constant) -> Any:
        return row[side.text] if isinstance(side, Column) else side.value

    def several(side: Any) -> list[Any]:
        return side if isinstance(side, list) else [side]

    match condition:
        case Negation():
            return not says(condition.condition, row)
        case Joined():
            found = [says(part, row) for part in condition.conditions]
            return all(found) if condition.word == "and" else any(found)
        case Membership():
            options = [Comparison(condition.column, "!=" if condition.negated else "=", o) for o in condition.options]
            found = [
                says(option, row) for option in options if not (condition.negated and option.right == Constant(None))
            ]
            if condition.negated:
                return row[condition.column.text] is not None and all(found)
            return any(found)
    left, right = value(condition.left), value(condition.right)
    if Constant(None) in (condition.left, condition.right):
        return (left is None and right is None) == (condition.operator == "=")
    if left is None or right is None:
        return False
    sign = {"!=": "=", "!~": "~"}.get(condition.operator, condition.operator)
    return (sign != condition.operator) != any(plain(a, sign, b) for a in several(left) for b in several(right))


@settings(max_examples=400)
@given(conditions(st.sampled_from(KEYS)), values)
def test_a_filter_is_true_as_it_is_defined(condition: Condition, row: dict[str, Any]) -> None:
    where = Where(condition)
    assert set(where.columns) <= set(KEYS)
    assert where.holds(row) == says(condition, row)


def kind_of(value: Any) -> int:
    """Numbers, texts, booleans, others; then NaN; then what is missing."""
    if value is None:
        return 5
    if isinstance(value, bool):
        return 2
    if isinstance(value, (int, float)):
        return 4 if value != value else 0
    return 1 if isinstance(value, str) else 3


def compared(one: tuple[str, Any], other: tuple[str, Any], *, sort: list[SortKey]) -> int:
    """Which of two (name, values) comes first, by the definition."""
    for key in sort:
        left, right = one[1][key.column.text], other[1][key.column.text]
        kinds = kind_of(left), kind_of(right)
        if kinds[0] != kinds[1]:
            ascending = max(kinds) >= 4 or not key.descending
            return (kinds[0] - kinds[1]) * (1 if ascending else -1)
        if kinds[0] <= 2 and left != right:
            return (-1 if left < right else 1) * (-1 if key.descending else 1)
    return (one[0] > other[0]) - (one[0] < other[0])


rows = st.lists(st.fixed_dictionaries({key.text: st.none() | scalars for key in KEYS}), max_size=12)
sorts = st.lists(st.builds(SortKey, st.sampled_from(KEYS), st.booleans()), min_size=1, max_size=3)


@settings(max_examples=300)
@given(rows, sorts, st.randoms(use_true_random=False))
def test_rows_are_in_order_and_cursors_keep_their_place(
    several: list[dict[str, Any]], sort: list[SortKey], dice: Any
) -> None:
    named = [(f"p/{number}", row) for number, row in enumerate(several)]
    keys = {name: row_key(ranks(row, sort), name, sort) for name, row in named}
    wanted = sorted(named, key=cmp_to_key(partial(compared, sort=sort)))
    dice.shuffle(named)
    assert sorted((name for name, _ in named), key=keys.__getitem__) == [name for name, _ in wanted]
    for name, row in named:
        opened = open_place(seal_place(Place(ranks(row, sort), name, 1.5), sort), sort)
        assert (row_key(opened.ranks, opened.name, sort), opened.now) == (keys[name], 1.5)

"""The table of runs: columns of any kind, a small language to filter and sort by, pages."""

from tallyboard_server.runtable.cache import ValueCache
from tallyboard_server.runtable.columns import Column
from tallyboard_server.runtable.conditions import Condition, Where, columns_of
from tallyboard_server.runtable.cursor import CursorError
from tallyboard_server.runtable.overview import Overview
from tallyboard_server.runtable.parse import SortKey, parse_columns, parse_filter, parse_sort
from tallyboard_server.runtable.table import Filter, Page, Question, Row, RunsTooManyError, RunTable, StillReadingError
from tallyboard_server.runtable.tokens import ExpressionError

__all__ = [
    "Column",
    "Condition",
    "CursorError",
    "ExpressionError",
    "Filter",
    "Overview",
    "Page",
    "Question",
    "Row",
    "RunTable",
    "RunsTooManyError",
    "SortKey",
    "StillReadingError",
    "ValueCache",
    "Where",
    "columns_of",
    "parse_columns",
    "parse_filter",
    "parse_sort",
]

"""Finding runs: what GET /runs is asked, turned into a question to the table of runs, and its answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from tallyboard_server.api.answers import json_value
from tallyboard_server.api.messages import RunPage, RunTablePage, ShownStatus
from tallyboard_server.api.problems import InvalidQueryError
from tallyboard_server.api.service import Service
from tallyboard_server.api.views import run_row
from tallyboard_server.runtable import (
    Column,
    CursorError,
    ExpressionError,
    Filter,
    Question,
    Row,
    RunTable,
    Where,
    parse_columns,
    parse_filter,
    parse_sort,
)

LIMIT_MAX: Final = 5_000
"""Most runs in a page."""
NAMES_MAX: Final = 200
"""Most names in one question: they have to fit into a URL."""

_TEXT_COLUMNS: Final = (Column("name"), Column("display_name"), Column("notes"))
_STATUS: Final = Column("status")
_GROUP: Final = Column("group")
_ARCHIVED: Final = Column("archived")

Encode = Callable[[Any], bytes]
_T = TypeVar("_T")


@dataclass(slots=True, frozen=True)
class RunFilter:
    """What a run must be like by the single parameters; None and () ask for nothing."""

    status: ShownStatus | None = None
    text: str | None = None
    group: str | None = None
    archived: bool | None = None
    config: tuple[tuple[Column, str], ...] = ()

    @property
    def columns(self) -> Sequence[Column]:
        """See runtable.Filter."""
        found = [column for column, _ in self.config]
        found += [_STATUS] * (self.status is not None) + [_GROUP] * (self.group is not None)
        found += [_ARCHIVED] * (self.archived is not None)
        return (*found, *(_TEXT_COLUMNS if self.text is not None else ()))

    def holds(self, values: Mapping[str, Any]) -> bool:
        """See runtable.Filter."""
        if self.status is not None and values[_STATUS.text] != self.status:
            return False
        if self.group is not None and values[_GROUP.text] != self.group:
            return False
        if self.archived is not None and values[_ARCHIVED.text] != self.archived:
            return False
        if self.text is not None:
            text = self.text.casefold()
            if not any(text in (values[column.text] or "").casefold() for column in _TEXT_COLUMNS):
                return False
        return all(_says(values[column.text], wanted) for column, wanted in self.config)


@dataclass(slots=True, frozen=True)
class Asked:
    """The parameters of GET /runs as they were sent, but for prefix: what the runs' names begin with."""

    prefix: str
    names: tuple[str, ...]
    single: RunFilter
    filter: str | None
    columns: str | None
    sort: str | None
    limit: int
    cursor: str | None


def find_runs(service: Service, asked: Asked, encode: Encode) -> RunPage | RunTablePage:
    """One page of the runs that are asked for; `encode` makes each row as the whole answer will be encoded.

    Raises InvalidQueryError, RunsTooManyError, StillReadingError.
    """
    filters: list[Filter] = [asked.single]
    if asked.filter is not None:
        filters.append(Where(_parsed("filter", parse_filter, asked.filter)))
    named = [] if asked.columns is None else _parsed("columns", parse_columns, asked.columns)
    columns = [column for _, column in named]

    def cells(row: Row) -> bytes:
        return encode([json_value(row.values[column.text]) for column in columns])

    def brief(row: Row) -> bytes | None:
        with service.store.snapshot() as view:
            state = view.load_by_id(row.run_id)
        return None if state is None else encode(run_row(state, service.liveness(state)))

    question = Question(
        columns=columns,
        make=brief if asked.columns is None else cells,
        limit=asked.limit,
        prefix=asked.prefix,
        names=asked.names or None,
        filters=filters,
        sort=[] if asked.sort is None else _parsed("sort", parse_sort, asked.sort),
        cursor=asked.cursor,
    )
    try:
        page = RunTable(service.store, service.known_values, service.liveness, service.clock).page(question)
    except CursorError as error:
        raise InvalidQueryError(str(error), field="cursor") from error
    rows = [msgspec.Raw(row) for row in page.rows]
    if asked.columns is None:
        return RunPage(runs=rows, cursor=page.cursor)
    return RunTablePage(columns=[text for text, _ in named], rows=rows, cursor=page.cursor)


def config_filter(key: str, text: str) -> tuple[Column, str]:
    """A parameter `config.<key>=<text>` as RunFilter has it."""
    return Column("config", tuple(key.split("."))), text


def _parsed(field: str, parse: Callable[[str], _T], source: str) -> _T:
    try:
        return parse(source)
    except ExpressionError as error:
        raise InvalidQueryError(str(error), field=field, position=error.position) from error


def _says(value: Any, wanted: str) -> bool:
    """Whether a value of the config is so, as JSON or as text; one that is missing is null."""
    return value == wanted if isinstance(value, str) else _same_json(value, wanted)


def _same_json(value: Any, text: str) -> bool:
    try:
        wanted = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return isinstance(value, bool) == isinstance(wanted, bool) and bool(value == wanted)

"""`tallyboard runs`: the runs of a service, or a table of what is known of them."""

import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.markup import escape

from tallyboard_server.api.messages import RunRow, RunTablePage
from tallyboard_server.cli.http import Service, service_from
from tallyboard_server.cli.output import ago, stderr, stdout, table, timestamp

_PAGE: Final = 1_000
_TIMES: Final = ("created_at", "updated_at", "last_seen")
_SPANS: Final = ("age", "idle")


def runs(
    pattern: Annotated[str, typer.Argument(help="Only runs whose name matches, as in a shell: 'mnist/*'.")] = "*",
    columns: Annotated[
        str | None, typer.Option(help="Show these: 'config.lr,last.loss,at_min(test/acc, val/loss)'.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--filter", help="Only runs of which this holds: 'config.lr < 0.01'.")
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Columns to order by, - descends: '-last.loss,name'.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most that many runs.")] = 200,
) -> None:
    """List the runs of the service. Columns, filter and sort: see docs/filters.md."""
    service = service_from()
    query = {"filter": where, "sort": sort}
    asked = {name: text for name, text in query.items() if text is not None}
    if columns is None:
        found = (row for row in service.runs(**asked) if fnmatchcase(row.run, pattern))
        shown = _brief(islice(found, limit + 1), limit)
    else:
        shown = _table(service, pattern, columns, asked, limit)
    if shown == 0:
        narrowed = [f"matches {pattern!r}"] if pattern != "*" else []
        narrowed += [f"passes {where!r}"] if where is not None else []
        stderr.print(f"no run {' and '.join(narrowed)}" if narrowed else "no runs yet", markup=False)
    elif shown > limit:
        stderr.print(f"… and more; --limit {limit} reached")


def _brief(rows: Iterator[RunRow], limit: int) -> int:
    """Print the usual columns; returns how many rows there were."""
    made = table("run", "status", "counters", "last seen", wrap=("counters",))
    now = time.time()
    number = 0
    for number, row in enumerate(rows, 1):
        if number <= limit:
            made.add_row(escape(row.run), row.status, escape(_counters(row)), f"{ago(now - row.last_seen)} ago")
    if number:
        stdout.print(made)
    return number


def _table(service: Service, pattern: str, columns: str, asked: dict[str, str], limit: int) -> int:
    """Print the columns asked for, behind the run's name; returns how many rows there were."""
    number = 0
    made = table()
    names: list[str] = []
    for page in _pages(service, f"name, {columns}", asked):
        if not names:
            names = page.columns[1:]
            made = table("run", *map(escape, names), right=tuple(map(escape, names)))
        for row in page.rows:
            run, *values = msgspec.json.decode(row, type=list[Any])
            if not fnmatchcase(run, pattern):
                continue
            number += 1
            if number > limit:
                break
            made.add_row(escape(run), *(escape(_cell(*cell)) for cell in zip(names, values, strict=True)))
        if number > limit:
            break
    if number:
        stdout.print(made)
    return number


def _pages(service: Service, columns: str, asked: dict[str, str]) -> Iterator[RunTablePage]:
    """All pages of a table."""
    cursor: str | None = None
    while True:
        page = service.get("/runs", RunTablePage, columns=columns, cursor=cursor, limit=_PAGE, **asked)
        yield page
        if (cursor := page.cursor) is None:
            return


def _cell(column: str, value: Any) -> str:
    """A value for people: times as dates, spans as spans, numbers to six digits, nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float) and column in _TIMES:
        return timestamp(value)
    if isinstance(value, float) and column in _SPANS:
        return ago(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _counters(row: RunRow) -> str:
    return "  ".join(
        f"{name} {'–' if c.last_step is None else format(c.last_step, ',')}" + (f"/{c.total:,}" if c.total else "")
        for name, c in row.counters.items()
    )

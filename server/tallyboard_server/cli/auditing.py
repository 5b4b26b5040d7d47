"""`tallyboard audit`: who did what to which run, and when."""

from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
import typer
from rich.markup import escape

from tallyboard_server.api.messages import AuditItem, AuditPage
from tallyboard_server.cli.http import service_from
from tallyboard_server.cli.output import printable, stderr, stdout, table, timestamp

_PAGE_MAX: Final = 1_000


def audit(
    run: Annotated[str | None, typer.Argument(help="Only what was done to this run.")] = None,
    project: Annotated[str | None, typer.Option(help="Only what was done to this project's runs.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this: run.create, run.rewind, run.delete, …")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line.")] = False,
) -> None:
    """Show who did what, the newest first. Needs a token that may administer. See docs/audit.md."""
    entries = _entries(limit, run=run, project=project, action=action)
    if as_json:
        for entry in entries:
            stdout.print(msgspec.json.encode(entry).decode(), markup=False)
        return
    shown = table("time", "who", "from", "action", "run", "detail", wrap=("run", "detail"))
    for entry in entries:
        cells = (entry.actor, entry.address, entry.action, entry.run or "", _detail(entry))
        shown.add_row(timestamp(entry.at), *(escape(printable(cell)) for cell in cells))
    if shown.row_count:
        stdout.print(shown)
    else:
        stderr.print("the audit has no such entry", markup=False)


def _entries(limit: int, **query: str | None) -> Iterator[AuditItem]:
    """At most `limit` entries, page after page."""
    service = service_from()
    before: int | None = None
    while limit > 0:
        page = service.get("/audit", AuditPage, before=before, limit=min(limit, _PAGE_MAX), **query)
        yield from page.entries
        limit -= len(page.entries)
        if (before := page.before) is None:
            return


def _detail(entry: AuditItem) -> str:
    return "  ".join(
        f"{name} {value if isinstance(value, str) else msgspec.json.encode(value).decode()}"
        for name, value in entry.detail.items()
    )

"""`tallyboard counters`, `tail` and `alerts`: what a run holds, in a terminal."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Final, NamedTuple

import typer

from tallyboard.wire import CounterValue, implicit_counter
from tallyboard.wire.limits import ALERTS_KEPT_PER_RUN_MAX, STEP_MAX
from tallyboard_server.api.messages import AlertItem, AlertsPage, AttemptView, CounterView, RunView
from tallyboard_server.cli.http import Curve, Service, run_path, service_from
from tallyboard_server.cli.output import Exit, count, fail, printable, stderr, stdout, table, timestamp

_FOLLOW_S: Final = 1.0
"""Seconds between two looks of `tail --follow`."""
_TAG_WIDTH_MAX: Final = 48
"""A longer tag pushes its own value aside, not everybody's."""


def counters(run: Annotated[str, typer.Argument(help="The run's name: project/name.")]) -> None:
    """Show a run's step counters: values, tags, attempts and who writes them."""
    view = service_from().get(run_path("/runs", run), RunView)
    columns = ("counter", "value", "of", "scalars", "attempt", "writer", "tags")
    shown = table(*columns, right=columns[1:5], wrap=("writer", "tags"))
    for name, counter in view.counters.items():
        shown.add_row(
            name,
            "–" if counter.last_step is None else f"{counter.last_step:,}",
            "" if counter.total is None else f"{counter.total:,}",
            f"{sum(attempt.scalars for attempt in counter.attempts):,}",
            str(counter.attempt),
            writer(counter.attempts[-1]) if counter.attempts else "",
            _tags(counter),
        )
    if view.counters:
        stdout.print(shown)
    else:
        stderr.print(f"{run} has no counter yet: nothing was reported", markup=False)
    for name, counter in view.counters.items():
        if counter.stalled:
            stderr.print(f"{stalled(name, counter)}; is it being incremented?", markup=False)


def tail(
    run: Annotated[str, typer.Argument(help="The run's name: project/name.")],
    tag: Annotated[list[str] | None, typer.Option(help="Only these tags (may be given several times).")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, max=10_000, help="Points per tag to begin with.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """Print a run's newest points: time, counter, step, tag, value."""
    service = service_from()
    view = service.get(run_path("/runs", run), RunView)
    known = dict(_scalar_tags(view))
    if unknown := set(tag or ()) - known.keys():
        fail(
            f"{run} has no tag {', '.join(sorted(unknown))}; it has {', '.join(sorted(known)) or 'none yet'}",
            Exit.NOT_FOUND,
        )
    seen: dict[str, int] = {}
    widths = _widths(view, tag)
    for name, counter in known.items():
        if not tag or name in tag:
            seen[name] = _print_last(service, run, name, counter, lines, widths)
    with suppress(KeyboardInterrupt):
        while follow:
            time.sleep(_FOLLOW_S)
            _print_news(service, run, tag, seen)


def alerts(
    run: Annotated[str, typer.Argument(help="The run's name: project/name.")],
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=ALERTS_KEPT_PER_RUN_MAX, help="At most so many, the newest.")
    ] = 20,
) -> None:
    """Show what a run's job had to say, the newest first: time, level, title, counters, text."""
    page = service_from().get(run_path("/alerts", run), AlertsPage, limit=limit)
    for alert in page.alerts:
        _print_alert(alert)
    if not page.alerts:
        stderr.print(f"{run} has raised no alert", markup=False)


def stalled(name: str, counter: CounterView) -> str:
    """What is to be said of a counter that stalls."""
    attempt = counter.attempts[-1]
    return (
        f"{name} is stalled at {attempt.last_step:,}: {count(attempt.unmoved, 'report')} in a row brought nothing new"
    )


def writer(attempt: AttemptView) -> str:
    """Who writes an attempt, as far as known: user@host pid, or the producer's id."""
    if attempt.host is None:
        return attempt.writer
    who = f"{attempt.user}@{attempt.host}" if attempt.user else attempt.host
    return who if attempt.pid is None else f"{who} pid {attempt.pid}"


def _tags(counter: CounterView) -> str:
    shown = ", ".join(counter.tags[:4])
    return shown if len(counter.tags) <= 4 else f"{shown}, … ({count(len(counter.tags), 'tag')})"


def _print_alert(alert: AlertItem) -> None:
    place = ", ".join(f"{name} {step:,}" for name, step in alert.at.items())
    head = f"{timestamp(alert.wall_time)}  {alert.level:<5}  {printable(alert.title)}"
    stdout.print(f"{head}  ({place})" if place else head, markup=False)
    for line in alert.text.splitlines():
        stdout.print(f"    {printable(line.expandtabs())}", markup=False)


class _Widths(NamedTuple):
    """Of `tail`'s columns, in characters."""

    counter: int
    step: int
    tag: int


def _widths(view: RunView, tags: list[str] | None) -> _Widths:
    """Wide enough for what is shown of a run, so that its columns stand under each other."""
    shown = [(tag, counter) for tag, counter in _scalar_tags(view) if not tags or tag in tags]
    places = {tag: name for name, counter in view.counters.items() for tag in counter.tags}
    names = max((len(places.get(tag, implicit_counter(tag))) for tag, _ in shown), default=0)
    steps = max((len(str(counter.last_step or 0)) for _, counter in shown), default=0)
    return _Widths(names, steps, min(max((len(tag) for tag, _ in shown), default=0), _TAG_WIDTH_MAX))


def _scalar_tags(view: RunView) -> Iterator[tuple[str, CounterView | CounterValue]]:
    """The tags whose points are numbers, each with its counter."""
    for counter in view.counters.values():
        yield from ((tag, counter) for tag in counter.tags if tag not in view.kinds)
    yield from ((tag, value) for tag, value in view.tag_counters.items() if tag not in view.kinds)


def _print_last(
    service: Service, run: str, tag: str, counter: CounterView | CounterValue, lines: int, widths: _Widths
) -> int:
    """Print the last points of a tag; its last step, -1 if it has none.

    Steps may lie far apart: the window back from the end is widened until it holds enough of them.
    """
    last = counter.last_step or 0
    width = lines
    while True:
        first = max(0, last - width + 1)
        curve = service.points(run, tag, first)
        if first == 0 or (curve is not None and len(curve.points.step) >= lines):
            break
        width *= 4
    return -1 if curve is None else _print(tag, curve, widths, lines)


def _print_news(service: Service, run: str, tags: list[str] | None, seen: dict[str, int]) -> None:
    view = service.get(run_path("/runs", run), RunView)
    widths = _widths(view, tags)
    for tag, counter in _scalar_tags(view):
        if tags and tag not in tags:
            continue
        after = seen.get(tag, -1)
        if counter.last_step is not None and counter.last_step < after:
            stderr.print(f"{tag} was rewound to {counter.last_step}", markup=False)
            after = counter.last_step
        curve = service.points(run, tag, after + 1) if after < STEP_MAX else None
        seen[tag] = max(after, -1 if curve is None else _print(tag, curve, widths))


def _print(tag: str, curve: Curve, widths: _Widths, lines: int | None = None) -> int:
    """Print points, the last `lines` of them; returns the last step, -1 if there are none."""
    points = curve.points
    rows = list(zip(points.step, points.wall_time, points.value, strict=True))
    for step, wall_time, value in rows[-lines:] if lines else rows:
        place = f"{curve.counter:<{widths.counter}} {step:>{widths.step}}  {tag:<{widths.tag}}"
        stdout.print(f"{timestamp(wall_time)}  {place}  {float(value):.6g}", markup=False)
    return rows[-1][0] if rows else -1
